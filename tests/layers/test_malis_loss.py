import itertools

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.errors import NetError

from .table import Bad, Row, labels, prototxt, suite

AFFINITY, COMPONENTS, MALIS = (f'type: "{kind}"' for kind in ("Affinity", "ConnectedComponent", "MalisLoss"))


def neighbours(*channels):
    def want(*bottoms):
        tops = []
        for x, c in zip(bottoms, channels, strict=True):
            top = np.zeros((1, 2, *x.shape[2:]))
            for i, j in itertools.product(range(x.shape[2] - 1), range(x.shape[3] - 1)):
                top[0, :, i, j] = [min(x[0, c, i, j], x[0, c, i + 1, j]), min(x[0, c, i, j], x[0, c, i, j + 1])]
            tops.append(top)
        return tops

    return want


def filled(x):
    """Flood fill, pixel by pixel."""
    top = x.astype(int)
    for image in top.reshape(-1, *x.shape[2:]):
        most = image.max()
        number = most + 1
        for i, j in itertools.product(*map(range, image.shape)):
            if not 0 < image[i, j] <= most:
                continue
            label, left = image[i, j], [(i, j)]
            while left:
                a, b = left.pop()
                if 0 <= a < image.shape[0] and 0 <= b < image.shape[1] and image[a, b] == label:
                    image[a, b] = number
                    left += [(a + 1, b), (a - 1, b), (a, b + 1), (a, b - 1)]
            number += 1
    return top


def largest_path(edges, steps):
    """For each pair of pixels the smallest edge of the best way between them, and which edge that is."""
    shape = edges.shape[1:]
    places = list(itertools.product(*map(range, shape)))
    best = {(a, a): (np.inf, None) for a in places}
    for (e, *at), value in np.ndenumerate(edges):
        to = tuple(np.add(at, steps[e]))
        if to in best or (to, to) in best:
            best[tuple(at), to] = best[to, tuple(at)] = (value, (e, *at))
    for k, a, b in itertools.product(places, places, places):
        way = min(best.get((a, k), (-np.inf, None)), best.get((k, b), (-np.inf, None)), key=lambda v: v[0])
        if way[0] > best.get((a, b), (-np.inf, None))[0]:
            best[a, b] = way
    return best, places


def side(edges, steps, areas, same):
    best, places = largest_path(edges, steps)
    loss, off, count = 0.0, np.zeros(edges.shape), 0
    for a, b in itertools.combinations(places, 2):
        if not areas[a] or not areas[b] or (areas[a] == areas[b]) != same:
            continue
        count += 1
        value, at = best.get((a, b), (None, None))
        if at is None:
            continue
        loss += (same - value) ** 2
        off[at] += same - value
    return (loss / count, off / count) if count else (0.0, off)


def naive(x, t, areas, steps=None):
    image = (1,) * (5 - x.ndim) + x.shape[2:]
    a, t = (b.reshape(-1, *image) for b in (x, t))
    steps = np.eye(3)[3 - len(a) :] if steps is None else steps.reshape(-1, 3)
    steps = steps.astype(int)
    areas = areas.reshape(image)
    apart, joined = side(np.maximum(a, t), steps, areas, 0), side(np.minimum(a, t), steps, areas, 1)
    return (apart[0] + joined[0]) / 2, -(apart[1] + joined[1]).reshape(x.shape) / 2


def unit(rng, shape):
    return rng.random(shape)


def lead(rng, shape):
    return np.array([[0, 1, 1], [0, -1, 0], [0, 0, 2]]).reshape(shape)


