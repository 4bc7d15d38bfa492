"""Inception v3, Inception v4 and Inception-ResNet v2.

Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception Architecture for Computer Vision", CVPR
2016 (arXiv 1512.00567): table 1, figures 5 to 7. Szegedy, Ioffe, Vanhoucke, Alemi, "Inception-v4, Inception-ResNet
and the Impact of Residual Connections on Learning", AAAI 2017 (arXiv 1602.07261): figures 3 to 9 and 15 to 19, with
the widths that the authors' code uses. Names are those of the nets that were brought to Caffe by
github.com/soeaver/caffe-model. The auxiliary classifiers are left out, as there.
"""

from __future__ import annotations

from typing import Unpack

from ..spec import Top
from ..text import Msg
from .parts import XAVIER, Classifier, Pictures, Size, Sources, chosen, solving

CROP = 299
PICTURES = Pictures(crop=CROP, mean=(128, 128, 128), scale=1 / 128)
NAMES = {"v3": "Inception-v3", "v4": "Inception-v4", "resnet-v2": "Inception-ResNet-v2"}
WIDE, HIGH = (1, 7), (7, 1)  # kernels


def deploy(version: str = "v3", classes: int = 1000) -> Msg:
    """data 1 x 3 x 299 x 299 (less 128, divided by 128) to prob. version: v3, v4 or resnet-v2."""
    return _net(version, train=False).deployed(CROP, classes)


def train_val(version: str = "v3", classes: int = 1000, **sources: Unpack[Sources]) -> Msg:
    """The net that trains."""
    return _net(version, train=True).trained(PICTURES, classes, **sources)


def solver(version: str = "v3", *, net: str = "") -> Msg:
    """Section 8 of v3, section 4 of v4: RMSProp, decay 0.9, epsilon 1, rate 0.045 times 0.94 after each two passes,
    32 pictures to a step. The papers' 20 to 50 machines took as many steps side by side.
    """
    return solving(
        chosen(NAMES, version, "no such version of Inception"),
        net,
        type="RMSProp",
        momentum=0.0,
        rms_decay=0.9,
        delta=1.0,
        base_lr=0.045,
        lr_policy="step",
        gamma=0.94,
        stepsize=80_074,
        max_iter=4_000_000,
        weight_decay=4e-5,
    )


class _Inception(Classifier):
    filler = XAVIER
    eps = 1e-3

    def scores(self, data: Top, classes: int) -> Top:
        x = self.drop(self.pool(self.body(data), "pool_8x8_s1", 0, kind="AVE"), "pool_8x8_s1_drop", 0.2)
        return self.fc(x, "classifier", classes)

    def body(self, x: Top) -> Top:
        raise NotImplementedError

    def unit(self, x: Top, name: str, width: int, kernel: Size = 1, stride: int = 1, pad: Size | None = None) -> Top:
        """Convolution, batch normalisation, scale, ReLU."""
        x = self.conv(x, name, width, kernel, stride, pad, bias=False)
        return self.relu(self.norm(x, f"{name}_bn", f"{name}_scale"), f"{name}_relu")

    def chain(self, x: Top, at: str, *steps: tuple[str, int, Size]) -> Top:
        """Units one after the other; each is a name, a width and a kernel."""
        for name, width, kernel in steps:
            x = self.unit(x, f"{at}_{name}", width, kernel)
        return x

    def shrunk(self, x: Top, name: str, width: int) -> Top:
        """3 x 3 with stride 2 and no padding."""
        return self.unit(x, name, width, 3, 2, 0)

    def joined(self, name: str, *tops: Top) -> Top:
        top: Top = self.Concat(*tops, name=name)
        return top

    def early(self, x: Top) -> Top:
        """The first three convolutions, which all three nets share."""
        x = self.unit(x, "conv1_3x3_s2", 32, 3, 2, 0)
        return self.unit(self.unit(x, "conv2_3x3_s1", 32, 3, 1, 0), "conv3_3x3_s1", 64, 3)

    def middle(self, x: Top) -> Top:
        """On to 35 x 35 x 192, in v3 and Inception-ResNet."""
        x = self.pool(self.early(x), "pool1_3x3_s2", 3, 2)
        x = self.unit(self.unit(x, "conv4_3x3_reduce", 80), "conv4_3x3", 192, 3, 1, 0)
        return self.pool(x, "pool2_3x3_s2", 3, 2)


