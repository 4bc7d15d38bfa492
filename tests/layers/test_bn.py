import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.errors import NetError

from .table import Bad, Row, prototxt, suite


def bn(fields=""):
    return f'type: "BN" bn_param {{ {fields} }}'


def normalised(eps, axis=1):
    def want(x, weight, bias, mean=None, variance=None):
        others = tuple(i for i in range(x.ndim) if i != axis)
        m = x.mean(others, keepdims=True)
        v = ((x - m) ** 2).mean(others, keepdims=True)
        return (x - m) / np.sqrt(v + eps) * weight + bias

    return want


def stored(eps):
    return lambda x, weight, bias, mean, variance: (x - mean) / np.sqrt(variance + eps) * weight + bias


def with_statistics(x, weight, bias):
    m = x.mean((0, 2, 3), keepdims=True)
    return normalised(1e-9)(x, weight, bias), m, ((x - m) ** 2).mean((0, 2, 3), keepdims=True)


X, C = (2, 3, 4, 5), (1, 3, 1, 1)
TWO = {"weight": C, "bias": C}
FOUR = {**TWO, "mean": C, "variance": C}
ROWS = [
    Row("segnet in TEST", bn(), [X], [X], normalised(1e-9), TWO, 120),
    Row("segnet in TRAIN", bn("bn_mode: LEARN"), [X], [X], normalised(1e-9), TWO, 120, "TRAIN"),
    Row("its statistics", bn(), [X], [X, C, C], with_statistics, TWO, 120),
    Row("inference", bn("bn_mode: INFERENCE"), [X], [X], lambda x, weight, bias: x * weight + bias, TWO, 120),
    Row(
        "rank 2",
        bn(),
        [(5, 3)],
        [(5, 3)],
        lambda x, weight, bias: normalised(1e-9)(x, weight[..., 0, 0], bias[..., 0, 0]),
        TWO,
        15,
    ),
    Row("pspnet in TRAIN", bn("eps: 0.1 momentum: 1"), [X], [X], normalised(0.1), FOUR, 120, "TRAIN"),
    Row("pspnet in TEST", bn("eps: 0.1"), [X], [X], stored(0.1), FOUR, 120, gradient=False),
    Row("frozen", bn("frozen: true eps: 0.1"), [X], [X], stored(0.1), FOUR, 120, "TRAIN", gradient=False),
    Row("ctpn in TEST", bn("var_eps: 0.1"), [X], [X], normalised(0.1), FOUR, 120),
    Row("ctpn, stored", bn("var_eps: 0.1 moving_average: true"), [X], [X], stored(0.1), FOUR, 120, gradient=False),
    Row(
        "axis",
        bn("axis: 2 var_eps: 0.1"),
        [X],
        [X],
        normalised(0.1, 2),
        dict.fromkeys(FOUR, (1, 1, 4, 1)),
        120,
    ),
    Row(
        "told by params",
        bn() + " param { } param { } param { } param { }",
        [X],
        [X],
        stored(1e-5),
        FOUR,
        120,
        gradient=False,
    ),
]
BAD = [
    Bad("two forks", bn("frozen: true decay: 0.5"), [X], "frozen is of pspnet's BN", at="decay"),
    Bad("filler of another", bn("frozen: true scale_filler { }"), [X], "pspnet's BN has no scale_filler"),
    Bad("axis", bn("axis: 3"), [X], "axis is out of range", at="axis"),
    Bad("rank", bn(), [(3,)], "bottom 0 has too few axes"),
    Bad("five axes", bn(), [(1, 2, 3, 4, 5)], "the bottom has too many axes"),
    Bad("tops", bn("frozen: true"), [X], "pspnet's BN has one top", tops=2),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def net(fields, phase="TRAIN", dialect=None):
    msg = netcompiler.parse(prototxt(bn(fields), [X], 1))
    return netcompiler.compile(msg, phase=phase, optimize=False, device="cpu", dtype="float64", dialect=dialect)


def test_stored_statistics():
    x = np.random.default_rng(1).standard_normal(X)
    mean = x.mean((0, 2, 3))
    variance = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
    for fields, share in (("momentum: 0.75", 0.25), ("decay: 0.75", 0.75)):
        n = net(fields)
        n(x)
        held = n.caffe_params()["it"]
        np.testing.assert_allclose(held[2].ravel(), share * mean)
        np.testing.assert_allclose(held[3].ravel(), share * variance)


def test_gradient_of_stored_statistics_is_the_batch_s():
    n = net("eps: 0.1", "TEST")
    blobs = [np.full(C, v) for v in (2.0, 1.0, 0.5, 3.0)]
    n.load_caffe_params({"it": blobs})
    x = torch.randn(X, dtype=torch.float64, requires_grad=True)
    g = torch.randn(X, dtype=torch.float64)
    (n(x)["t0"] * g).sum().backward()
    scale = 3.1**-0.5
    y, g2 = (x.detach() - 0.5) * scale, 2 * g
    others = (0, 2, 3)
    want = (g2 - g2.mean(others, True) - y * (g2 * y).mean(others, True)) * scale
    torch.testing.assert_close(x.grad, want)


def test_frozen_weights_take_no_gradient():
    n = net("frozen: true")
    n(torch.randn(X, dtype=torch.float64, requires_grad=True))["t0"].sum().backward()
    assert not n.caffe_grads()["it"][0].any() and not n.caffe_grads()["it"][1].any()


@pytest.mark.parametrize(("dialect", "count"), [("pspnet", 4), ("ctpn", 4), ("segnet", 2), (None, 2)])
def test_dialect_decides_last(dialect, count):
    assert len(net("", "TEST", dialect).caffe_params()["it"]) == count
    assert len(net("bn_mode: INFERENCE", "TEST", dialect).caffe_params()["it"]) == 2


def test_wrong_number_of_blobs_is_told_apart():
    blobs = {"it": [np.ones(C, np.float32)] * 4}
    with pytest.raises(NetError, match="dialect pspnet or ctpn"):
        netcompiler.compile(netcompiler.parse(prototxt(bn(), [X], 1)), blobs, device="cpu")
