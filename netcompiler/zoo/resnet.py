"""ResNet-18 to -152 for ImageNet, and the plain nets beside them that have no shortcuts.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv 1512.03385): table 1 for
the sizes, section 3.4 for the training. Names, the place of the stride and conv1's bias are those of the authors'
published models (github.com/KaimingHe/deep-residual-networks), so that their weights load by name.

Where a block changes the size, its shortcut does one of these (section 4.1):
A: takes every other pixel, by a pooling of 1 x 1 with stride 2, and adds channels of zeros. The zeros are the
shortcut times 0 (a Power layer), as many copies as the channels need, concatenated to it: unlike DummyData they
follow any batch and image size. Nothing is learned. B: projects by a 1 x 1 convolution. The published nets. C:
projects in every block.
"""

from __future__ import annotations

from string import ascii_lowercase
from typing import Unpack

from ..errors import NetError
from ..spec import Top
from ..text import Msg
from .parts import MSRA, Classifier, Net, Pictures, Sources, solving

BLOCKS = {  # depth -> residual blocks of stages 2 to 5
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BASIC = (18, 34)  # depths whose blocks are two 3 x 3 convolutions; those of the others are 1 x 1, 3 x 3, 1 x 1
SHORTCUTS = ("A", "B", "C")
CROP = 224  # pixels on a side
TRAIN_BATCH, ITER_SIZE = 32, 8  # 8 x 32 = 256 images to a step; the paper's 8 GPUs normalised over 32 images each
VAL_BATCH, VAL_IMAGES = 50, 50_000
PICTURES = Pictures(crop=CROP, train_batch=TRAIN_BATCH, val_batch=VAL_BATCH)


def deploy(depth: int = 50, classes: int = 1000, *, shortcut: str = "B", plain: bool = False) -> Msg:
    """The net that classifies: data 1 x 3 x 224 x 224 (B, G, R, mean subtracted) to prob 1 x classes.

    shortcut: A, B or C.  plain: without shortcuts; 18 or 34 layers. Layers keep the names that they have in the
    residual net. Raises: NetError for a depth other than 18, 34, 50, 101 and 152.

    >>> [layer.name for layer in deploy(101).layer][-5:]
    ['res5c', 'res5c_relu', 'pool5', 'fc1000', 'prob']
    """
    net = ResNet(depth, shortcut, plain, train=False)
    return net.deployed(CROP, classes)


def train_val(
    depth: int = 50, classes: int = 1000, *, shortcut: str = "B", plain: bool = False, **sources: Unpack[Sources]
) -> Msg:
    """The net that trains (TRAIN: loss) and is validated (TEST: loss, accuracy of the first and of the first five).

    Sources are LMDBs of images whose shorter side is 256. Batch normalisation uses the batch's own statistics in TRAIN
    and the running ones in TEST, as the phase says. Raises: NetError as `deploy` does.
    """
    return ResNet(depth, shortcut, plain, train=True).trained(PICTURES, classes, **sources)


def solver(depth: int = 50, *, plain: bool = False, net: str = "") -> Msg:
    """The paper's training: SGD, 256 images to a step, rate 0.1 divided by 10 at 150,000 and 300,000 of 600,000 steps.

    net: path of the train_val prototxt; unset, that of `model_zoo/`. Raises: NetError as `deploy` does.
    Source: section 3.4 (momentum 0.9, weight decay 0.0001, rate 0.1, up to 60 x 10^4 iterations). The paper divides the
    rate when the error stops falling; its figure 4 shows that near 15 x 10^4 and 30 x 10^4 iterations, which is after
    30 and 60 passes over ImageNet.
    """
    _blocks(depth, plain)
    return solving(
        _name(depth, plain),
        net,
        test_iter=VAL_IMAGES // VAL_BATCH,
        base_lr=0.1,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=[150_000, 300_000],
        max_iter=600_000,
        weight_decay=1e-4,
        iter_size=ITER_SIZE,
    )


def padded(net: Net, x: Top, name: str, times: int, stride: int) -> Top:
    """Option A: every stride-th pixel of x, and zeros for the channels that a shortcut of `times` as many lacks."""
    if stride > 1:
        x = net.pool(x, f"{name}_pool", 1, stride, round_mode="FLOOR")  # rounded as a convolution is
    if times == 1:
        return x
    zeros = net.Power(x, name=f"{name}_zeros", scale=0)
    top: Top = net.Concat(x, *[zeros] * (times - 1), name=f"{name}_pad")
    return top


def check_shortcut(shortcut: str) -> str:
    """Raises: NetError for what is no option."""
    if shortcut not in SHORTCUTS:
        raise NetError("no such shortcut", expected=", ".join(SHORTCUTS), got=shortcut)
    return shortcut


def _name(depth: int, plain: bool) -> str:
    return f"{'Plain' if plain else 'ResNet'}-{depth}"


def _blocks(depth: int, plain: bool) -> tuple[int, ...]:
    known = BASIC if plain else tuple(BLOCKS)
    if depth not in known:
        what = (
            "no plain net of this depth was published" if plain else "no ResNet of this depth was published for Caffe"
        )
        raise NetError(what, expected="one of " + ", ".join(map(str, known)), got=depth)
    return BLOCKS[depth]


class ResNet(Classifier):
    """A NetSpec that knows the residual net's parts."""

    filler = MSRA

    def __init__(self, depth: int, shortcut: str = "B", plain: bool = False, *, train: bool, name: str = "") -> None:
        self.blocks = _blocks(depth, plain)
        self.shortcut, self.plain = check_shortcut(shortcut), plain
        super().__init__(name or _name(depth, plain), train=train)
        self.depth = depth

    def scores(self, data: Top, classes: int) -> Top:
        """conv1, the four stages, pooling and fc: data N x 3 x 224 x 224 to N x classes."""
        x = self.pool(self.start(data), "pool1", 3, 2)
        for stage in range(2, 6):
            x = self.stage(x, stage)
        x = self.pool(x, "pool5", 7, kind="AVE")
        return self.fc(x, f"fc{classes}", classes)

    def start(self, data: Top) -> Top:
        x = self.unit(data, "conv1", "_conv1", 64, kernel=7, stride=2, bias=self.depth == 50)
        return self.relu(x, "conv1_relu")

    def stage(self, x: Top, stage: int) -> Top:
        """res2, res3, res4 or res5."""
        count = self.blocks[stage - 2]
        for index in range(count):
            x = self.block(x, f"{stage}{self.letter(index, count)}", 64 << (stage - 2), first=index == 0)
        return x

    def letter(self, index: int, count: int) -> str:
        """The name of a block in its stage: a, b, c, ...; a, b1, b2, ... in the long stages of the deeper nets."""
        if self.depth <= 50 or count == 3 or index == 0:
            return ascii_lowercase[index]
        return f"b{index}"

    def block(self, x: Top, name: str, width: int, first: bool) -> Top:
        """x + F(x), F of 3x3 and 3x3, or of 1x1, 3x3 and 1x1 convolutions.

        From stage 3 on, the first block of a stage halves height and width. Bottlenecks make four times their width.
        """
        stride = 2 if first and width > 64 else 1
        basic = self.depth in BASIC
        out = width if basic else 4 * width
        times = (2 if stride == 2 else 1 if basic else 4) if first else 1  # as many channels come out as go in
        short = x if self.plain else self.short(x, name, out, times, stride)
        y = x
        for part, size, kernel in (("a", width, 3),) if basic else (("a", width, 1), ("b", width, 3)):
            y = self.branch(y, name, f"branch2{part}", size, kernel, stride if part == "a" else 1)
            y = self.relu(y, f"res{name}_branch2{part}_relu")
        last = "branch2b" if basic else "branch2c"
        y = self.branch(y, name, last, out, 3 if basic else 1)
        if self.plain:
            return self.relu(y, f"res{name}_{last}_relu")
        y = self.Eltwise(short, y, name=f"res{name}")
        return self.relu(y, f"res{name}_relu")

    def short(self, x: Top, name: str, out: int, times: int, stride: int) -> Top:
        if self.shortcut == "C" or (self.shortcut == "B" and times * stride > 1):
            return self.branch(x, name, "branch1", out, stride=stride)
        return padded(self, x, f"res{name}_branch1", times, stride)

    def branch(self, x: Top, block: str, branch: str, num_output: int, kernel: int = 1, stride: int = 1) -> Top:
        return self.unit(x, f"res{block}_{branch}", f"{block}_{branch}", num_output, kernel, stride)

    def unit(
        self, x: Top, name: str, suffix: str, num_output: int, kernel: int, stride: int, bias: bool = False
    ) -> Top:
        """Convolution that keeps the size (but for the stride), batch normalisation, scale."""
        x = self.conv(x, name, num_output, kernel, stride, bias=bias)
        return self.norm(x, f"bn{suffix}", f"scale{suffix}")
