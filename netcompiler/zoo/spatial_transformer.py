"""A Spatial Transformer on distorted digits: a net that learns to look where the digit is.

Source: Jaderberg, Simonyan, Zisserman, Kavukcuoglu, "Spatial Transformer Networks", NIPS 2015 (arXiv 1506.02025),
section 4.1 and appendix A.4: an affine ST-CNN on MNIST digits that were rotated, scaled and moved on 42 x 42 pixels
(RTS). The SpatialTransformer layer is that of github.com/daerduoCarey/SpatialTransformerLayer; layer names are ours.
"""

from __future__ import annotations

from typing import Unpack

from ..spec import Top
from ..text import Msg
from .parts import XAVIER, Classifier, Sources, mnist, solving

SIDE = 42
PICTURES = mnist(
    crop=SIDE,
    train_source="mnist_rts_train_lmdb",
    val_source="mnist_rts_test_lmdb",
    train_batch=256,
)


def deploy(classes: int = 10, *, transformer: bool = True) -> Msg:
    """data 1 x 1 x 42 x 42, 0 to 1, to prob. transformer: False for the CNN alone, to compare with."""
    return _Net(transformer, train=False).deployed(SIDE, classes, channels=1)


def train_val(classes: int = 10, *, transformer: bool = True, **sources: Unpack[Sources]) -> Msg:
    """The net that trains; it starts by looking at the picture as it is."""
    return _Net(transformer, train=True).trained(PICTURES, classes, top5=False, **sources)


def solver(*, net: str = "") -> Msg:
    """Appendix A.4: SGD, 256 pictures to a step, rate 0.01 divided by 10 each 50,000 of 150,000 steps."""
    return solving(
        "Spatial-Transformer",
        net,
        test_iter=100,
        test_interval=1000,
        base_lr=0.01,
        lr_policy="step",
        gamma=0.1,
        stepsize=50_000,
        max_iter=150_000,
        momentum=0.0,
        weight_decay=0.0,
    )


class _Net(Classifier):
    filler = XAVIER
    bias_value = 0

    def __init__(self, transformer: bool, *, train: bool) -> None:
        super().__init__("Spatial-Transformer", train=train)
        self.transformer = transformer

    def scores(self, data: Top, classes: int) -> Top:
        x = self.looked(data) if self.transformer else data
        x = self.pool(self.conv_relu(x, "conv1", "relu1", 32, 9, pad=0), "pool1", 2, 2)
        x = self.pool(self.conv_relu(x, "conv2", "relu2", 32, 7, pad=0), "pool2", 2, 2)
        return self.fc(x, "classifier", classes)

    def looked(self, data: Top) -> Top:
        """data, where the localisation net says. theta starts as the identity, 1 0 0 0 1 0: its weights are 0, its
        biases so.
        """
        x = self.pool(data, "loc_pool0", 2, 2)
        x = self.pool(self.conv_relu(x, "loc_conv1", "loc_relu1", 20, 5, pad=0), "loc_pool1", 2, 2)
        x = self.conv_relu(x, "loc_conv2", "loc_relu2", 20, 5, pad=0)
        x = self.relu(self.fc(x, "loc_ip1", 20), "loc_relu3")
        zero = {"type": "constant"}
        ones = self.fc(x, "theta_ones", 2, filler=zero, bias_value=1)  # the entries that are 1 in the identity
        zeros = self.fc(x, "theta_zeros", 4, filler=zero, bias_value=0)
        first, last = self.Slice(ones, name="theta_diagonal", top=2)
        between, end = self.Slice(zeros, name="theta_rest", top=2, slice_point=3)
        theta = self.Concat(first, between, last, end, name="theta")
        top: Top = self.SpatialTransformer(data, theta, name="st")
        return top
