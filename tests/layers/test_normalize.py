import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def ssd(across, eps=1e-10):
    """Pixel by pixel."""

    def want(x, weight):
        y = np.empty_like(x)
        for n in range(len(x)):
            for at in np.ndindex(x.shape[2:]):
                held = x[n] if across else x[(n, slice(None), *at)]
                y[(n, slice(None), *at)] = x[(n, slice(None), *at)] / np.sqrt((held**2).sum() + eps) * weight
        return y

    return want


def happynear(kind, norm=False):
    def want(x):
        x = x.reshape(*x.shape, *(1,) * (4 - x.ndim))
        size = np.abs(x).sum(1, keepdims=True) + 1e-6
        if kind == "L2":
            size = np.sqrt((x**2).sum(1, keepdims=True) + 1e-6)
        return [x / size, size] if norm else x / size

    return want


def layer(fields, param="norm_param"):
    return f'type: "Normalize" {param} {{ {fields} }}'


def other(fields):
    return layer(fields, "normalize_param")


PIXELS = "across_spatial: false"
IMAGE = (2, 3, 4, 5)
ROWS = [
    Row("whole item", 'type: "Normalize"', [IMAGE], [IMAGE], ssd(True), {"weight": ()}, 120),
    Row("pixels", layer(PIXELS), [IMAGE], [IMAGE], ssd(False), {"weight": ()}, 120),
    Row(
        "each channel", layer(f"{PIXELS} channel_shared: false eps: 0.5"), [IMAGE], [IMAGE], ssd(False, 0.5),
        {"weight": (3,)}, 120, gradient=False,
    ),
    Row("two axes", layer("channel_shared: false"), [(5, 7)], [(5, 7)], ssd(True), {"weight": (7,)}, 35, gradient=False),
    Row("L2", other(""), [IMAGE], [IMAGE], happynear("L2"), macs=120),
    Row("L1", other('normalize_type: "L1"'), [IMAGE], [IMAGE], happynear("L1"), macs=120),
    Row(
        "norm", other("bp_norm: true fix_gradient: true"), [IMAGE], [IMAGE, (2, 1, 4, 5)], happynear("L2", True), macs=120
    ),
    Row("norm, L1", other('bp_norm: true normalize_type: "L1"'), [(2, 3)], [(2, 3, 1, 1), (2, 1, 1, 1)],
        happynear("L1", True), macs=6),
]  # fmt: skip
BAD = [
    Bad("type", other('normalize_type: "L3"'), [IMAGE], "unknown normalize_type", at="normalize_type"),
    Bad("both", layer("") + " normalize_param { }", [IMAGE], "SSD's, and normalize_param happynear's"),
    Bad("tops", layer(""), [IMAGE], "has one top", tops=2),
    Bad("axes", layer(""), [(5,)], "too few axes"),
    Bad("many axes", other(""), [(1, 2, 3, 4, 5)], "too many axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_scale_starts_as_1_or_by_its_filler():
    for fields, value in (("", 1), ("scale_filler { type: 'constant' value: 20 }", 20)):
        net = netcompiler.compile(netcompiler.parse(prototxt(layer(fields), [IMAGE], 1)), optimize=False, device="cpu")
        assert net.caffe_params()["it"][0] == value


@pytest.mark.parametrize("across", [True, False])
def test_a_weight_for_each_channel_bends_the_gradient(across):
    """Of the bottom: that of the division alone, times the weight. Of the weight: the true one."""
    fields = f"channel_shared: false across_spatial: {str(across).lower()}"
    text = prototxt(layer(fields), [IMAGE], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    rng = np.random.default_rng(3)
    x, dy, weight = rng.standard_normal(IMAGE), rng.standard_normal(IMAGE), rng.random(3)
    net.load_caffe_params({"it": [weight]})
    leaf = torch.from_numpy(x).requires_grad_()
    (net(leaf)["t0"] * torch.from_numpy(dy)).sum().backward()
    axes = (1, 2, 3) if across else 1
    norm = np.sqrt((x**2).sum(axes, keepdims=True) + 1e-10)
    division = (dy - x * (x * dy).sum(axes, keepdims=True) / norm**2) / norm
    np.testing.assert_allclose(leaf.grad, weight.reshape(3, 1, 1) * division, atol=1e-12)
    np.testing.assert_allclose(net.caffe_grads()["it"][0], (x / norm * dy).sum((0, 2, 3)), atol=1e-12)


@pytest.mark.parametrize("fixed", [True, False])
def test_a_fixed_scale_takes_no_gradient(fixed):
    text = prototxt(layer(f"fix_scale: {str(fixed).lower()} scale_filler {{ value: 3 }}"), [IMAGE], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    x = torch.from_numpy(np.random.default_rng(3).standard_normal(IMAGE, np.float32)).requires_grad_()
    y = net(x)["t0"]
    y[0, 0, 0, 0].backward()
    torch.testing.assert_close(y.flatten(1).norm(dim=1), torch.full((len(y),), 3.0))
    assert x.grad.any()
    assert (net.caffe_grads()["it"][0] is None or not net.caffe_grads()["it"][0].any()) == fixed


def test_without_bp_norm_the_norm_passes_no_gradient():
    net = netcompiler.compile(netcompiler.parse(prototxt(other(""), [IMAGE], 2)), optimize=False, device="cpu")
    assert not net(torch.ones(IMAGE, requires_grad=True))["t1"].requires_grad


def test_the_dialect_tells_which_is_meant():
    net = netcompiler.parse(prototxt('type: "Normalize"', [IMAGE], 1))
    kinds = [netcompiler.build(net, dialect=d).nodes[-1].layer.scale for d in ("ssd", "happynear")]
    assert kinds == [True, False]


def test_mycaffes_name():
    fields = "eps: 1e-9 scale_filler { value: 20 }"
    layers = []
    for kind, param in (("Normalize", "norm_param"), ("Normalization2", "normalization2_param")):
        text = prototxt(
            f'type: "{kind}" {param} {{ across_spatial: false channel_shared: false {fields} }}', [(2, 3, 4, 5)], 1
        )
        layers.append(netcompiler.build(netcompiler.parse(text)).nodes[-1].layer)
    assert layers[0].settings() == layers[1].settings()
    default = (
        netcompiler.build(netcompiler.parse(prototxt('type: "Normalization2"', [(2, 3, 4, 5)], 1))).nodes[-1].layer
    )
    assert default.across_spatial and default.channel_shared and default.eps == 1e-10
