"""Fillers by their statistics, and what they refuse."""

import numpy as np
import pytest

from netcompiler.errors import NetError
from netcompiler.fillers import Filler
from netcompiler.text import parse_message

SHAPE = (50, 40, 5, 4)  # fan in 800, fan out 1000


def fill(text, shape=SHAPE, seed=0):
    return Filler.read(parse_message(text, kind="FillerParameter")).fill(shape, np.random.default_rng(seed))


# name, text, mean, variance, least, most
STATISTICS = [
    ("default", "", 0, 0, 0, 0),
    ("constant", "value: 0.5", 0.5, 0, 0.5, 0.5),
    ("uniform", 'type: "uniform" min: -1 max: 3', 1, 16 / 12, -1, 3),
    ("gaussian", 'type: "gaussian" mean: 2 std: 0.5', 2, 0.25, -2, 6),
    ("sparse", 'type: "gaussian" std: 1 sparse: 10', 0, 0.2, -9, 9),
    ("xavier", 'type: "xavier"', 0, 1 / 800, -np.sqrt(3 / 800), np.sqrt(3 / 800)),
    ("xavier out", 'type: "xavier" variance_norm: FAN_OUT', 0, 1 / 1000, -np.sqrt(3 / 1000), np.sqrt(3 / 1000)),
    ("msra", 'type: "msra"', 0, 2 / 800, -1, 1),
    ("msra average", 'type: "msra" variance_norm: AVERAGE', 0, 2 / 900, -1, 1),
]


@pytest.mark.parametrize("case", STATISTICS, ids=lambda s: s[0])
def test_statistics(case):
    _, text, mean, variance, least, most = case
    values = fill(text)
    assert values.shape == SHAPE and values.dtype == np.float32
    assert abs(values.mean() - mean) < 0.01 * max(1, abs(mean))
    assert abs(values.var() - variance) < 0.03 * max(variance, 1e-9)
    assert values.min() >= least - 1e-6 and values.max() <= most + 1e-6


@pytest.mark.parametrize(
    "kind", ["constant", "uniform", "gaussian", "xavier", "msra", "positive_unitball", "gaussian_unitball"]
)
def test_a_blob_without_values(kind):
    for shape in ((5, 0), (0, 5), (0,), ()):
        values = fill(f'type: "{kind}"', shape)
        assert isinstance(values, np.ndarray) and values.shape == shape


def test_sparse_of_minus_1_is_for_any_filler():
    assert fill('type: "constant" value: 2 sparse: -1').ravel()[0] == 2


def test_sparse_keeps_its_share():
    assert abs((fill('type: "gaussian" std: 1 sparse: 10') != 0).mean() - 10 / 50) < 0.01


def test_positive_unitball_rows_sum_to_one():
    values = fill('type: "positive_unitball"')
    assert values.min() >= 0
    np.testing.assert_allclose(values.reshape(50, -1).sum(1), 1, rtol=1e-5)


def test_gaussian_unitball_rows_have_length_one():
    values = fill('type: "gaussian_unitball"').reshape(50, -1)
    np.testing.assert_allclose((values**2).sum(1), 1, rtol=1e-5)
    assert abs(values.mean()) < 1e-3 and abs(values.var() * values.shape[1] - 1) < 0.01


def test_bilinear_interpolates_lines():
    kernel = fill('type: "bilinear"', (2, 1, 4, 4))
    line = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(kernel[1, 0], np.outer(line, line))
    assert (fill('type: "bilinear_upsampling"', (2, 1, 4, 4)) == kernel).all()  # ParseNet's name of it
    odd = fill('type: "bilinear"', (1, 1, 3, 3))
    np.testing.assert_allclose(odd[0, 0], np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))


