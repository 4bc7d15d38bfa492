"""Pre-activation residual nets (ResNet v2), and the wide ones: for CIFAR-10 and for ImageNet.

Source: He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016 (arXiv 1603.05027): batch
normalisation and ReLU stand before the convolutions, and nothing after the sum; the appendix for the first and the
last unit. Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016 (arXiv 1605.07146): section 2, WRN-d-k, with
blocks of two 3 x 3 convolutions, k times as wide. Names are those of the nets that were brought to Caffe by
github.com/soeaver/caffe-model (with its "eletwise").
"""

from __future__ import annotations

from typing import Any, Unpack

from ..errors import NetError
from ..spec import Top
from ..text import Msg
from .cifar import RATES
from .parts import MSRA, Classifier, Pictures, Sources, cifar, solving
from .resnet import check_shortcut, padded

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}  # for ImageNet
DEPTHS = (110, 164, 1001)  # of the paper, for CIFAR; any 6n + 2 (two convolutions to a block) or 9n + 2 (three) will do
CROP, SIDE = 224, 32
PICTURES = Pictures(crop=CROP)


def deploy(
    depth: int = 164,
    classes: int = 0,
    *,
    wide: int = 0,
    bottleneck: bool | None = None,
    shortcut: str = "",
    width: int = 0,
) -> Msg:
    """data 1 x 3 x 32 x 32 (R, G, B; 50, 101, 152 and 200 layers: 1 x 3 x 224 x 224, B, G, R) to prob.

    classes: 0 for 10 on CIFAR, 1000 on ImageNet.
    wide: how many times wider than usual, 6n + 4 layers; 0 for the paper on identity mappings.
    bottleneck: three convolutions to a block; unset, from 164 layers on.
    shortcut: A, B or C, where the size changes; unset, A with two convolutions to a block, else B.
    width: channels of the first stage, before `wide`; 0 for 16 on CIFAR, 64 on ImageNet.
    """
    net = _Net(depth, wide, bottleneck, shortcut, width, train=False)
    return net.deployed(CROP if net.large else SIDE, classes or net.classes)


def train_val(
    depth: int = 164,
    classes: int = 0,
    *,
    wide: int = 0,
    bottleneck: bool | None = None,
    shortcut: str = "",
    width: int = 0,
    **sources: Unpack[Sources],
) -> Msg:
    """The net that trains; as in `deploy`."""
    net = _Net(depth, wide, bottleneck, shortcut, width, train=True)
    return net.trained(PICTURES if net.large else cifar(), classes or net.classes, top5=net.large, **sources)


def solver(depth: int = 164, *, wide: int = 0, net: str = "") -> Msg:
    """CIFAR: SGD as in the first paper. Wide nets: Nesterov, rate 0.1 times 0.2 after 60, 120 and 160 of 200 passes.

    ImageNet: SGD, 256 pictures to a step (8 x 32), rate 0.1 divided by 10 after 30 and 60 of 90 passes.
    The paper starts CIFAR's nets at 0.01 for the first 400 steps.
    """
    made = _Net(depth, wide, None, "", 0, train=False)
    settings: dict[str, Any] = dict(RATES)
    if wide:
        settings |= {"type": "Nesterov", "gamma": 0.2, "stepvalue": [23_460, 46_920, 62_560], "max_iter": 78_200}
        settings["weight_decay"] = 5e-4
    elif made.large:
        settings |= {"stepvalue": [150_000, 300_000], "max_iter": 450_000, "iter_size": 8}
        settings |= {"test_iter": 1000, "test_interval": 5000}
    return solving(made.title, net, **settings)


class _Net(Classifier):
    filler = MSRA

    def __init__(
        self, depth: int, wide: int, bottleneck: bool | None, shortcut: str, width: int, *, train: bool
    ) -> None:
        self.large = depth in BLOCKS and not wide
        self.three = self.large or (depth >= 164 and not wide if bottleneck is None else bottleneck)
        self.shortcut = check_shortcut(shortcut or ("B" if self.three or wide else "A"))
        self.classes = 1000 if self.large else 10
        self.width, self.factor = width or (64 if self.large else 16), wide or 1
        if width < 0:
            raise NetError("no net is so narrow", expected="at least 1 channel", got=width)
        self.counts = BLOCKS[depth] if self.large else self.counted(depth, wide)
        self.title = f"WRN-{depth}-{wide}" if wide else f"{'' if self.large else 'CIFAR-'}PreResNet-{depth}"
        super().__init__(self.title, train=train)

    def counted(self, depth: int, wide: int) -> tuple[int, ...]:
        """Blocks of each of the three stages on CIFAR."""
        layers, rest = (9 if self.three else 6), (4 if wide else 2)
        if depth <= rest or (depth - rest) % layers or wide < 0:
            expected = f"{layers}n + {rest}" + ("" if wide else ", such as 164" if self.three else ", such as 110")
            raise NetError("no pre-activation net has this depth", expected=expected, got=depth)
        return ((depth - rest) // layers,) * 3

    def scores(self, data: Top, classes: int) -> Top:
        x = self.conv(data, "conv1", self.width, *((7, 2) if self.large else (3, 1)), bias=False)
        x = self.relu(self.norm(x, "conv1_bn", "conv1_scale"), "conv1_relu")
        if self.large:
            x = self.pool(x, "pool1", 3, 2)
        number, channels, name = 0, self.width, ""
        for stage, count in enumerate(self.counts):
            for index in range(count):
                number, name = number + 1, f"res{number + 1}"
                inner = (self.width << stage) * self.factor
                out = 4 * inner if self.three else inner
                x = self.block(x, name, inner, out, channels, 2 if stage and not index else 1, number == 1)
                channels = out
        x = self.norm(x, f"{name}_eletwise_bn", f"{name}_eletwise_scale", in_place=False)
        x = self.pool(self.relu(x, f"{name}_eletwise_relu"), "pool5", 0, kind="AVE")
        return self.fc(x, "classifier", classes)

    def block(self, x: Top, name: str, width: int, out: int, channels: int, stride: int, first: bool) -> Top:
        """x + F(relu(norm(x))); a block that changes the size takes its shortcut from behind that ReLU.

        The first block's input has been normalised already.
        """
        active = x if first else self.active(x, name, in_place=False)
        match = self.shortcut == "C" or (self.shortcut == "B" and (out != channels or stride > 1))
        y = active
        if self.three:
            y = self.active(self.conv(y, f"{name}_conv1", width, bias=False), f"{name}_conv1")
            y = self.active(self.conv(y, f"{name}_conv2", width, 3, stride, bias=False), f"{name}_conv2")
            y = self.conv(y, f"{name}_conv3", out, bias=False)
        else:
            y = self.active(self.conv(y, f"{name}_conv1", width, 3, stride, bias=False), f"{name}_conv1")
            y = self.conv(y, f"{name}_conv2", out, 3, bias=False)
        if match:
            short = self.conv(active, f"{name}_match_conv", out, 1, stride, bias=False)
        else:
            if out % channels:
                raise NetError("zeros cannot pad this shortcut", expected="B or C", got=self.shortcut)
            short = padded(self, x, f"{name}_match", out // channels, stride)
        top: Top = self.Eltwise(short, y, name=f"{name}_eletwise")
        return top

    def active(self, x: Top, name: str, in_place: bool = True) -> Top:
        return self.relu(self.norm(x, f"{name}_bn", f"{name}_scale", in_place=in_place), f"{name}_relu")
