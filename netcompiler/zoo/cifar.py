"""ResNets for CIFAR-10, 6n + 2 layers, and the plain nets beside them: the story of the degradation problem.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv 1512.03385), section 4.2.
Three stages of n blocks of two 3 x 3 convolutions, 16, 32 and 64 channels wide, on 32 x 32, 16 x 16 and 8 x 8 pixels.
The paper's shortcuts are option A (resnet.py tells how), and its convolutions have no bias. Layers are numbered as in
the nets that Jun Yu trained for Caffe (github.com/junyuseu/ResNet-on-Cifar10): their weights load by name with
shortcut="B", bias=True.
"""

from __future__ import annotations

from typing import Unpack

from ..errors import NetError
from ..spec import Top
from ..text import Msg
from .parts import MSRA, TWO_RATES, Classifier, Sources, cifar, solving
from .resnet import check_shortcut, padded

SIDE = 32
DEPTHS = (20, 32, 44, 56, 110, 1202)  # of the paper; any 6n + 2 will do


def deploy(
    depth: int = 20,
    classes: int = 10,
    *,
    shortcut: str = "A",
    plain: bool = False,
    bias: bool = False,
    width: int = 16,
) -> Msg:
    """data 1 x 3 x 32 x 32 (R, G, B, mean subtracted) to prob.

    shortcut: A, B or C.  plain: without shortcuts.  bias: of the convolutions.  width: channels of the first stage.
    """
    return _Net(depth, shortcut, plain, bias, width, train=False).deployed(SIDE, classes)


def train_val(
    depth: int = 20,
    classes: int = 10,
    *,
    shortcut: str = "A",
    plain: bool = False,
    bias: bool = False,
    width: int = 16,
    **sources: Unpack[Sources],
) -> Msg:
    """The net that trains on crops of padded pictures, and is validated on the pictures as they are."""
    net = _Net(depth, shortcut, plain, bias, width, train=True)
    return net.trained(cifar(), classes, top5=False, **sources)


def solver(depth: int = 20, *, plain: bool = False, net: str = "") -> Msg:
    """Section 4.2: SGD, 128 pictures to a step, rate 0.1 divided by 10 at 32,000 and 48,000 of 64,000 steps.

    The paper starts 110 and more layers at 0.01 for the first 400 steps or so; train those with `base_lr: 0.01` first.
    """
    _check(depth)
    return solving(_name(depth, plain), net, **RATES)


RATES = {
    "test_iter": 100,
    "test_interval": 1000,
    "base_lr": 0.1,
    "lr_policy": "multistep",
    "gamma": 0.1,
    "stepvalue": [32_000, 48_000],
    "max_iter": 64_000,
    "weight_decay": 1e-4,
}


def _name(depth: int, plain: bool) -> str:
    return f"CIFAR-{'Plain' if plain else 'ResNet'}-{depth}"


def _check(depth: int) -> int:
    if depth < 8 or depth % 6 != 2:
        known = ", ".join(map(str, DEPTHS))
        raise NetError("no residual net for CIFAR has this depth", expected=f"6n + 2, such as {known}", got=depth)
    return depth // 6


class _Net(Classifier):
    """Layers are named by their type and a count."""

    filler = MSRA

    def __init__(self, depth: int, shortcut: str, plain: bool, bias: bool, width: int, *, train: bool) -> None:
        self.count, self.shortcut = _check(depth), check_shortcut(shortcut)
        if width < 1:
            raise NetError("no net is so narrow", expected="at least 1 channel", got=width)
        super().__init__(_name(depth, plain), train=train)
        self.plain, self.bias, self.width = plain, bias, width
        self.rates = TWO_RATES if bias else ()
        self.made = dict.fromkeys(("unit", "relu", "sum"), 0)

    def scores(self, data: Top, classes: int) -> Top:
        x = self.active(self.unit(data, self.width, 3))
        for stage in range(3):
            for index in range(self.count):
                x = self.block(x, self.width << stage, 2 if stage and not index else 1)
        x = self.pool(x, "Pooling1", 0, kind="AVE")
        return self.fc(x, "InnerProduct1", classes)

    def block(self, x: Top, width: int, stride: int) -> Top:
        short = x
        if not self.plain:
            short = self.short(x, width, stride)
        y = self.unit(self.active(self.unit(x, width, 3, stride)), width, 3)
        if not self.plain:
            y = self.Eltwise(short, y, name=f"Eltwise{self.next('sum')}")
        return self.active(y)

    def short(self, x: Top, width: int, stride: int) -> Top:
        if self.shortcut == "C" or (self.shortcut == "B" and stride > 1):
            return self.unit(x, width, 1, stride)
        return padded(
            self, x, f"Shortcut{self.made['sum'] + 1}", stride, stride
        )  # twice the channels on half the pixels

    def unit(self, x: Top, width: int, kernel: int, stride: int = 1) -> Top:
        i = self.next("unit")
        x = self.conv(x, f"Convolution{i}", width, kernel, stride, bias=self.bias)
        return self.norm(x, f"BatchNorm{i}", f"Scale{i}")

    def active(self, x: Top) -> Top:
        return self.relu(x, f"ReLU{self.next('relu')}")

    def next(self, what: str) -> int:
        self.made[what] += 1
        return self.made[what]
