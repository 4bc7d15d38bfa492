import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, suite

IMAGE = [(2, 3, 5, 7)]
BLOBS = {"mean": (3,), "variance": (3,), "scale_factor": (1,)}


def stored(eps=1e-5):
    def norm(x, mean, variance, scale_factor):
        y = np.empty_like(x)
        for c in range(x.shape[1]):
            y[:, c] = (x[:, c] - mean[c] / scale_factor[0]) / np.sqrt(variance[c] / scale_factor[0] + eps)
        return y

    return norm


def batch(eps=1e-5):
    def norm(x, **blobs):
        y = np.empty_like(x)
        for c in range(x.shape[1]):
            centred = x[:, c] - x[:, c].mean()
            y[:, c] = centred / np.sqrt((centred**2).mean() + eps)
        return y

    return norm


def norm(fields: str = "") -> str:
    return f'type: "BatchNorm" batch_norm_param {{ {fields} }}'


ROWS = [
    Row("TEST", norm(), IMAGE, IMAGE, stored(), BLOBS, 210),
    Row("TEST, eps", norm("eps: 0.5"), IMAGE, IMAGE, stored(0.5), BLOBS, 210),
    Row("TEST by the batch", norm("use_global_stats: false"), IMAGE, IMAGE, batch(), BLOBS, 210),
    Row("TRAIN", norm(), IMAGE, IMAGE, batch(), BLOBS, 210, phase="TRAIN"),
    Row("TRAIN, eps", norm("eps: 0.5"), IMAGE, IMAGE, batch(0.5), BLOBS, 210, phase="TRAIN"),
    Row("TRAIN, stored", norm("use_global_stats: true"), IMAGE, IMAGE, stored(), BLOBS, 210, phase="TRAIN"),
    Row("two axes", norm(), [(5, 3)], [(5, 3)], batch(), BLOBS, 15, phase="TRAIN"),
    Row("one value for each channel", norm(), [(1, 3)], [(1, 3)], lambda x, **b: 0 * x, BLOBS, 3, phase="TRAIN"),
    Row("no scale", norm("scale_bias: false"), IMAGE, IMAGE, stored(), BLOBS, 210),
    Row("engine", norm("engine: CUDNN"), IMAGE, IMAGE, stored(), BLOBS, 210),
]
BAD = [
    Bad("one axis", norm(), [(5,)], "bottom 0 has too few axes"),
    Bad("learned statistics", "param { lr_mult: 1 }" + norm(), IMAGE, "statistics are not learned", at="lr_mult"),
    Bad(
        "NVCaffe's scale",
        "param { lr_mult: 1 }" + norm("scale_bias: true"),
        IMAGE,
        "scale_bias is not supported",
        at="scale_bias",
    ),
    Bad("Intel's ReLU", norm("relu: true"), IMAGE, "relu is not supported", at="relu"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)

NET = 'layer {{ name: "x" type: "Input" top: "x" }} layer {{ name: "n" bottom: "x" top: "y" {} }}'


def compiled(layer: str, shape: tuple[int, ...], phase: str) -> netcompiler.CompiledNet:
    net = netcompiler.parse(NET.format(layer))
    return netcompiler.compile(net, inputs={"x": shape}, phase=phase, optimize=False, device="cpu", dtype="float64")


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 3)])
def test_train_moves_the_stored_statistics(shape):
    """They are raw running sums: divided by scale_factor they are an average that forgets."""
    net = compiled(norm("moving_average_fraction: 0.75"), shape, "TRAIN")
    rng = np.random.default_rng(1)
    mean, variance, scale_factor = np.zeros(3), np.zeros(3), 0.0
    for _ in range(3):
        x = rng.standard_normal(shape)
        net(x)
        values = x.swapaxes(0, 1).reshape(3, -1)
        m = values.shape[1]
        mean = 0.75 * mean + values.mean(1)
        variance = 0.75 * variance + values.var(1) * (m / (m - 1) if m > 1 else 1)
        scale_factor = 0.75 * scale_factor + 1
    got = net.caffe_params()["n"]
    np.testing.assert_allclose(got[0], mean)
    np.testing.assert_allclose(got[1], variance)
    np.testing.assert_allclose(got[2], [scale_factor])


def test_test_leaves_the_statistics_alone():
    net = compiled(norm(), (2, 3, 5), "TEST")
    before = [np.array([1.0, 2, 3]), np.array([3.0, 4, 5]), np.array([2.0])]
    net.load_caffe_params({"n": before})
    net(np.ones((2, 3, 5)))
    for a, b in zip(before, net.caffe_params()["n"], strict=True):
        np.testing.assert_array_equal(a, b)


def test_scale_factor_0_means_no_statistics():
    net = compiled(norm("eps: 0.25"), (2, 3, 5), "TEST")
    net.load_caffe_params({"n": [np.array([1.0, 2, 3]), np.array([3.0, 4, 5]), np.array([0.0])]})
    x = np.random.default_rng(2).standard_normal((2, 3, 5))
    np.testing.assert_allclose(net(x)["y"].numpy(), x / 0.5)


def test_statistics_are_buffers():
    net = compiled(norm(), (2, 3, 5), "TRAIN")
    assert list(net.parameters()) == []
    y = net(torch.ones(2, 3, 5, dtype=torch.float64, requires_grad=True))["y"]
    y.sum().backward()
    assert all(blob.max() == 0 for blob in net.caffe_grads()["n"])


def test_bfloat16_statistics_are_exact():
    """A mean of 1000 and a deviation of 1 leave nothing when bfloat16 divides them by the scale factor."""
    net = netcompiler.parse(NET.format(norm()))
    net = netcompiler.compile(net, inputs={"x": (1, 1)}, optimize=False, device="cpu", dtype="bfloat16")
    net.load_caffe_params({"n": [np.array([1000.0]), np.array([3.0]), np.array([3.0])]})
    y = net(np.array([[334.0]]))["y"]
    assert y.dtype == torch.bfloat16
    assert abs(float(y) - 2 / 3) < 0.01
