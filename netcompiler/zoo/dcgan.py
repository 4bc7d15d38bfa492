"""DCGAN: a generator that makes pictures of noise, and a discriminator that tells them from real ones.

Source: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", ICLR 2016 (arXiv 1511.06434): figure 1 and section 3, without biases before batch normalisation. No Caffe
model was published by the authors; layer names are ours. The two train in turns, one step each, with a solver for
each net: the generator's training net holds the discriminator, which does not learn there. The discriminator's
weights are copied into it, and the generator's pictures into its set, between steps.
"""

from __future__ import annotations

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


def discriminator(width: int = WIDTH // 2, channels: int = 3) -> Msg:
    """data 1 x 3 x 64 x 64 in -1 to 1 to prob, how likely it is that an image is real. width: of the first layer."""
    net = _Net("DCGAN-discriminator", width, channels, train=False)
    net.Sigmoid(net.discriminate(net.image(channels, SIDE)), name="prob")
    return net.message()


def train_generator(noise: int = NOISE, width: int = WIDTH, channels: int = 3, *, batch: int = 128) -> Msg:
    """Noise through the generator and a discriminator that does not learn; taken for real is good."""
    net = _Net("DCGAN-generator", width, channels, train=True)
    uniform = {"type": "uniform", "min": -1, "max": 1}
    z = net.DummyData(name="noise", top="noise", shape={"dim": [batch, noise, 1, 1]}, data_filler=uniform)
    real = net.DummyData(
        name="real", top="label", shape={"dim": [batch, 1]}, data_filler={"type": "constant", "value": 1}
    )
    images = net.generate(z)
    net.width, net.param = width // 2 or 1, FROZEN
    net.SigmoidCrossEntropyLoss(net.discriminate(images), real, name="loss")
    return net.message()


def train_discriminator(
    width: int = WIDTH // 2, channels: int = 3, *, batch: int = 128, source: str = "dcgan_images.txt"
) -> Msg:
    """Images with a label, 1 for real and 0 for made. source: a list of HDF5 files with the datasets data and label."""
    net = _Net("DCGAN-discriminator", width, channels, train=True)
    data, label = net.HDF5Data(
        name="data", top=("data", "label"), hdf5_data_param={"source": source, "batch_size": batch}
    )
    net.SigmoidCrossEntropyLoss(net.discriminate(data), label, name="loss")
    return net.message()


def solve_generator(*, net: str = "") -> Msg:
    """Section 4: Adam, rate 0.0002, first momentum 0.5."""
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
        max_iter=25_000,
        test_iter=None,
        test_interval=None,
    )


class _Net(Net):
    filler = {"type": "gaussian", "std": 0.02}
    eps = 1e-5

    def __init__(self, name: str, width: int, channels: int, *, train: bool) -> None:
        if min(width, channels) < 1:
            raise NetError("no such DCGAN", expected="at least 1 channel", got=min(width, channels))
        super().__init__(name, train=train)
        self.width, self.channels = width, channels
        self.param: tuple[dict[str, int], ...] | None = None

    def generate(self, z: Top) -> Top:
        """Five transposed convolutions, 4 x 4 to 64 x 64 pixels."""
        x = z
        for i, times in enumerate((8, 4, 2, 1), start=1):
            stride, pad = (1, 0) if i == 1 else (2, 1)
            x = self.conv(x, f"g_deconv{i}", times * self.width, 4, stride, pad, bias=False, kind="Deconvolution")
            x = self.relu(self.norm(x, f"g_deconv{i}_bn", f"g_deconv{i}_scale"), f"g_relu{i}")
        x = self.conv(x, "g_deconv5", self.channels, 4, 2, 1, kind="Deconvolution")
        top: Top = self.TanH(x, name="images")
        return top

    def discriminate(self, x: Top) -> Top:
        """Five convolutions with stride, to one number; in an image's place a generator's pictures."""
        for i, times in enumerate((1, 2, 4, 8), start=1):
            param = None if self.param is None else self.param[:1]
            x = self.conv(x, f"d_conv{i}", times * self.width, 4, 2, 1, bias=False, param=param)
            if i > 1:
                x = self.norm(x, f"d_conv{i}_bn", f"d_conv{i}_scale", param=self.param)
            x = self.relu(x, f"d_relu{i}", negative_slope=0.2)
        x = self.conv(x, "d_conv5", 1, 4, pad=0, param=self.param)
        top: Top = self.Flatten(x, name="score")
        return top
