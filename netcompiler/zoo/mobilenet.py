"""MobileNet v1 and v2: depthwise separable convolutions.

Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017
(arXiv 1704.04861): table 1. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018
(arXiv 1801.04381): table 2. Names are those of the models that were trained for Caffe by
github.com/shicai/MobileNet-Caffe. Its v2 follows an early table: it widens in the first block, too, and goes to 14 x
14 pixels later; `early=True` makes that net, which its weights fit. v2's ReLU6 is a ReLU there, and here.
"""

from __future__ import annotations

from typing import Unpack

from ..errors import NetError
from ..spec import Top
from ..text import Msg
from .parts import MSRA, Classifier, Pictures, Sources, chosen, solving

CROP = 224
PICTURES = Pictures(crop=CROP, mean=(103.94, 116.78, 123.68), scale=0.017)
V1 = {  # block -> channels, stride
    "2_1": (64, 1),
    "2_2": (128, 2),
    "3_1": (128, 1),
    "3_2": (256, 2),
    "4_1": (256, 1),
    "4_2": (512, 2),
    **{f"5_{i}": (512, 1) for i in range(1, 6)},
    "5_6": (1024, 2),
    "6": (1024, 1),
}
V2 = {  # block -> channels, stride
    "2_1": (16, 1),
    "2_2": (24, 2),
    "3_1": (24, 1),
    "3_2": (32, 2),
    **{f"4_{i}": (32, 1) for i in (1, 2)},
    "4_3": (64, 2),
    **{f"4_{i}": (64, 1) for i in (4, 5, 6)},
    "4_7": (96, 1),
    **{f"5_{i}": (96, 1) for i in (1, 2)},
    "5_3": (160, 2),
    **{f"6_{i}": (160, 1) for i in (1, 2)},
    "6_3": (320, 1),
}
EARLY = {**V2, "4_3": (64, 1), "4_7": (96, 2)}
TABLES = {"v1": V1, "v2": V2}


def deploy(version: str = "v1", classes: int = 1000, *, multiplier: float = 1.0, early: bool = False) -> Msg:
    """data 1 x 3 x 224 x 224 (B, G, R, mean subtracted, times 0.017) to prob.

    version: v1 or v2.  multiplier: of all widths.  early: v2 as in its published weights.
    """
    return _Net(version, multiplier, early, train=False).deployed(CROP, classes)


def train_val(
    version: str = "v1",
    classes: int = 1000,
    *,
    multiplier: float = 1.0,
    early: bool = False,
    **sources: Unpack[Sources],
) -> Msg:
    """The net that trains; as in `deploy`."""
    return _Net(version, multiplier, early, train=True).trained(PICTURES, classes, **sources)


def solver(version: str = "v1", *, net: str = "") -> Msg:
    """The papers train with RMSProp: decay 0.9, momentum (which Caffe's has not) 0.9, rate 0.045 times 0.98 after
    each pass.

    96 pictures to a step (3 x 32); the weight decay is v2's.
    """
    chosen(TABLES, version, "no such version of MobileNet")
    return solving(
        f"MobileNet-{version}",
        net,
        type="RMSProp",
        momentum=0.0,
        rms_decay=0.9,
        delta=1.0,
        base_lr=0.045,
        lr_policy="step",
        gamma=0.98,
        stepsize=13_346,
        max_iter=2_600_000,
        weight_decay=4e-5,
        iter_size=3,
    )


class _Net(Classifier):
    filler = MSRA
    eps = 1e-5

    def __init__(self, version: str, multiplier: float, early: bool, *, train: bool) -> None:
        self.table = chosen(TABLES, version, "no such version of MobileNet")
        if not multiplier > 0:
            raise NetError("no such multiplier", expected="more than 0", got=multiplier)
        self.v2, self.multiplier, self.early = version == "v2", multiplier, early
        if early:
            if not self.v2:
                raise NetError("early tells two forms of v2 apart", expected="v2", got=version)
            self.table = EARLY
        super().__init__(f"MobileNet-{version}", train=train)

    def wide(self, channels: int) -> int:
        """The width times the multiplier; for v2 in steps of 8."""
        exact = channels * self.multiplier
        step = 8 if self.v2 else 1
        return max(step, int(exact + step / 2) // step * step)

    def scores(self, data: Top, classes: int) -> Top:
        x = self.unit(data, "conv1", "relu1", self.wide(32), 3, 2)
        channels = self.wide(32)
        for block, (width, stride) in self.table.items():
            if self.v2:
                x = self.inverted(x, block, channels, self.wide(width), stride)
            else:
                x = self.unit(x, f"conv{block}/dw", f"relu{block}/dw", channels, 3, stride, channels)
                x = self.unit(x, f"conv{block}/sep", f"relu{block}/sep", self.wide(width))
            channels = self.wide(width)
        if self.v2:
            x = self.unit(x, "conv6_4", "relu6_4", max(1280, self.wide(1280)))
        return self.conv(self.pool(x, "pool6", 0, kind="AVE"), "fc7", classes)

    def inverted(self, x: Top, block: str, channels: int, width: int, stride: int) -> Top:
        """Six times as many channels, a depthwise convolution, and few channels again, without ReLU."""
        times = 1 if block == "2_1" else 6
        y, inner = x, times * channels
        if times > 1 or self.early:
            y = self.unit(y, f"conv{block}/expand", f"relu{block}/expand", inner)
        y = self.unit(y, f"conv{block}/dwise", f"relu{block}/dwise", inner, 3, stride, inner)
        y = self.unit(y, f"conv{block}/linear", "", width)
        if stride > 1 or channels != width:
            return y
        top: Top = self.Eltwise(x, y, name=f"block_{block}")
        return top

    def unit(self, x: Top, name: str, relu: str, width: int, kernel: int = 1, stride: int = 1, group: int = 1) -> Top:
        x = self.conv(x, name, width, kernel, stride, bias=False, group=group)
        x = self.norm(x, f"{name}/bn", f"{name}/scale", in_place=False)
        return self.relu(x, relu) if relu else x