class _V3(_Inception):
    def body(self, x: Top) -> Top:
        x = self.middle(x)
        for i, proj in enumerate((32, 64, 64), start=1):
            x = self.a(x, f"inception_a{i}", proj)
        at = "reduction_a"
        b = self.chain(x, at, ("3x3_2_reduce", 64, 1), ("3x3_2", 96, 3))
        tops = self.shrunk(x, f"{at}_3x3", 384), self.shrunk(b, f"{at}_3x3_3", 96), self.pool(x, f"{at}_pool", 3, 2)
        x = self.joined(f"{at}_concat", *tops)
        for i, width in enumerate((128, 160, 160, 192), start=1):
            x = self.b(x, f"inception_b{i}", width)
        at = "reduction_b"
        a = self.shrunk(self.unit(x, f"{at}_3x3_reduce", 192), f"{at}_3x3", 320)
        b = self.chain(x, at, ("1x7_reduce", 192, 1), ("1x7", 192, WIDE), ("7x1", 192, HIGH))
        b = self.shrunk(b, f"{at}_3x3_2", 192)
        x = self.joined(f"{at}_concat", a, b, self.pool(x, f"{at}_pool", 3, 2))
        # As in the authors' first published graph, the last module pools by maximum.
        return self.c(self.c(x, "inception_c1", "AVE"), "inception_c2", "MAX")

    def a(self, x: Top, at: str, proj: int) -> Top:
        return self.joined(
            f"{at}_output",
            self.unit(x, f"{at}_1x1", 64),
            self.chain(x, at, ("5x5_reduce", 48, 1), ("5x5", 64, 5)),
            self.chain(x, at, ("3x3_reduce", 64, 1), ("3x3_1", 96, 3), ("3x3_2", 96, 3)),
            self.unit(self.pool(x, f"{at}_pool", 3, pad=1, kind="AVE"), f"{at}_pool_proj", proj),
        )

    def b(self, x: Top, at: str, w: int) -> Top:
        two = (("7x1_2", w, HIGH), ("1x7_2", w, WIDE), ("7x1_3", w, HIGH), ("1x7_3", 192, WIDE))
        return self.joined(
            f"{at}_concat",
            self.unit(x, f"{at}_1x1_2", 192),
            self.chain(x, at, ("1x7_reduce", w, 1), ("1x7", w, WIDE), ("7x1", 192, HIGH)),
            self.chain(x, at, ("7x1_reduce", w, 1), *two),
            self.unit(self.pool(x, f"{at}_pool_ave", 3, pad=1, kind="AVE"), f"{at}_1x1", 192),
        )

    def c(self, x: Top, at: str, kind: str) -> Top:
        b = self.unit(x, f"{at}_1x3_reduce", 384)
        c = self.chain(x, at, ("3x3_reduce", 448, 1), ("3x3", 384, 3))
        return self.joined(
            f"{at}_concat",
            self.unit(x, f"{at}_1x1_2", 320),
            self.unit(b, f"{at}_1x3", 384, (1, 3)),
            self.unit(b, f"{at}_3x1", 384, (3, 1)),
            self.unit(c, f"{at}_1x3_2", 384, (1, 3)),
            self.unit(c, f"{at}_3x1_2", 384, (3, 1)),
            self.unit(self.pool(x, f"{at}_pool", 3, pad=1, kind=kind), f"{at}_1x1", 192),
        )


