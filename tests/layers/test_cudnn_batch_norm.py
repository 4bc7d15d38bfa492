import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def norm(fields=""):
    return f'type: "CuDNNBatchNorm" cudnn_batch_norm_param {{ {fields} }}'


def of_batch(eps):
    def want(x, weight, bias, mean, variance):
        m, v = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
        return (x - m) / np.sqrt(v + eps) * weight + bias

    return want


def stored(eps):
    return lambda x, weight, bias, mean, variance: (x - mean) / np.sqrt(variance + eps) * weight + bias


X, C = (2, 3, 4, 5), (1, 3, 1, 1)
BLOBS = dict.fromkeys(("weight", "bias", "mean", "variance"), C)
ROWS = [
    Row("train", norm("eps: 0.1"), [X], [X], of_batch(0.1), BLOBS, 120, "TRAIN"),
    Row("test", norm("eps: 0.1"), [X], [X], stored(0.1), BLOBS, 120),
    Row("least eps", norm("eps: 0"), [X], [X], stored(1e-5), BLOBS, 120),
    Row("frozen", norm("frozen: true eps: 0.1"), [X], [X], stored(0.1), BLOBS, 120, "TRAIN", gradient=False),
    Row(
        "one value",
        norm(),
        [(1, 3, 1, 1)],
        [(1, 3, 1, 1)],
        lambda x, weight, bias, mean, variance: bias,
        BLOBS,
        3,
        "TRAIN",
    ),
]
test_row, test_gradient, test_bad = suite(ROWS, [Bad("rank", norm(), [(3,)], "bottom 0 has too few axes")])


def test_stored_statistics_and_frozen_weights():
    x = np.random.default_rng(0).standard_normal(X)
    for fields, changes in (("momentum: 0.75", True), ("momentum: 0.75 frozen: true", False)):
        msg = netcompiler.parse(prototxt(norm(fields), [X], 1))
        net = netcompiler.compile(msg, phase="TRAIN", optimize=False, device="cpu", dtype="float64")
        net(torch.tensor(x, requires_grad=True))["t0"].sum().backward()
        _, _, mean, variance = net.caffe_params()["it"]
        if changes:
            np.testing.assert_allclose(mean.ravel(), 0.25 * x.mean((0, 2, 3)))
            np.testing.assert_allclose(variance.ravel(), 0.25 * x.var((0, 2, 3), ddof=1))
        else:
            assert not mean.any() and (variance == 1).all()
        assert net.caffe_grads()["it"][1].any() == changes
