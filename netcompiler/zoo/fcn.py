"""FCN-8s: a VGG-16 made convolutional, whose scores are scaled up to the pixels.

Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015 (arXiv
1411.4038), and PAMI 2017. Names, the padding of 100 and the crops are those of the authors' published models
(github.com/shelhamer/fcn.berkeleyvision.org, voc-fcn8s).
"""

from __future__ import annotations

from typing import Any

from ..spec import Top
from ..text import Msg
from .parts import TWO_RATES, XAVIER, Net, solving
from .vgg import CONVOLUTIONS, MEAN, trunk

SIDE = 500
BILINEAR = {"type": "bilinear"}


def deploy(classes: int = 21, *, height: int = SIDE, width: int = SIDE, grouped: bool = False) -> Msg:
    """data 1 x 3 x height x width (B, G, R, mean subtracted) to score, 1 x classes x height x width.

    grouped: upsample each class by weights of its own only, as `train_val` does. The published weights are not grouped.
    """
    net = _Net(grouped, train=False)
    net.scores(net.image(3, height, width), classes)
    return net.message()


def train_val(
    classes: int = 21,
    *,
    grouped: bool = True,
    train_source: str = "voc12_train_lmdb",
    train_labels: str = "voc12_train_labels_lmdb",
    val_source: str = "voc12_val_lmdb",
    val_labels: str = "voc12_val_labels_lmdb",
) -> Msg:
    """The net that trains, one picture at a time, each as large as it is.

    Pictures and label maps (one channel of classes, 255 where none counts) stand in two sets in the same order: the
    authors' net reads them by a Python layer of its own. What size they have, only the sets tell.
    grouped: the bilinear filler fills the weights of every pair of classes, so that only groups of one class start
    well; False goes on from the published weights, which hold zeros between classes.
    """
    net = _Net(grouped, train=True)
    for phase, source, labels in (("TRAIN", train_source, train_labels), ("TEST", val_source, val_labels)):
        for top, path, mean in (("data", source, MEAN), ("label", labels, ())):
            net.Data(
                name=top,
                top=top,
                include={"phase": phase},
                transform_param={"mean_value": list(mean)} if mean else {"force_gray": True},
                data_param={"source": path, "batch_size": 1, "backend": "LMDB"},
            )
    scores = net.scores(net["data"], classes)
    net.SoftmaxWithLoss(scores, net["label"], name="loss", loss_param={"ignore_label": 255, "normalize": False})
    net.Accuracy(scores, net["label"], name="pixels", axis=1, ignore_label=255, include={"phase": "TEST"})
    return net.message()


def solver(*, net: str = "") -> Msg:
    """The authors': a tiny rate, since the loss is a sum over pixels, and a high momentum; from the weights of
    FCN-16s.
    """
    return solving(
        "FCN-8s",
        net,
        test_iter=736,
        test_interval=4000,
        display=20,
        average_loss=20,
        base_lr=1e-14,
        lr_policy="fixed",
        momentum=0.99,
        max_iter=100_000,
        weight_decay=5e-4,
        snapshot=4000,
    )


class _Net(Net):
    filler = XAVIER
    bias_value = 0
    rates = TWO_RATES

    def __init__(self, grouped: bool, *, train: bool) -> None:
        super().__init__("FCN-8s", train=train)
        self.grouped = grouped

    def scores(self, data: Top, classes: int) -> Top:
        x = trunk(self, data, CONVOLUTIONS[16], first_pad=100)
        for i, kernel in ((6, 7), (7, 1)):
            x = self.conv_relu(x, f"fc{i}", f"relu{i}", 4096, kernel, pad=0)
            x = self.drop(x, f"drop{i}")
        x = self.up(self.conv(x, "score_fr", classes), "upscore2", 4, classes)
        x = self.fused(x, "pool4", 5, classes)
        x = self.up(x, "upscore_pool4", 4, classes)
        x = self.fused(x, "pool3", 9, classes)
        x = self.up(x, "upscore8", 16, classes)
        top: Top = self.Crop(x, data, name="score", axis=2, offset=31)
        return top

    def fused(self, x: Top, pool: str, offset: int, classes: int) -> Top:
        """x, plus scores of an earlier pooling, cut to the same pixels."""
        zeros = {"type": "constant"}
        scored = self.conv(self[pool], f"score_{pool}", classes, filler=zeros)
        cut = self.Crop(scored, x, name=f"score_{pool}c", axis=2, offset=offset)
        top: Top = self.Eltwise(x, cut, name=f"fuse_{pool}")
        return top

    def up(self, x: Top, name: str, kernel: int, classes: int) -> Top:
        """Scaled up by kernel / 2, bilinearly; it does not learn."""
        group, frozen = classes if self.grouped else 1, ({"lr_mult": 0},)
        settings: dict[str, Any] = {"bias": False, "filler": BILINEAR, "param": frozen, "group": group}
        return self.conv(x, name, classes, kernel, kernel // 2, 0, kind="Deconvolution", **settings)