# The k-th gabor filter of a set: height, width, frequency, direction, phase, colour.
GABOR = [
    ((96, 11), 0, 1 / 3, 0.5, 5 * np.pi, 0, 12 / 32 * np.pi, (1, 1, 1)),
    ((96, 11), 13, 1 / 3 / 1.625, 0.625, 5 * np.pi / 3.5, np.pi / 6, 44 / 32 * np.pi, (1, 1, 1)),
    ((96, 11), 50, 1 / 6, 1 / 1.5, np.pi / 4, 0, 0, (0.25, -1, 1)),
    ((96, 11), 61, 1 / 9, 2, 5 * np.pi / 8, 5 * np.pi / 8, np.pi / 2, (1, -0.5, -0.75)),
    ((96, 11), 90, 1 / 3, 0.6, 5 * np.pi / 16, 17 * np.pi / 16, np.pi / 2, (1, 1, 1)),
    ((96, 11), 95, 1 / 12, 0.75, 5 * np.pi / 4, 57 * np.pi / 32, np.pi / 2, (-1, -1, 1)),
    ((64, 7), 37, 0.5, 0.45, 3 * np.pi, 5 * np.pi / 8, np.pi, (1, 1, 1)),
    ((64, 3), 37, 0.5, 1, np.pi, 5 * np.pi / 8, np.pi, (1, 1, 1)),
    ((64, 7), 59, 1, 1, np.pi / 4, 13 * np.pi / 8, np.pi / 2, (0.25, -1, 1)),
    ((32, 5), 11, 0.5, 0.6, np.pi, 7 * np.pi / 12, 0, (1, 1, 1)),
    ((32, 5), 29, 0.5, 0.6, np.pi / 2, 5 * np.pi / 8, np.pi / 2, (-1, 1, -1)),
]


@pytest.mark.parametrize("case", GABOR, ids=lambda c: f"{c[0][0]} of {c[0][1]}, the {c[1]}th")
def test_gabor(case):
    (count, size), k, height, width, frequency, direction, phase, colour = case
    kernels = fill('type: "gabor" std: 0.01', (count, 3, size, size))
    for channel in range(3):
        for i in range(size):
            for j in range(size):
                x, y = 2 * j / (size - 1) - 1, 2 * i / (size - 1) - 1
                along = x * np.cos(direction) - y * np.sin(direction)
                value = height * np.exp(-(x**2 + y**2) / (2 * width**2)) * np.cos(along * frequency + phase)
                assert abs(kernels[k, channel, i, j] - colour[channel] * value) < 1e-6


def test_seeds():
    assert np.array_equal(fill('type: "xavier"', seed=1), fill('type: "xavier"', seed=1))
    assert not np.array_equal(fill('type: "xavier"', seed=1), fill('type: "xavier"', seed=2))


FAULTS = [
    ("type", 'type: "xaver"', SHAPE, 'did you mean "xavier"?'),
    ("sparse", 'type: "uniform" sparse: 3', SHAPE, "sparse is not supported"),
    ("negative sparse", 'type: "gaussian" sparse: -3', SHAPE, "cannot be negative"),
    ("std", 'type: "gaussian" std: -1', SHAPE, "cannot be negative"),
    ("bilinear", 'type: "bilinear"', (2, 1, 3, 4), "square 2-D kernels"),
    ("gabor's size", 'type: "gabor"', (96, 3, 7, 7), "expected: 32 x 3 x 5 x 5, 64 x 3 x 7 x 7, 64 x 3 x 3 x 3, 96"),
    ("gabor's channels", 'type: "gabor"', (96, 1, 11, 11), "does not make this shape"),
    ("gabor in 1-D", 'type: "gabor"', (96,), "got:      blob of shape 96"),
    ("scale", 'type: "msra" scale: 2', SHAPE, "scale, Intel Caffe's, is not supported"),
]


@pytest.mark.parametrize(("text", "shape", "message"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_fault(text, shape, message):
    with pytest.raises(NetError) as caught:
        fill(text, shape)
    assert message in str(caught.value)
