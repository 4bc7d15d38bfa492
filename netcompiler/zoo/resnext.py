"""ResNeXt, and wide residual nets for ImageNet: bottlenecks whose 3 x 3 convolution is split in groups, or widened.

Source: Xie, Girshick, Dollar, Tu, He, "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017
(arXiv 1611.05431): table 1, section 4. Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016 (arXiv 1605.07146):
WRN-50-2. The stride stands in the 3 x 3 convolution. Names are those of the nets that were brought to Caffe by
github.com/soeaver/caffe-model (resx for ResNeXt, res for the wide ones).
"""

from __future__ import annotations

from typing import Unpack

from ..errors import NetError
from ..spec import Top
from ..text import Msg
from .parts import MSRA, Classifier, Pictures, Sources, chosen, solving

CROP = 224
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
PICTURES = Pictures(crop=CROP)


def deploy(depth: int = 50, classes: int = 1000, *, cardinality: int = 32, width: int = 4) -> Msg:
    """data 1 x 3 x 224 x 224 (B, G, R, mean subtracted; for soeaver's weights divided by 57.4, too) to prob.

    cardinality: groups.  width: channels of each in the first stage; with 1 group of 128 it is WRN-50-2.
    """
    return _Net(depth, cardinality, width, train=False).deployed(CROP, classes)


def train_val(
    depth: int = 50, classes: int = 1000, *, cardinality: int = 32, width: int = 4, **sources: Unpack[Sources]
) -> Msg:
    """The net that trains; as in `deploy`."""
    return _Net(depth, cardinality, width, train=True).trained(PICTURES, classes, **sources)


def solver(depth: int = 50, *, cardinality: int = 32, width: int = 4, net: str = "") -> Msg:
    """Section 4: SGD, 256 pictures to a step (8 x 32), rate 0.1 divided by 10 after 30, 60 and 80 passes of 90."""
    return solving(
        _Net(depth, cardinality, width, train=False).title,
        net,
        base_lr=0.1,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=[150_000, 300_000, 400_000],
        max_iter=450_000,
        weight_decay=1e-4,
        iter_size=8,
    )


class _Net(Classifier):
    filler = MSRA

    def __init__(self, depth: int, cardinality: int, width: int, *, train: bool) -> None:
        self.blocks = chosen(BLOCKS, depth, "no ResNeXt of this depth was published")
        if min(cardinality, width) < 1:
            raise NetError("no such groups", expected="at least 1", got=f"{cardinality} groups of {width}")
        self.cardinality, self.width = cardinality, width
        wide = f"WRN-{depth}-{width // 64}" if width % 64 == 0 else f"WRN-{depth}-{width}d"
        self.title = f"ResNeXt-{depth}-{cardinality}x{width}d" if cardinality > 1 else wide
        super().__init__(self.title, train=train)

    def scores(self, data: Top, classes: int) -> Top:
        x = self.unit(data, "conv1", 64, 7, 2)
        x = self.pool(x, "pool1", 3, 2, 1, round_mode="FLOOR")
        number, prefix = 0, "resx" if self.cardinality > 1 else "res"
        for stage, count in enumerate(self.blocks):
            for index in range(count):
                number += 1
                x = self.block(x, f"{prefix}{number}", stage, index == 0)
        x = self.pool(x, "pool_ave", 0, kind="AVE")
        return self.fc(x, "classifier", classes)

    def block(self, x: Top, name: str, stage: int, first: bool) -> Top:
        inner, out, stride = (self.cardinality * self.width) << stage, 256 << stage, 2 if first and stage else 1
        y = self.unit(x, f"{name}_conv1", inner)
        y = self.unit(y, f"{name}_conv2", inner, 3, stride, self.cardinality)
        y = self.unit(y, f"{name}_conv3", out, active=False)
        short = self.unit(x, f"{name}_match_conv", out, 1, stride, active=False) if first else x
        y = self.Eltwise(short, y, name=f"{name}_elewise")
        return self.relu(y, f"{name}_elewise_relu")

    def unit(
        self, x: Top, name: str, width: int, kernel: int = 1, stride: int = 1, group: int = 1, active: bool = True
    ) -> Top:
        x = self.conv(x, name, width, kernel, stride, bias=False, group=group)
        x = self.norm(x, f"{name}_bn", f"{name}_scale")
        return self.relu(x, f"{name}_relu") if active else x
