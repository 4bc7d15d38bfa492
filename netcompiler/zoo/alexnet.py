"""AlexNet, and CaffeNet, which swaps pooling and normalisation.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012.
Names and settings are those of the models that Caffe's authors trained and published (models/bvlc_alexnet and
models/bvlc_reference_caffenet), so that their weights load by name.
"""

from __future__ import annotations

from typing import Unpack

from ..spec import Top
from ..text import Msg
from .parts import TWO_RATES, Classifier, Pictures, Sources, chosen, solving

CROP = 227
_ORDERS = {"AlexNet": ("norm", "pool"), "CaffeNet": ("pool", "norm")}
PICTURES = Pictures(crop=CROP, train_batch=256)


def deploy(variant: str = "AlexNet", classes: int = 1000) -> Msg:
    """data 1 x 3 x 227 x 227 (B, G, R, mean subtracted) to prob. variant: AlexNet or CaffeNet."""
    return CaffeNet(variant, train=False).deployed(CROP, classes)


def train_val(variant: str = "AlexNet", classes: int = 1000, **sources: Unpack[Sources]) -> Msg:
    """The net that trains; a mean colour is subtracted where the published one takes a mean picture."""
    return CaffeNet(variant, train=True).trained(PICTURES, classes, **sources)


def solver(variant: str = "AlexNet", *, net: str = "") -> Msg:
    """SGD, 256 pictures to a step, rate 0.01 divided by 10 each 100,000 of 450,000 steps."""
    chosen(_ORDERS, variant, "no such variant of AlexNet")
    return solving(
        variant,
        net,
        test_interval=1000,
        test_initialization=None,
        average_loss=None,
        display=20,
        base_lr=0.01,
        lr_policy="step",
        gamma=0.1,
        stepsize=100_000,
        max_iter=450_000,
        weight_decay=5e-4,
    )


class CaffeNet(Classifier):
    """The layers up to the scores; R-CNN and captioning take them as features."""

    filler = {"type": "gaussian", "std": 0.01}
    bias_value = 0
    rates = TWO_RATES

    def __init__(self, variant: str, *, train: bool, name: str = "") -> None:
        self.order = chosen(_ORDERS, variant, "no such variant of AlexNet")
        self.high = 0.1 if variant == "AlexNet" else 1  # biases that keep their ReLUs awake in the beginning
        super().__init__(name or variant, train=train)

    def scores(self, data: Top, classes: int) -> Top:
        return self.fc(self.features(data), "fc8", classes)

    def features(self, data: Top) -> Top:
        """fc7, 4096 numbers, after dropout."""
        x = self.mixed(self.conv_relu(data, "conv1", "relu1", 96, 11, stride=4, pad=0), 1)
        x = self.mixed(self.conv_relu(x, "conv2", "relu2", 256, 5, group=2, bias_value=self.high), 2)
        x = self.conv_relu(x, "conv3", "relu3", 384, 3)
        x = self.conv_relu(x, "conv4", "relu4", 384, 3, group=2, bias_value=self.high)
        x = self.conv_relu(x, "conv5", "relu5", 256, 3, group=2, bias_value=self.high)
        x = self.pool(x, "pool5", 3, 2)
        for i in (6, 7):
            x = self.fc(x, f"fc{i}", 4096, filler={"type": "gaussian", "std": 0.005}, bias_value=self.high)
            x = self.drop(self.relu(x, f"relu{i}"), f"drop{i}")
        return x

    def mixed(self, x: Top, i: int) -> Top:
        for what in self.order:
            if what == "pool":
                x = self.pool(x, f"pool{i}", 3, 2)
            else:
                x = self.LRN(x, name=f"norm{i}", local_size=5, alpha=1e-4, beta=0.75)
        return x
