"""VGG-16 and VGG-19: nothing but 3 x 3 convolutions.

Source: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015 (arXiv
1409.1556): table 1, columns D and E. Names are those of the authors' published models for Caffe.
"""

from __future__ import annotations

from typing import Unpack

from ..spec import Top
from ..text import Msg
from .parts import FROZEN, TWO_RATES, XAVIER, Classifier, Net, Pictures, Sources, chosen, solving

CROP = 224
MEAN = (103.939, 116.779, 123.68)
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
PICTURES = Pictures(crop=CROP, mean=MEAN)


def deploy(depth: int = 16, classes: int = 1000) -> Msg:
    """data 1 x 3 x 224 x 224 (B, G, R, mean subtracted) to prob. depth: 11, 13, 16 or 19 layers with weights."""
    return _Net(depth, train=False).deployed(CROP, classes)


def train_val(depth: int = 16, classes: int = 1000, **sources: Unpack[Sources]) -> Msg:
    """The net that trains, from Glorot's random weights (the paper's footnote), so that it starts without a shallower
    net.
    """
    return _Net(depth, train=True).trained(PICTURES, classes, **sources)


def solver(depth: int = 16, *, net: str = "") -> Msg:
    """Section 3.1: SGD, 256 pictures to a step (8 x 32), rate 0.01 divided by 10 three times, 370,000 steps.

    The paper divides when the error stops falling; here, after each quarter.
    """
    chosen(CONVOLUTIONS, depth, "no VGG net of this depth was published")
    return solving(
        f"VGG-{depth}",
        net,
        base_lr=0.01,
        lr_policy="step",
        gamma=0.1,
        stepsize=92_500,
        max_iter=370_000,
        weight_decay=5e-4,
        iter_size=8,
    )


def trunk(net: Net, x: Top, counts: tuple[int, ...], *, first_pad: int = 1, pools: int = 5, frozen: int = 0) -> Top:
    """conv1_1 to pool5, or to conv5_3 with 4 pools. frozen: the first blocks, which do not learn."""
    for block, (count, width) in enumerate(zip(counts, WIDTHS, strict=True), start=1):
        param = FROZEN if net.train and block <= frozen else None
        for i in range(1, count + 1):
            pad = first_pad if (block, i) == (1, 1) else 1
            x = net.conv_relu(x, f"conv{block}_{i}", f"relu{block}_{i}", width, 3, pad=pad, param=param)
        if block <= pools:
            x = net.pool(x, f"pool{block}", 2, 2)
    return x


class _Net(Classifier):
    filler = XAVIER
    bias_value = 0
    rates = TWO_RATES

    def __init__(self, depth: int, *, train: bool) -> None:
        self.counts = chosen(CONVOLUTIONS, depth, "no VGG net of this depth was published")
        super().__init__(f"VGG_ILSVRC_{depth}_layers", train=train)

    def scores(self, data: Top, classes: int) -> Top:
        x = trunk(self, data, self.counts)
        return self.fc(head(self, x), "fc8", classes)


def head(net: Net, x: Top) -> Top:
    """fc6 and fc7, after dropout."""
    for i in (6, 7):
        x = net.drop(net.relu(net.fc(x, f"fc{i}", 4096), f"relu{i}"), f"drop{i}")
    return x