class _V4(_Inception):
    def body(self, x: Top) -> Top:
        x = self.stem(self.early(x))
        for i in range(1, 5):
            x = self.a(x, f"inception_a{i}")
        at = "reduction_a"
        b = self.chain(x, at, ("3x3_2_reduce", 192, 1), ("3x3_2", 224, 3))
        tops = self.shrunk(x, f"{at}_3x3", 384), self.shrunk(b, f"{at}_3x3_3", 256), self.pool(x, f"{at}_pool", 3, 2)
        x = self.joined(f"{at}_concat", *tops)
        for i in range(1, 8):
            x = self.b(x, f"inception_b{i}")
        at = "reduction_b"
        a = self.shrunk(self.unit(x, f"{at}_3x3_reduce", 192), f"{at}_3x3", 192)
        b = self.chain(x, at, ("1x7_reduce", 256, 1), ("1x7", 256, WIDE), ("7x1", 320, HIGH))
        b = self.shrunk(b, f"{at}_3x3_2", 320)
        x = self.joined(f"{at}_concat", a, b, self.pool(x, f"{at}_pool", 3, 2))
        for i in range(1, 4):
            x = self.c(x, f"inception_c{i}")
        return x

    def stem(self, x: Top) -> Top:
        at = "inception_stem1"
        x = self.joined(at, self.pool(x, f"{at}_pool", 3, 2), self.shrunk(x, f"{at}_3x3_s2", 96))
        at = "inception_stem2"
        a = self.unit(self.unit(x, f"{at}_3x3_reduce", 64), f"{at}_3x3", 96, 3, 1, 0)
        b = self.chain(x, at, ("1x7_reduce", 64, 1), ("1x7", 64, WIDE), ("7x1", 64, HIGH))
        x = self.joined(at, a, self.unit(b, f"{at}_3x3_2", 96, 3, 1, 0))
        at = "inception_stem3"
        return self.joined(at, self.shrunk(x, f"{at}_3x3_s2", 192), self.pool(x, f"{at}_pool", 3, 2))

    def a(self, x: Top, at: str) -> Top:
        return self.joined(
            f"{at}_concat",
            self.unit(x, f"{at}_1x1_2", 96),
            self.chain(x, at, ("3x3_reduce", 64, 1), ("3x3", 96, 3)),
            self.chain(x, at, ("3x3_2_reduce", 64, 1), ("3x3_2", 96, 3), ("3x3_3", 96, 3)),
            self.unit(self.pool(x, f"{at}_pool_ave", 3, pad=1, kind="AVE"), f"{at}_1x1", 96),
        )

    def b(self, x: Top, at: str) -> Top:
        two = (("7x1_2", 192, HIGH), ("1x7_2", 224, WIDE), ("7x1_3", 224, HIGH), ("1x7_3", 256, WIDE))
        return self.joined(
            f"{at}_concat",
            self.unit(x, f"{at}_1x1_2", 384),
            self.chain(x, at, ("1x7_reduce", 192, 1), ("1x7", 224, WIDE), ("7x1", 256, HIGH)),
            self.chain(x, at, ("7x1_2_reduce", 192, 1), *two),
            self.unit(self.pool(x, f"{at}_pool_ave", 3, pad=1, kind="AVE"), f"{at}_1x1", 128),
        )

    def c(self, x: Top, at: str) -> Top:
        b = self.unit(x, f"{at}_1x1_3", 384)
        c = self.chain(x, at, ("1x1_4", 384, 1), ("3x1_2", 448, (3, 1)), ("1x3_2", 512, (1, 3)))
        return self.joined(
            f"{at}_concat",
            self.unit(x, f"{at}_1x1_2", 256),
            self.unit(b, f"{at}_1x3", 256, (1, 3)),
            self.unit(b, f"{at}_3x1", 256, (3, 1)),
            self.unit(c, f"{at}_1x3_3", 256, (1, 3)),
            self.unit(c, f"{at}_3x1_3", 256, (3, 1)),
            self.unit(self.pool(x, f"{at}_pool_ave", 3, pad=1, kind="AVE"), f"{at}_1x1", 256),
        )


