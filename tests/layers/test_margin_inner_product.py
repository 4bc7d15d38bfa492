from math import acos, cos, floor, pi

import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, labels, prototxt, suite

TIMES = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "QUADRUPLE": 4}


def margin(kind="SINGLE", fields="num_output: 4"):
    return f'type: "MarginInnerProduct" margin_inner_product_param {{ type: {kind} {fields} }}'


def psi(c, times):
    angle = times * acos(c)
    k = min(floor(angle / pi), times - 1)
    return (-1) ** k * cos(angle) - 2 * k


def naive(kind, share):
    def want(x, truth, weight):
        weight = weight / np.sqrt((weight**2).sum(1, keepdims=True))
        x = x.reshape(len(x), -1)
        y = x @ weight.T
        if kind != "SINGLE":
            for i, j in enumerate(truth.ravel().astype(int)):
                size = np.sqrt((x[i] ** 2).sum())
                y[i, j] = (size * psi(y[i, j] / size, TIMES[kind]) + share * y[i, j]) / (1 + share)
        return y

    return want


X, BLOBS = (9, 2, 3), {"weight": (4, 6)}
ROWS = [
    Row(kind, margin(kind), [X, (9,)], [(9, 4)], naive(kind, 1), BLOBS, 216, feed={1: labels(4)}, gradient=False)
    for kind in TIMES
]
ROWS += [
    Row(
        "lambda",
        margin("DOUBLE", "num_output: 4 base: 10 gamma: 0.5 power: 2 iteration: 3"),
        [X, (9,)],
        [(9, 4), (1,)],
        lambda x, truth, weight: (naive("DOUBLE", 10 / 9)(x, truth, weight), [10 / 9]),
        BLOBS,
        216,
        feed={1: labels(4)},
        gradient=False,
    ),
    Row(
        "least lambda",
        margin("TRIPLE", "num_output: 4 base: 10 gamma: 1 lambda_min: 6"),
        [X, (9,)],
        [(9, 4)],
        naive("TRIPLE", 6),
        BLOBS,
        216,
        feed={1: labels(4)},
        gradient=False,
    ),
]
BAD = [
    Bad("no output", margin("SINGLE", ""), [X, (9,)], "num_output must be positive"),
    Bad("gamma", margin("DOUBLE", "num_output: 4 gamma: -1"), [X, (9,)], "gamma is negative", at="gamma"),
    Bad("labels", margin(), [X, (9, 2)], "bottom 1 has the wrong shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def net(kind, fields="num_output: 4", tops=1):
    msg = netcompiler.parse(prototxt(margin(kind, fields), [(7, 3), (7,)], tops))
    n = netcompiler.compile(msg, optimize=False, device="cpu", dtype="float64")
    n.load_caffe_params({"it": [np.random.default_rng(5).standard_normal((4, 3))]})
    return n


def test_lambda_falls_and_the_weight_is_kept_scaled():
    n = net("DOUBLE", "num_output: 4 base: 8 gamma: 1", 2)
    x, truth = np.ones((7, 3)), np.zeros(7)
    assert [float(n(x, truth)["t1"]) for _ in range(3)] == [4, 8 / 3, 2]
    np.testing.assert_allclose((n.caffe_params()["it"][0] ** 2).sum(1), 1)


@pytest.mark.parametrize("kind", TIMES)
def test_gradients(kind):
    n = net(kind, "num_output: 4 base: 3")
    rng = np.random.default_rng(8)
    x, truth, g = rng.standard_normal((7, 3)), rng.integers(0, 4, 7), rng.standard_normal((7, 4))
    fed = torch.tensor(x, requires_grad=True)
    (n(fed, truth.astype(float))["t0"] * torch.tensor(g)).sum().backward()
    weight = n.caffe_params()["it"][0]
    np.testing.assert_allclose(n.caffe_grads()["it"][0], g.T @ x)
    want = g @ weight
    if kind != "SINGLE":
        for i, j in enumerate(truth):
            size, w = np.sqrt((x[i] ** 2).sum()), weight[j]
            c, step = x[i] @ w / size, 1e-6
            slope = (psi(c + step, TIMES[kind]) - psi(c - step, TIMES[kind])) / (2 * step)
            along = (psi(c, TIMES[kind]) - c * slope) / size
            inner = (slope * w + along * x[i]) / np.hypot(slope, along)
            want[i] += g[i, j] * ((inner + 3 * w) / 4 - w)
    np.testing.assert_allclose(fed.grad, want, rtol=1e-5, atol=1e-6)
