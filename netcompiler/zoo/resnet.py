"""ResNet-50, -101 and -152: deep residual nets for ImageNet.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv 1512.03385): table 1 for
the sizes, section 3.4 for the training. Names, the place of the stride and conv1's bias are those of the authors'
published models (github.com/KaimingHe/deep-residual-networks), so that their weights load by name.
"""

from __future__ import annotations

from string import ascii_lowercase

from ..errors import NetError
from ..fields import message
from ..spec import NetSpec, Top
from ..text import Msg

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # depth -> residual blocks of stages 2 to 5
CROP = 224  # pixels on a side
MEAN_BGR = (104, 117, 123)  # ImageNet's mean colour, 0 to 255
TRAIN_BATCH, ITER_SIZE = 32, 8  # 8 x 32 = 256 images to a step; the paper's 8 GPUs normalised over 32 images each
VAL_BATCH, VAL_IMAGES = 50, 50_000


def deploy(depth: int = 50, classes: int = 1000) -> Msg:
    """The net that classifies: data 1 x 3 x 224 x 224 (B, G, R, mean subtracted) to prob 1 x classes.

    Raises: NetError for a depth other than 50, 101 and 152.

    >>> [layer.name for layer in deploy(101).layer][-5:]
    ['res5c', 'res5c_relu', 'pool5', 'fc1000', 'prob']
    """
    net = _Net(depth, train=False)
    data = net.Input(name="input", top="data", shape={"dim": [1, 3, CROP, CROP]})
    scores = net.scores(data, classes)
    net.Softmax(scores, name="prob")
    return net.message()


def train_val(
    depth: int = 50,
    classes: int = 1000,
    *,
    train_source: str = "examples/imagenet/ilsvrc12_train_lmdb",
    val_source: str = "examples/imagenet/ilsvrc12_val_lmdb",
    train_batch: int = TRAIN_BATCH,
    val_batch: int = VAL_BATCH,
) -> Msg:
    """The net that trains (TRAIN: loss) and is validated (TEST: loss, accuracy of the first and of the first five).

    Sources are LMDBs of images whose shorter side is 256. Batch normalisation uses the batch's own statistics in TRAIN
    and the running ones in TEST, as the phase says. Raises: NetError as `deploy` does.
    """
    net = _Net(depth, train=True)
    for phase, source, batch in (("TRAIN", train_source, train_batch), ("TEST", val_source, val_batch)):
        data, label = net.Data(
            name="data",
            top=("data", "label"),
            include={"phase": phase},
            transform_param={"mirror": phase == "TRAIN", "crop_size": CROP, "mean_value": MEAN_BGR},
            data_param={"source": source, "batch_size": batch, "backend": "LMDB"},
        )
    scores = net.scores(data, classes)
    net.SoftmaxWithLoss(scores, label, name="loss")
    net.Accuracy(scores, label, name="top1", include={"phase": "TEST"})
    net.Accuracy(scores, label, name="top5", top_k=5, include={"phase": "TEST"})
    return net.message()


def solver(depth: int = 50, *, net: str = "") -> Msg:
    """The paper's training: SGD, 256 images to a step, rate 0.1 divided by 10 at 150,000 and 300,000 of 600,000 steps.

    net: path of the train_val prototxt; unset, that of `model_zoo/`. Raises: NetError as `deploy` does.
    Source: section 3.4 (momentum 0.9, weight decay 0.0001, rate 0.1, up to 60 x 10^4 iterations). The paper divides the
    rate when the error stops falling; its figure 4 shows that near 15 x 10^4 and 30 x 10^4 iterations, which is after
    30 and 60 passes over ImageNet.
    """
    _blocks(depth)
    return message(
        "SolverParameter",
        net=net or f"model_zoo/ResNet-{depth}-train_val.prototxt",
        test_iter=VAL_IMAGES // VAL_BATCH,
        test_interval=5000,
        test_initialization=False,
        base_lr=0.1,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=[150_000, 300_000],
        max_iter=600_000,
        momentum=0.9,
        weight_decay=1e-4,
        iter_size=ITER_SIZE,
        display=100,
        average_loss=100,
        snapshot=10_000,
        snapshot_prefix=f"ResNet-{depth}",
    )


