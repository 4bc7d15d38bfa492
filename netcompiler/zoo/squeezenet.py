"""SqueezeNet 1.0 and 1.1.

Source: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size", 2016
(arXiv 1602.07360). Names and settings are those of the authors' published models for Caffe
(github.com/forresti/SqueezeNet).
"""

from __future__ import annotations

from typing import Unpack

from ..spec import Top
from ..text import Msg
from .parts import XAVIER, Classifier, Pictures, Sources, chosen, solving

CROP = 227
POOLS = {"1.0": (1, 4, 8), "1.1": (1, 3, 5)}  # the layers that a pooling follows
SQUEEZED = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}  # fire module -> channels
PICTURES = Pictures(crop=CROP, mirror=False, val_batch=25)


def deploy(version: str = "1.1", classes: int = 1000) -> Msg:
    """data 1 x 3 x 227 x 227 (B, G, R, mean subtracted) to prob. version: 1.0 or 1.1."""
    return _Net(version, train=False).deployed(CROP, classes)


def train_val(version: str = "1.1", classes: int = 1000, **sources: Unpack[Sources]) -> Msg:
    """The net that trains."""
    return _Net(version, train=True).trained(PICTURES, classes, **sources)


def solver(version: str = "1.1", *, net: str = "") -> Msg:
    """The authors' training: SGD, 512 pictures to a step (16 x 32), a rate of 0.04 that falls along a line to 0."""
    chosen(POOLS, version, "no such version of SqueezeNet")
    return solving(
        f"SqueezeNet-{version}",
        net,
        test_iter=2000,
        test_interval=1000,
        display=40,
        average_loss=40,
        base_lr=0.04,
        lr_policy="poly",
        power=1.0,
        max_iter=170_000,
        weight_decay=2e-4,
        iter_size=16,
        snapshot=1000,
    )


class _Net(Classifier):
    filler = XAVIER

    def __init__(self, version: str, *, train: bool) -> None:
        self.pools = chosen(POOLS, version, "no such version of SqueezeNet")
        self.first = version == "1.0"
        super().__init__(f"SqueezeNet-{version}", train=train)

    def scores(self, data: Top, classes: int) -> Top:
        width, kernel = (96, 7) if self.first else (64, 3)
        x = self.conv_relu(data, "conv1", "relu_conv1", width, kernel, stride=2, pad=0)
        x = self.pool(x, "pool1", 3, 2)
        for i, squeezed in SQUEEZED.items():
            x = self.fire(x, f"fire{i}", squeezed)
            if i in self.pools:
                x = self.pool(x, f"pool{i}", 3, 2)
        x = self.drop(x, "drop9")
        last = {"type": "gaussian", "mean": 0, "std": 0.01}
        # 1.0 pads its 1 x 1 convolution: a rim of biases counts in the mean, as published.
        x = self.conv_relu(x, "conv10", "relu_conv10", classes, 1, pad=1 if self.first else 0, filler=last)
        return self.pool(x, "pool10", 0, kind="AVE")

    def fire(self, x: Top, name: str, squeezed: int) -> Top:
        """Few channels, then four times as many, twice: by 1 x 1 and by 3 x 3."""
        x = self.conv_relu(x, f"{name}/squeeze1x1", f"{name}/relu_squeeze1x1", squeezed)
        one = self.conv_relu(x, f"{name}/expand1x1", f"{name}/relu_expand1x1", 4 * squeezed)
        three = self.conv_relu(x, f"{name}/expand3x3", f"{name}/relu_expand3x3", 4 * squeezed, 3)
        top: Top = self.Concat(one, three, name=f"{name}/concat")
        return top
