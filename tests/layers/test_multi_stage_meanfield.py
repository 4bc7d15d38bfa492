from itertools import pairwise

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError
from netcompiler.layers.permutohedral import Lattice, places

from .table import Bad, Row, prototxt, suite


def lattice_filter(features, values):
    """The published filter, point by point, with a dict of lattice points; values C x P."""
    d, table, corners = features.shape[1], {}, []
    for point in features:
        scaled = [x * np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2)) for i, x in enumerate(point)]
        raised = [sum(scaled)] + [sum(scaled[j:]) - j * scaled[j - 1] for j in range(1, d + 1)]
        near = [round(x / (d + 1)) for x in raised]
        rest = [x - (d + 1) * n for x, n in zip(raised, near, strict=True)]
        order = sorted(range(d + 1), key=lambda i: (-rest[i], i))
        rank = [order.index(i) + sum(near) for i in range(d + 1)]
        turn = [(r < 0) - (r > d) for r in rank]
        rank = [r + t * (d + 1) for r, t in zip(rank, turn, strict=True)]
        origin = [(n + t) * (d + 1) for n, t in zip(near, turn, strict=True)]
        sorted_rest = sorted(((x - o) / (d + 1) for x, o in zip(raised, origin, strict=True)))
        weights = [1 + sorted_rest[0] - sorted_rest[-1], *(b - a for a, b in pairwise(sorted_rest))]
        for r, weight in enumerate(weights):
            key = tuple(o + r - (d + 1) * (k > d - r) for o, k in zip(origin, rank, strict=True))
            corners.append((table.setdefault(key, len(table)), weight))
    held = np.zeros((len(table), len(values)))
    for i, (at, weight) in enumerate(corners):
        held[at] += weight * values[:, i // (d + 1)]
    for j in range(d + 1):
        step = np.array([-1] * (d + 1))
        step[j] = d
        sides = [[table.get(tuple(np.add(key, sign * step)), -1) for key in table] for sign in (1, -1)]
        padded = np.vstack((held, np.zeros(len(values))))
        held = held + 0.5 * (padded[sides[0]] + padded[sides[1]])
    out = np.zeros_like(values)
    for i, (at, weight) in enumerate(corners):
        out[:, i // (d + 1)] += weight * held[at]
    return out / (1 + 2.0**-d)


def grid(h, w):
    return np.array([(x, y) for y in range(h) for x in range(w)], float)


def softmax(x):
    e = np.exp(x - x.max(0))
    return e / e.sum(0)


def mean(features, values):
    return lattice_filter(features, values) / lattice_filter(features, np.ones((1, values.shape[1])))


def field(times, alpha, beta, gamma):
    def want(unary, start, image, spatial, bilateral, compatibility):
        n, c, h, w = unary.shape
        tops = []
        for i in range(n):
            near, q = grid(h, w) / gamma, start[i].reshape(c, -1)
            alike = np.hstack((grid(h, w) / alpha, image[i].reshape(3, -1).T / beta))
            for _ in range(times):
                p = softmax(q)
                message = spatial[0, 0] @ mean(near, p) + bilateral[0, 0] @ mean(alike, p)
                q = unary[i].reshape(c, -1) - compatibility[0, 0] @ message
            tops.append(q.reshape(c, h, w))
        return np.stack(tops)

    return want


def crf(fields="num_iterations: 3 theta_alpha: 5 theta_beta: 2 theta_gamma: 1.5"):
    return f'type: "MultiStageMeanfield" multi_stage_meanfield_param {{ {fields} }}'


X, P = (2, 3, 4, 5), (2, 3, 4, 5)
MATRICES = dict.fromkeys(("spatial", "bilateral", "compatibility"), (1, 1, 3, 3))
ROWS = [Row("three times", crf(), [X, X, P], [X], field(3, 5, 2, 1.5), MATRICES, macs=3 * 3 * 2 * 9 * 20)]
BAD = [
    Bad("once", crf("num_iterations: 1"), [X, X, P], "num_iterations must be above 1", at="num_iterations"),
    Bad("theta", crf("theta_beta: 0"), [X, X, P], "theta_beta must be positive", at="theta_beta"),
    Bad("mode", crf("compatibility_mode: LEARNT"), [X, X, P], "this compatibility_mode", at="compatibility_mode"),
    Bad("gray", crf(), [X, X, (2, 1, 4, 5)], "bottom 2 has the wrong shape"),
    Bad("start", crf(), [X, (2, 3, 5, 4), P], "bottom 1 has the wrong shape"),
    Bad("text", crf('bilateral_filter_weights_str: "1 2"'), [X, X, P], "cannot be read", at="bilateral"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_how_it_starts():
    fields = 'spatial_filter_weight: 2 bilateral_filter_weights_str: "4 5 6"'
    net = netcompiler.compile(netcompiler.parse(prototxt(crf(fields), [X, X, P], 1)), optimize=False, device="cpu")
    spatial, bilateral, compatibility = (b[0, 0] for b in net.caffe_params()["it"])
    np.testing.assert_array_equal(spatial, 2 * np.eye(3))
    np.testing.assert_array_equal(bilateral, np.diag([4, 5, 6]))
    np.testing.assert_array_equal(compatibility, -np.eye(3))


@pytest.mark.parametrize("d", [2, 5])
def test_the_filter(d):
    rng = np.random.default_rng(d)
    features, values = 3 * rng.random((60, d)), rng.standard_normal((2, 60))
    found = Lattice.of(torch.from_numpy(features)).filtered(torch.from_numpy(values))
    np.testing.assert_allclose(found, lattice_filter(features, values))


def test_the_filter_is_nearly_gaussian():
    at = places(20, 20, torch.zeros((), dtype=torch.float64)) / 3
    lattice = Lattice.of(at)
    values = torch.sin(at.sum(1))[None]
    weights = torch.exp(-torch.cdist(at, at).square() / 2)
    exact = values @ weights / weights.sum(1)
    assert (lattice.filtered(values) * lattice.scale() - exact).abs().mean() < 0.03


def test_points_too_far_apart():
    with pytest.raises(NetError, match="too far apart"):
        Lattice.of(torch.tensor([[0.0] * 5, [1e5] * 5]))
