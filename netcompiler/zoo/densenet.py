"""DenseNet-121, -161, -169 and -201: each layer reads all layers before it.

Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", CVPR 2017 (arXiv
1608.06993): table 1. Names are those of the models that were brought to Caffe by github.com/shicai/DenseNet-Caffe.
"""

from __future__ import annotations

from typing import Unpack

from ..spec import Top
from ..text import Msg
from .parts import MSRA, Classifier, Pictures, Sources, chosen, solving

CROP = 224
BLOCKS = {  # depth -> growth, layers of each dense block
    121: (32, (6, 12, 24, 16)),
    161: (48, (6, 12, 36, 24)),
    169: (32, (6, 12, 32, 32)),
    201: (32, (6, 12, 48, 32)),
}
PICTURES = Pictures(crop=CROP, mean=(103.94, 116.78, 123.68), scale=0.017)


def deploy(depth: int = 121, classes: int = 1000) -> Msg:
    """data 1 x 3 x 224 x 224 (B, G, R, mean subtracted, times 0.017) to prob."""
    return _Net(depth, train=False).deployed(CROP, classes)


def train_val(depth: int = 121, classes: int = 1000, **sources: Unpack[Sources]) -> Msg:
    """The net that trains."""
    return _Net(depth, train=True).trained(PICTURES, classes, **sources)


def solver(depth: int = 121, *, net: str = "") -> Msg:
    """Section 4.2: SGD, 256 pictures to a step (8 x 32), rate 0.1 divided by 10 after 30 and 60 of 90 passes."""
    chosen(BLOCKS, depth, "no DenseNet of this depth was published")
    return solving(
        f"DenseNet-{depth}",
        net,
        base_lr=0.1,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=[150_000, 300_000],
        max_iter=450_000,
        weight_decay=1e-4,
        iter_size=8,
    )


class _Net(Classifier):
    filler = MSRA
    eps = 1e-5

    def __init__(self, depth: int, *, train: bool) -> None:
        self.growth, self.blocks = chosen(BLOCKS, depth, "no DenseNet of this depth was published")
        super().__init__(f"DenseNet-{depth}", train=train)

    def scores(self, data: Top, classes: int) -> Top:
        channels = 2 * self.growth
        x = self.conv(data, "conv1", channels, 7, 2, bias=False)
        x = self.pool(self.active(x, "conv1", "relu1"), "pool1", 3, 2, 1, round_mode="FLOOR")
        for number, count in enumerate(self.blocks, start=2):
            for index in range(1, count + 1):
                x = self.grown(x, f"{number}_{index}")
            channels += count * self.growth
            x = self.active(x, f"conv{number}_blk", f"relu{number}_blk")
            if number < 5:  # a transition; the last block goes to the classifier
                channels //= 2
                x = self.conv(x, f"conv{number}_blk", channels, bias=False)
                x = self.pool(x, f"pool{number}", 2, 2, kind="AVE")
        return self.conv(self.pool(x, "pool5", 0, kind="AVE"), "fc6", classes)

    def grown(self, x: Top, at: str) -> Top:
        """x, and `growth` channels more."""
        y = self.conv(self.active(x, f"conv{at}/x1", f"relu{at}/x1"), f"conv{at}/x1", 4 * self.growth, bias=False)
        y = self.conv(self.active(y, f"conv{at}/x2", f"relu{at}/x2"), f"conv{at}/x2", self.growth, 3, bias=False)
        top: Top = self.Concat(x, y, name=f"concat_{at}")
        return top

    def active(self, x: Top, name: str, relu: str) -> Top:
        return self.relu(self.norm(x, f"{name}/bn", f"{name}/scale", in_place=False), relu)