def _blocks(depth: int) -> tuple[int, ...]:
    if depth not in BLOCKS:
        known = ", ".join(map(str, BLOCKS))
        raise NetError("no ResNet of this depth was published for Caffe", expected=f"one of {known}", got=depth)
    return BLOCKS[depth]


class _Net(NetSpec):
    """A NetSpec that knows the residual net's parts."""

    def __init__(self, depth: int, train: bool) -> None:
        self.blocks = _blocks(depth)
        super().__init__(f"ResNet-{depth}")
        self.depth = depth
        self.filler = {"type": "msra"} if train else None
        self.global_stats = None if train else True  # unset: the phase decides

    def scores(self, data: Top, classes: int) -> Top:
        """conv1, the four stages, pooling and fc: data N x 3 x 224 x 224 to N x classes."""
        x = self.unit(data, "conv1", "_conv1", 64, kernel=7, stride=2, bias=self.depth == 50)
        x = self.ReLU(x, name="conv1_relu", in_place=True)
        x = self.Pooling(x, name="pool1", pool="MAX", kernel_size=3, stride=2)
        for stage, count in enumerate(self.blocks, start=2):
            for index in range(count):
                x = self.block(x, f"{stage}{self.letter(index, count)}", 64 << (stage - 2), first=index == 0)
        x = self.Pooling(x, name="pool5", pool="AVE", kernel_size=7, stride=1)
        top: Top = self.InnerProduct(x, name=f"fc{classes}", num_output=classes, weight_filler=self.filler)
        return top

    def letter(self, index: int, count: int) -> str:
        """The name of a block in its stage: a, b, c, ...; a, b1, b2, ... in the long stages of the deeper nets."""
        if self.depth == 50 or count == 3 or index == 0:
            return ascii_lowercase[index]
        return f"b{index}"

    def block(self, x: Top, name: str, width: int, first: bool) -> Top:
        """x + F(x), F of 1x1, 3x3 and 1x1 convolutions.

        The first block of a stage widens x by a 1x1 convolution; from stage 3 on, it also halves height and width.
        """
        stride = 2 if first and width > 64 else 1
        short = self.branch(x, name, "branch1", 4 * width, stride=stride) if first else x
        y = x
        for part, size, kernel in (("a", width, 1), ("b", width, 3)):
            y = self.branch(y, name, f"branch2{part}", size, kernel, stride if part == "a" else 1)
            y = self.ReLU(y, name=f"res{name}_branch2{part}_relu", in_place=True)
        y = self.branch(y, name, "branch2c", 4 * width)
        y = self.Eltwise(short, y, name=f"res{name}")
        top: Top = self.ReLU(y, name=f"res{name}_relu", in_place=True)
        return top

    def branch(self, x: Top, block: str, branch: str, num_output: int, kernel: int = 1, stride: int = 1) -> Top:
        return self.unit(x, f"res{block}_{branch}", f"{block}_{branch}", num_output, kernel, stride)

    def unit(
        self, x: Top, name: str, suffix: str, num_output: int, kernel: int, stride: int, bias: bool = False
    ) -> Top:
        """Convolution that keeps the size (but for the stride), batch normalisation, scale."""
        x = self.Convolution(
            x,
            name=name,
            num_output=num_output,
            bias_term=None if bias else False,
            pad=kernel // 2 or None,
            kernel_size=kernel,
            stride=stride if stride > 1 else None,
            weight_filler=self.filler,
        )
        x = self.BatchNorm(x, name=f"bn{suffix}", in_place=True, use_global_stats=self.global_stats)
        top: Top = self.Scale(x, name=f"scale{suffix}", in_place=True, bias_term=True)
        return top
