"""ZF Net, and its deconvnet: which pixels a feature has seen.

Source: Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014 (arXiv 1311.2901): figure 3
for the net, section 2.1 for the deconvnet, section 3 for the training. Names are the usual ones for Caffe's AlexNet,
which the ZF nets of detectors have as well. The crop is 225, with which 7 x 7 windows with stride 2 make the paper's
110 x 110.
"""

from __future__ import annotations

from typing import Any, Unpack

from ..errors import NetError
from ..spec import Top
from ..text import Msg
from .parts import TWO_RATES, Classifier, Pictures, Sources, solving

CROP = 225
PICTURES = Pictures(crop=CROP, train_batch=128)
LAYERS = {  # convolution -> channels, kernel, stride, padding
    1: (96, 7, 2, 0),
    2: (256, 5, 2, 0),
    3: (384, 3, 1, 1),
    4: (384, 3, 1, 1),
    5: (256, 3, 1, 1),
}
SIZES = {1: 110, 2: 26, 3: 13, 4: 13, 5: 13}  # pixels on a side behind each


def deploy(classes: int = 1000) -> Msg:
    """data 1 x 3 x 225 x 225 (B, G, R, mean subtracted) to prob."""
    return _Net("ZFNet", train=False).deployed(CROP, classes)


def train_val(classes: int = 1000, **sources: Unpack[Sources]) -> Msg:
    """The net that trains."""
    return _Net("ZFNet", train=True).trained(PICTURES, classes, **sources)


def solver(*, net: str = "") -> Msg:
    """Section 3: SGD, 128 pictures to a step, 70 passes; a rate of 0.01 that is lowered by hand, here after each 20
    passes.
    """
    return solving(
        "ZFNet",
        net,
        base_lr=0.01,
        lr_policy="step",
        gamma=0.1,
        stepsize=200_000,
        max_iter=700_000,
        weight_decay=5e-4,
    )


def deconvnet(layer: int = 5) -> Msg:
    """data to reconstruction, 1 x 3 x 225 x 225: what made the chosen activations of conv1 to conv5.

    chosen: of the layer's shape, 1 for the activations to look at, else 0. Each step back undoes one: values go where
    the maxima were (the second top of the Pooling), the ReLU lets the positive pass, and the convolution's own
    weights, shared by name and flipped, scatter them. Normalisation is not undone. Load the weights of the net; the
    deconvolutions find theirs by the shared names.
    """
    if layer not in LAYERS:
        raise NetError("no such layer to look at", expected="1 to 5", got=layer)
    net = _Net(f"ZFNet-deconvnet-{layer}", train=False)
    net.sharing = True
    x = net.features(net.image(3, CROP), layer)
    shape = [1, LAYERS[layer][0], SIZES[layer], SIZES[layer]]
    chosen = net.Input(name="chosen", top="chosen", shape={"dim": shape})
    x = net.Eltwise(x, chosen, name="looked_at", operation="PROD")
    for i in range(layer, 0, -1):
        if i in net.masks and i != layer:
            size = SIZES[i]
            x = net.Upsample(x, net.masks[i], name=f"unpool{i}", upsample_h=size, upsample_w=size)
        x = net.relu(x, f"derelu{i}")
        outputs = LAYERS[i - 1][0] if i > 1 else 3
        _, kernel, stride, pad = LAYERS[i]
        name = f"deconv{i}" if i > 1 else "reconstruction"
        settings: dict[str, Any] = {"bias": False, "kind": "Deconvolution", "param": ({"name": f"conv{i}_w"},)}
        x = net.conv(x, name, outputs, kernel, stride, pad, **settings)
    return net.message()


class _Net(Classifier):
    filler = {"type": "gaussian", "std": 0.01}
    bias_value = 0
    rates = TWO_RATES
    sharing = False  # whether the convolutions' weights have names

    def scores(self, data: Top, classes: int) -> Top:
        x = self.pool(self.features(data, 5), "pool5", 3, 2)
        for i in (6, 7):
            x = self.drop(self.relu(self.fc(x, f"fc{i}", 4096), f"relu{i}"), f"drop{i}")
        return self.fc(x, "fc8", classes)

    def features(self, x: Top, last: int) -> Top:
        """conv1 to conv`last`. `masks` holds where the maxima of pool1 and pool2 were, if weights are shared."""
        self.masks: dict[int, Top] = {}
        for i in range(1, last + 1):
            channels, kernel, stride, pad = LAYERS[i]
            param = ({"name": f"conv{i}_w"}, {"name": f"conv{i}_b"}) if self.sharing else None
            x = self.conv_relu(x, f"conv{i}", f"relu{i}", channels, kernel, stride=stride, pad=pad, param=param)
            if i < min(3, last):
                x = self.pooled(x, i)
                x = self.LRN(x, name=f"norm{i}", local_size=5, alpha=1e-4, beta=0.75)
        return x

    def pooled(self, x: Top, i: int) -> Top:
        if not self.sharing:
            return self.pool(x, f"pool{i}", 3, 2)
        top = (f"pool{i}", f"pool{i}_mask")
        kept: Top
        kept, mask = self.Pooling(x, name=f"pool{i}", top=top, pool="MAX", kernel_size=3, stride=2)
        self.masks[i] = mask
        return kept