FED = {0: unit, 1: unit, 2: labels(3)}
X = [(1, 2, 3, 4), (1, 2, 3, 4), (1, 1, 3, 4)]
ROWS = [
    Row("neighbours", AFFINITY, [(1, 2, 3, 4)], [(1, 2, 3, 4)], neighbours(0), gradient=False),
    Row(
        "of two",
        AFFINITY + " affinity_param { offset: 1 offset: 0 }",
        [(1, 2, 3, 4), (2, 1, 2, 2)],
        [(1, 2, 3, 4), (1, 2, 2, 2)],
        neighbours(1, 0),
        gradient=False,
    ),
    Row("areas", COMPONENTS, [(2, 2, 7, 9)], [(2, 2, 7, 9)], filled, feed={0: labels(3)}, gradient=False),
    Row("one area", COMPONENTS, [(1, 1, 5, 1)], [(1, 1, 5, 1)], filled, feed={0: labels(2)}, gradient=False),
    Row("malis", MALIS, X, [()], lambda *b: naive(*b)[0], feed=FED, gradient=False),
    Row("and its input", MALIS, X, [(), X[0]], lambda *b: [naive(*b)[0], b[0]], feed=FED, gradient=False),
    Row(
        "volume",
        MALIS,
        [(1, 3, 2, 2, 2), (1, 3, 2, 2, 2), (1, 1, 2, 2, 2)],
        [()],
        lambda *b: naive(*b)[0],
        feed=FED,
        gradient=False,
    ),
    Row("line", MALIS, [(1, 1, 5), (1, 1, 5), (1, 1, 5)], [()], lambda *b: naive(*b)[0], feed=FED, gradient=False),
    Row(
        "other edges",
        MALIS,
        [(1, 3, 3, 3), (1, 3, 3, 3), (1, 1, 3, 3), (3, 3)],
        [()],
        lambda *b: naive(*b)[0],
        feed={**FED, 3: lead},
        gradient=False,
    ),
    Row("no pairs", MALIS, X, [()], lambda *b: 0.0, feed={**FED, 2: labels(1)}, gradient=False),
]
BAD = [
    Bad("channel", AFFINITY + " affinity_param { offset: 2 }", [(1, 2, 3, 4)], "offset is no channel", at="offset"),
    Bad("one top", AFFINITY, [(1, 2, 3, 4)] * 2, "the wrong number of tops"),
    Bad("axes", COMPONENTS, [(2, 3, 4)], "wrong number of axes"),
    Bad("batch", MALIS, [(2, 2, 3, 4)] * 2 + [(2, 1, 3, 4)], "wrong number of items"),
    Bad("truth", MALIS, [(1, 2, 3, 4), (1, 2, 3, 3), (1, 1, 3, 4)], "bottom 1 has the wrong shape"),
    Bad("areas", MALIS, [(1, 2, 3, 4)] * 3, "bottom 2 has the wrong shape"),
    Bad("edges", MALIS, [*X, (2, 2)], "bottom 3 has the wrong shape"),
    Bad("no edges", MALIS, [(1, 4, 3, 4)] * 2 + [(1, 1, 3, 4)], "bottom 3 is missing"),
    Bad("flat", MALIS, [(1, 2)] * 3, "too few axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_gradient_is_the_forks():
    rng = np.random.default_rng(3)
    a, t, areas = rng.random(X[0]), rng.random(X[1]), rng.integers(0, 3, X[2])
    text = prototxt(MALIS + " loss_weight: 5", X, 1)
    net = netcompiler.compile(netcompiler.parse(text), phase="TRAIN", device="cpu", dtype="float64")
    x = torch.from_numpy(a).requires_grad_()
    (5 * net(x, t, areas)["t0"]).backward()
    np.testing.assert_allclose(x.grad, naive(a, t, areas)[1], atol=1e-12)


def test_gradient_of_affinity_goes_to_the_pixel():
    net = netcompiler.compile(netcompiler.parse(prototxt(AFFINITY, [(1, 2, 2, 3)], 1)), device="cpu")
    x = torch.rand((1, 2, 2, 3), requires_grad=True)
    weight = torch.rand((1, 2, 2, 3))
    (net(x)["t0"] * weight).sum().backward()
    want = torch.zeros((1, 2, 2, 3))
    want[0, 0, 0, :2] = weight[0, :, 0, :2].sum(0)
    want[0, 1] = -want[0, 0]
    torch.testing.assert_close(x.grad, want)


def test_labels_are_bytes():
    net = netcompiler.compile(netcompiler.parse(prototxt(COMPONENTS, [(1, 1, 1, 2)], 1)), device="cpu")
    with pytest.raises(NetError, match="a label is out of range"):
        net(np.array([[[[128.0, 0]]]]))