class _ResNet(_Inception):
    def body(self, x: Top) -> Top:
        x = self.stem(self.middle(x))
        for i in range(1, 11):
            at = f"inception_resnet_v2_a{i}"
            a = self.unit(x, f"{at}_1x1", 32)
            b = self.chain(x, at, ("3x3_reduce", 32, 1), ("3x3", 32, 3))
            c = self.chain(x, at, ("3x3_2_reduce", 32, 1), ("3x3_2", 48, 3), ("3x3_3", 64, 3))
            x = self.added(x, at, 320, 0.17, a, b, c)
        at = "reduction_a"
        b = self.chain(x, at, ("3x3_2_reduce", 256, 1), ("3x3_2", 256, 3))
        tops = self.shrunk(x, f"{at}_3x3", 384), self.shrunk(b, f"{at}_3x3_3", 384), self.pool(x, f"{at}_pool", 3, 2)
        x = self.joined(f"{at}_concat", *tops)
        for i in range(1, 21):
            at = f"inception_resnet_v2_b{i}"
            a = self.unit(x, f"{at}_1x1", 192)
            b = self.chain(x, at, ("1x7_reduce", 128, 1), ("1x7", 160, WIDE), ("7x1", 192, HIGH))
            x = self.added(x, at, 1088, 0.1, a, b)
        at = "reduction_b"
        a = self.shrunk(self.unit(x, f"{at}_3x3_reduce", 256), f"{at}_3x3", 384)
        b = self.shrunk(self.unit(x, f"{at}_3x3_2_reduce", 256), f"{at}_3x3_2", 288)
        c = self.chain(x, at, ("3x3_3_reduce", 256, 1), ("3x3_3", 288, 3))
        c = self.shrunk(c, f"{at}_3x3_4", 320)
        x = self.joined(f"{at}_concat", a, b, c, self.pool(x, f"{at}_pool", 3, 2))
        for i in range(1, 11):
            at = f"inception_resnet_v2_c{i}"
            a = self.unit(x, f"{at}_1x1", 192)
            b = self.chain(x, at, ("1x3_reduce", 192, 1), ("1x3", 224, (1, 3)), ("3x1", 256, (3, 1)))
            x = self.added(x, at, 2080, 0.2 if i < 10 else 1.0, a, b)
        return self.unit(x, "conv6_1x1", 1536)

    def stem(self, x: Top) -> Top:
        return self.joined(
            "stem_concat",
            self.unit(x, "conv5_1x1", 96),
            self.chain(x, "conv5", ("5x5_reduce", 48, 1), ("5x5", 64, 5)),
            self.chain(x, "conv5", ("3x3_reduce", 64, 1), ("3x3", 96, 3), ("3x3_2", 96, 3)),
            self.unit(self.pool(x, "ave_pool", 3, pad=1, kind="AVE"), "conv5_1x1_ave", 64),
        )

    def added(self, x: Top, at: str, channels: int, scale: float, *branches: Top) -> Top:
        """x + scale F(x); ReLU, but for the last, which is not scaled either."""
        up = self.conv(self.joined(f"{at}_concat", *branches), f"{at}_up", channels)
        x = self.Eltwise(x, up, name=f"{at}_residual_eltwise", coeff=[1, scale] if scale != 1 else None)
        return self.relu(x, f"{at}_residual_eltwise_relu") if scale != 1 else x


_CLASSES: dict[str, type[_Inception]] = {"v3": _V3, "v4": _V4, "resnet-v2": _ResNet}


def _net(version: str, *, train: bool) -> _Inception:
    return chosen(_CLASSES, version, "no such version of Inception")(NAMES[version], train=train)
