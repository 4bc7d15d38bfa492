"""GoogLeNet (Inception v1).

Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015 (arXiv 1409.4842): table 1. Names, fillers and the
quick training are those of the model that Caffe's authors trained and published (models/bvlc_googlenet).
"""

from __future__ import annotations

from typing import Unpack

from ..spec import Top
from ..text import Msg
from .parts import TWO_RATES, XAVIER, Classifier, Pictures, Sources, solving

CROP = 224
PICTURES = Pictures(crop=CROP)
# Channels of 1x1; 3x3_reduce, 3x3; 5x5_reduce, 5x5; pool_proj
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def deploy(classes: int = 1000) -> Msg:
    """data 1 x 3 x 224 x 224 (B, G, R, mean subtracted) to prob; without the two auxiliary classifiers."""
    net = _Net("GoogleNet", train=False)
    data = net.image(3, CROP)
    net.Softmax(net.scores(data, classes), name="prob")
    return net.message()


def train_val(classes: int = 1000, *, auxiliary: bool = True, **sources: Unpack[Sources]) -> Msg:
    """The net that trains. auxiliary: with two classifiers half-way, whose losses count 0.3 each."""
    net = _Net("GoogleNet", train=True)
    data, label = net.pictures(PICTURES, sources)
    halfway: dict[str, Top] = {}
    scores = net.scores(data, classes, halfway)
    for i, module in enumerate(("4a", "4d") if auxiliary else (), start=1):
        net.judged(net.auxiliary(halfway[module], f"loss{i}", classes), label, f"loss{i}", 0.3)
    net.judged(scores, label, "loss3", 1.0)
    return net.message()


def solver(*, net: str = "") -> Msg:
    """The quick training that Caffe's authors used: SGD, 32 pictures to a step, a rate that falls as a square root."""
    return solving(
        "GoogLeNet",
        net,
        test_interval=4000,
        display=40,
        average_loss=40,
        base_lr=0.01,
        lr_policy="poly",
        power=0.5,
        max_iter=2_400_000,
        weight_decay=2e-4,
        snapshot=40_000,
    )


class _Net(Classifier):
    filler = XAVIER
    bias_value = 0.2
    rates = TWO_RATES

    def scores(self, data: Top, classes: int, halfway: dict[str, Top] | None = None) -> Top:
        """halfway: takes the output of each module, by its name."""
        x = self.part(data, "conv1/7x7_s2", 64, 7, stride=2)
        x = self.pool(x, "pool1/3x3_s2", 3, 2)
        x = self.LRN(x, name="pool1/norm1", local_size=5, alpha=1e-4, beta=0.75)
        x = self.part(self.part(x, "conv2/3x3_reduce", 64), "conv2/3x3", 192, 3)
        x = self.LRN(x, name="conv2/norm2", local_size=5, alpha=1e-4, beta=0.75)
        x = self.pool(x, "pool2/3x3_s2", 3, 2)
        for name, sizes in MODULES.items():
            if name in ("4a", "5a"):
                x = self.pool(x, f"pool{int(name[0]) - 1}/3x3_s2", 3, 2)
            x = self.module(x, f"inception_{name}", *sizes)
            if halfway is not None:
                halfway[name] = x
        x = self.pool(x, "pool5/7x7_s1", 7, kind="AVE")
        return self.fc(self.drop(x, "pool5/drop_7x7_s1", 0.4), "loss3/classifier", classes, bias_value=0)

    def module(self, x: Top, at: str, one: int, reduce3: int, three: int, reduce5: int, five: int, proj: int) -> Top:
        """Four branches side by side."""
        a = self.part(x, f"{at}/1x1", one)
        b = self.part(self.part(x, f"{at}/3x3_reduce", reduce3), f"{at}/3x3", three, 3)
        c = self.part(self.part(x, f"{at}/5x5_reduce", reduce5), f"{at}/5x5", five, 5)
        d = self.part(self.pool(x, f"{at}/pool", 3, pad=1), f"{at}/pool_proj", proj)
        top: Top = self.Concat(a, b, c, d, name=f"{at}/output")
        return top

    def part(self, x: Top, name: str, num_output: int, kernel: int = 1, **settings: int) -> Top:
        where, what = name.split("/")
        relu = f"{where}/relu_{what.removesuffix('_s2')}"
        return self.conv_relu(x, name, relu, num_output, kernel, **settings)

    def auxiliary(self, x: Top, at: str, classes: int) -> Top:
        x = self.pool(x, f"{at}/ave_pool", 5, 3, kind="AVE")
        x = self.conv_relu(x, f"{at}/conv", f"{at}/relu_conv", 128)
        x = self.relu(self.fc(x, f"{at}/fc", 1024), f"{at}/relu_fc")
        return self.fc(self.drop(x, f"{at}/drop_fc", 0.7), f"{at}/classifier", classes, bias_value=0)

    def judged(self, scores: Top, label: Top, at: str, weight: float) -> None:
        name = f"{at}/{at}" if weight == 1 else f"{at}/loss"  # as published
        self.SoftmaxWithLoss(scores, label, name=name, top=f"{at}/{at}", loss_weight=weight)
        for k in (1, 5):
            top_k = k if k > 1 else None
            self.Accuracy(scores, label, name=f"{at}/top-{k}", top_k=top_k, include={"phase": "TEST"})
