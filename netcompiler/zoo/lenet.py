"""LeNet, as Caffe trains it on handwritten digits.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998.
The sizes, with ReLU and max pooling, are those of Caffe's own example (examples/mnist), whose layer names these are.
"""

from __future__ import annotations

from typing import Unpack

from ..spec import Top
from ..text import Msg
from .parts import XAVIER, Classifier, Sources, mnist, solving


def deploy(classes: int = 10) -> Msg:
    """data 1 x 1 x 28 x 28, 0 to 1, to prob 1 x classes."""
    return _Net("LeNet", train=False).deployed(28, classes, channels=1)


def train_val(classes: int = 10, **sources: Unpack[Sources]) -> Msg:
    """The net that trains on MNIST; its pictures are 28 x 28, so that the crop changes nothing."""
    return _Net("LeNet", train=True).trained(mnist(), classes, top5=False, **sources)


def solver(*, net: str = "") -> Msg:
    """SGD, 64 pictures to a step, 10,000 steps, a rate of 0.01 that falls slowly."""
    return solving(
        "LeNet",
        net,
        test_iter=100,
        test_interval=500,
        test_initialization=None,
        average_loss=None,
        base_lr=0.01,
        lr_policy="inv",
        gamma=1e-4,
        power=0.75,
        max_iter=10_000,
        weight_decay=5e-4,
        snapshot=5000,
    )


class _Net(Classifier):
    filler = XAVIER
    rates = ({"lr_mult": 1}, {"lr_mult": 2})

    def scores(self, data: Top, classes: int) -> Top:
        x = self.pool(self.conv(data, "conv1", 20, 5, pad=0), "pool1", 2, 2)
        x = self.pool(self.conv(x, "conv2", 50, 5, pad=0), "pool2", 2, 2)
        x = self.relu(self.fc(x, "ip1", 500), "relu1")
        return self.fc(x, "ip2", classes)
