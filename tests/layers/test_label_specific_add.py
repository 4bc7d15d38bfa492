import numpy as np

import netcompiler

from .table import Bad, Row, labels, prototxt, suite


def add(fields=""):
    return f'type: "LabelSpecificAdd" label_specific_add_param {{ {fields} }}'


def rescale(fields=""):
    return f'type: "LabelSpecificRescale" label_specific_rescale_param {{ {fields} }}'


def added(bias):
    def want(x, truth):
        y = x.copy()
        for i, t in enumerate(truth.ravel().astype(int)):
            flat = y[i].reshape(-1)
            flat[t] += bias * (flat[t] > -bias)
        return y

    return want


def rescaled(pos, neg, shift):
    def want(x, truth):
        y = x * neg
        for i, t in enumerate(truth.ravel().astype(int)):
            y[i].reshape(-1)[t] = x[i].reshape(-1)[t] * pos + shift
        return y

    return want


X = [(6, 4), (6,)]
FED = {1: labels(4)}
ROWS = [
    Row("margin", add("bias: -0.35"), X, X[:1], added(-0.35), phase="TRAIN", feed=FED),
    Row("margin in TEST", add("bias: -0.35 transform_test: true"), X, X[:1], lambda x, t: x, feed=FED),
    Row(
        "growing",
        add("bias_base: -0.1 bias_gamma: 0.5 iteration: 2 bias_min: -1 bias_max: 0.7"),
        X,
        X[:1],
        added(0.7),
        phase="TRAIN",
        feed=FED,
    ),
    Row("image", add("bias: 0.5"), [(3, 2, 2, 1), (3, 1)], [(3, 2, 2, 1)], added(0.5), phase="TRAIN", feed=FED),
    Row(
        "scales",
        rescale("positive_weight: 2 negative_weight: 0.5"),
        X,
        X[:1],
        rescaled(2, 0.5, 0),
        phase="TRAIN",
        feed=FED,
    ),
    Row("scales in TEST", rescale("positive_weight: 2"), X, X[:1], lambda x, t: x, feed=FED),
    Row(
        "scales anyway",
        rescale("positive_weight: 3 for_ip: true rescale_test: true"),
        X,
        X[:1],
        rescaled(3, 1, -2),
        feed=FED,
    ),
]
BAD = [
    Bad("labels", add(), [(6, 4), (5,)], "bottom 1 has the wrong shape"),
    Bad(
        "base",
        rescale("positive_weight_base: 2"),
        X,
        "positive_weight_base is not supported",
        at="positive_weight_base",
    ),
    Bad("fix", rescale("bias_fix: true"), X, "bias_fix is not supported", at="bias_fix"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_bias_changes_with_time():
    text = prototxt(add("bias_base: -1 bias_gamma: 1 bias_power: 2 iteration: 1 bias_max: 9"), [(1, 2), (1,)], 1)
    net = netcompiler.compile(netcompiler.parse(text), phase="TRAIN", optimize=False, device="cpu", dtype="float64")
    found = [float(net(np.array([[0.0, 20.0]]), np.ones(1))["t0"][0, 1]) - 20 for _ in range(3)]
    assert found == [min(-1 + (1 + 1 + i) ** 2 - 1, 9) for i in range(3)]
