"""DCGAN: a generator that makes pictures of noise, and a discriminator that tells them from real ones.

Source: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", ICLR 2016 (arXiv 1511.06434): figure 1 and section 3. What the paper leaves open, the discriminator's widths
and that no layer has a bias, is as in the authors' code (github.com/Newmu/dcgan_code, faces). One thing differs: a
transposed convolution of 5 x 5 cannot double a picture's size in Caffe, so that those of the generator are 4 x 4, as in
github.com/soumith/dcgan.torch. No Caffe model was published; layer names are ours.

The two train in turns, one step each, with a solver for each. Each one's training net holds the other, too, which does
not learn there: give it the other's newest weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import NetError
from ..spec import Top
from ..text import Msg
from .parts import FROZEN, Net, solving

NOISE, WIDTH, SIDE = 100, 128, 64


def generator(noise: int = NOISE, width: int = WIDTH, channels: int = 3) -> Msg:
    """noise 1 x 100 x 1 x 1 to images 1 x 3 x 64 x 64, both in -1 to 1. width: channels of the last hidden layer."""
    net = _Net("DCGAN-generator", width, channels, train=False)
    net.generate(net.Input(name="noise", shape={"dim": [1, noise, 1, 1]}))
    return net.message()


def discriminator(width: int = WIDTH, channels: int = 3) -> Msg:
    """data 1 x 3 x 64 x 64 in -1 to 1 to prob, how likely it is that an image is real. width: of the first layer."""
    net = _Net("DCGAN-discriminator", width, channels, train=False)
    net.Sigmoid(net.discriminate(net.image(channels, SIDE)), name="prob")
    return net.message()


def train_generator(noise: int = NOISE, width: int = WIDTH, channels: int = 3, *, batch: int = 128) -> Msg:
    """Noise through the generator and a discriminator that does not learn; taken for real is good."""
    net = _Net("DCGAN-generator", width, channels, train=True)
    images = net.generate(net.noise(batch, noise))
    net.frozen = True
    net.told(net.discriminate(images), "real", batch, 1, "loss")
    return net.message()


def train_discriminator(
    noise: int = NOISE,
    width: int = WIDTH,
    channels: int = 3,
    *,
    batch: int = 128,
    train_source: str = "dcgan_train_lmdb",
) -> Msg:
    """Real images, and as many of a generator that does not learn, each through the same discriminator: weights are
    shared by name, while batch normalisation sees either kind alone, as in the authors' code.

    train_source: an LMDB of images; 64 x 64 pixels are cut from each, and brought to -1 to 1.
    """
    net = _Net("DCGAN-discriminator", width, channels, train=True)
    transform = {"crop_size": SIDE, "mean_value": [127.5] * channels, "scale": 1 / 127.5}
    data = {"source": train_source, "batch_size": batch, "backend": "LMDB"}
    real = net.Data(name="data", top="data", transform_param=transform, data_param=data)
    net.frozen = True
    made = net.generate(net.noise(batch, noise))
    net.frozen, net.shared = False, True
    net.told(net.discriminate(real), "real", batch, 1, "loss_real")
    net.told(net.discriminate(made, "_made"), "made", batch, 0, "loss_made")
    return net.message()


def solve_generator(*, net: str = "") -> Msg:
    """Section 4: Adam, rate 0.0002, first momentum 0.5. 25 passes over 350,000 faces, half the steps for each net."""
    return _solver("DCGAN-generator", net)


def solve_discriminator(*, net: str = "") -> Msg:
    """As `solve_generator`."""
    return _solver("DCGAN-discriminator", net)


def _solver(name: str, net: str) -> Msg:
    return solving(
        name,
        net,
        type="Adam",
        momentum=0.5,
        momentum2=0.999,
        base_lr=2e-4,
        lr_policy="fixed",
        max_iter=34_000,
        test_iter=None,
        test_interval=None,
    )


class _Net(Net):
    """frozen: layers that are added do not learn.  shared: their weights have names."""

    filler = {"type": "gaussian", "std": 0.02}
    eps = 1e-5
    frozen = shared = False

    def __init__(self, name: str, width: int, channels: int, *, train: bool) -> None:
        if min(width, channels) < 1:
            raise NetError("no such DCGAN", expected="at least 1 channel", got=min(width, channels))
        super().__init__(name, train=train)
        self.width, self.channels = width, channels

    def noise(self, batch: int, size: int) -> Top:
        filler = {"type": "uniform", "min": -1, "max": 1}
        top: Top = self.DummyData(name="noise", shape={"dim": [batch, size, 1, 1]}, data_filler=filler)
        return top

    def told(self, score: Top, label: str, batch: int, value: int, name: str) -> None:
        """The loss of scores that should all say `value`."""
        filler = {"type": "constant", "value": value}
        wanted = self.DummyData(name=label, shape={"dim": [batch, 1]}, data_filler=filler)
        self.SigmoidCrossEntropyLoss(score, wanted, name=name)

    def generate(self, z: Top) -> Top:
        """Five transposed convolutions, 4 x 4 to 64 x 64 pixels."""
        x = z
        for i, times in enumerate((8, 4, 2, 1), start=1):
            stride, pad = (1, 0) if i == 1 else (2, 1)
            x = self.unit(x, f"g_deconv{i}", times * self.width, 4, stride, pad, kind="Deconvolution")
            x = self.relu(x, f"g_relu{i}")
        x = self.unit(x, "g_deconv5", self.channels, 4, 2, 1, normed=False, kind="Deconvolution")
        top: Top = self.TanH(x, name="images")
        return top

    def discriminate(self, x: Top, suffix: str = "") -> Top:
        """Five convolutions, four of them with stride, to one number: batch x 1. suffix: of the layers' names."""
        for i, times in enumerate((1, 2, 4, 8), start=1):
            x = self.unit(x, f"d_conv{i}", times * self.width, 5, 2, 2, suffix, normed=i > 1)
            x = self.relu(x, f"d_relu{i}{suffix}", negative_slope=0.2)
        x = self.unit(x, "d_conv5", 1, 4, 1, 0, suffix, normed=False)
        top: Top = self.Flatten(x, name=f"score{suffix}")
        return top

    def unit(
        self,
        x: Top,
        name: str,
        width: int,
        kernel: int,
        stride: int,
        pad: int,
        suffix: str = "",
        *,
        normed: bool = True,
        kind: str = "Convolution",
    ) -> Top:
        """A convolution without bias; normed: and batch normalisation."""

        def param(*words: str) -> Sequence[Mapping[str, Any]] | None:
            if self.frozen:
                return FROZEN[: len(words)]
            return [{"name": f"{name}_{word}"} for word in words] if self.shared else None

        x = self.conv(x, name + suffix, width, kernel, stride, pad, bias=False, kind=kind, param=param("weight"))
        if not normed:
            return x
        return self.norm(x, f"{name}_bn{suffix}", f"{name}_scale{suffix}", param=param("gamma", "beta"))
