import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def resample(fields=""):
    return f'type: "Resample" resample_param {{ {fields} }}'


def downsample(fields=""):
    return f'type: "Downsample" downsample_param {{ {fields} }}'


def linear(d):
    return max(0.0, 1 - abs(d))


def cubic(d):
    d = abs(d)
    if d <= 1:
        return d * d * (1.5 * d - 2.5) + 1
    return d * (d * (2.5 - 0.5 * d) - 4) + 2 if d < 2 else 0.0


def resampled(h2, w2, weight=linear, antialias=True):
    def want(x, *_):
        n, c, h, w = x.shape
        fy, fx = h / h2, w / w2
        smooth = antialias and max(fy, fx) > 1
        y = np.zeros((n, c, h2, w2))
        for i, j in np.ndindex(h2, w2):
            r, s = i * fy + fx / 2 - 0.5, j * fx + fy / 2 - 0.5
            total = 0
            for a, b in np.ndindex(h, w):
                u = weight((r - a) / (fy if smooth else 1)) * weight((s - b) / (fx if smooth else 1))
                y[:, :, i, j] += u * x[:, :, a, b]
                total += u
            y[:, :, i, j] = y[:, :, i, j] / total if total else 0
        return y

    return want


def averaged(h2, w2):
    def want(x, *_):
        n, c, h, w = x.shape
        sy, sx = (h - 1) / (h2 - 1), (w - 1) / (w2 - 1)
        y = np.zeros((n, c, h2, w2))
        for b, d, i, j in np.ndindex(*y.shape):
            total = lost = value = 0
            for r, s in np.ndindex(h, w):
                u = linear((r - i * sy) / sy) * linear((s - j * sx) / sx)
                if np.isnan(x[b, d, r, s]):
                    lost += u
                else:
                    total, value = total + u, value + u * x[b, d, r, s]
            y[b, d, i, j] = np.nan if lost / total > 0.5 else value / total
        return y

    return want


def holes(rng, shape):
    x = rng.standard_normal(shape)
    x[rng.random(shape) < 0.25] = np.nan
    return x


X = (2, 2, 6, 8)
ROWS = [
    Row("up", resample("height: 12 width: 16"), [X], [(2, 2, 12, 16)], resampled(12, 16), gradient=False),
    Row("down", resample("height: 3 width: 4"), [X], [(2, 2, 3, 4)], resampled(3, 4), gradient=False),
    Row("odd", resample("height: 4 width: 11"), [X], [(2, 2, 4, 11)], resampled(4, 11), gradient=False),
    Row(
        "sharp",
        resample("height: 3 width: 4 antialias: false"),
        [X],
        [(2, 2, 3, 4)],
        resampled(3, 4, antialias=False),
        gradient=False,
    ),
    Row(
        "cubic",
        resample("height: 9 width: 12 type: CUBIC"),
        [X],
        [(2, 2, 9, 12)],
        resampled(9, 12, cubic),
        gradient=False,
    ),
    Row(
        "cubic down", resample("type: CUBIC"), [X, (1, 1, 3, 3)], [(2, 2, 3, 3)], resampled(3, 3, cubic), gradient=False
    ),
    Row(
        "nearest",
        resample("factor: 2 type: NEAREST"),
        [X],
        [(2, 2, 12, 16)],
        lambda x: np.repeat(np.repeat(x, 2, 2), 2, 3),
        gradient=False,
    ),
    Row("downsample", downsample("top_height: 3 top_width: 5"), [X], [(2, 2, 3, 5)], averaged(3, 5), gradient=False),
    Row("downsample like a bottom", downsample(), [X, (1, 1, 4, 2)], [(2, 2, 4, 2)], averaged(4, 2), gradient=False),
    Row(
        "holes",
        downsample("top_height: 3 top_width: 5"),
        [X],
        [(2, 2, 3, 5)],
        averaged(3, 5),
        feed={0: holes},
        gradient=False,
    ),
    Row("downsample to the same", downsample("top_height: 6 top_width: 8"), [X], [X], lambda x: x),
]
BAD = [
    Bad("area", resample("height: 2 width: 2 type: AREA"), [X], "unknown type", at="type"),
    Bad("no size", resample("height: 2"), [X], "the size is not told"),
    Bad("two sizes", resample("factor: 2 height: 2"), [X], "the only size", at="factor"),
    Bad("one pixel", downsample("top_height: 1 top_width: 2"), [X], "a side of one pixel"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_downsample_refuses_a_gradient():
    text = prototxt(downsample("top_height: 3 top_width: 5"), [X], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    y = net(torch.randn(X, requires_grad=True))["t0"].sum()
    try:
        y.backward()
    except netcompiler.NetError as e:
        assert "passes no gradient" in str(e)
    else:
        raise AssertionError
