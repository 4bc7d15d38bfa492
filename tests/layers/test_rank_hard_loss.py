import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def rank(fields=""):
    return f'type: "RankHardLoss" rank_param {{ {fields} }}'


def naive(x, y, neg_num, pair_size, margin, chosen=None):
    x, y = x.reshape(len(x), -1), y.reshape(-1)
    loss, gradient = 0.0, np.zeros_like(x)
    count = neg_num * len(x) // pair_size * 2
    for i in range(0, len(x), pair_size):
        places = [j for j in range(len(x)) if y[j] != y[i] and margin - x[i] @ x[i + 1] + x[i] @ x[j] > 0]
        places.sort(key=lambda j: -(x[i] @ x[j]))
        if len(places) > neg_num:
            places = chosen(places)
        for j in places:
            for first, second in ((i, i + 1), (i + 1, i)):
                part = margin - x[i] @ x[i + 1] + x[first] @ x[j]
                if part > 0:
                    loss += part
                    gradient[first] += x[j] - x[second]
                    gradient[second] -= x[first]
                    gradient[j] += x[first]
    return loss / count, gradient / count


def pairs(rng, shape):
    return np.repeat(np.arange(shape[0] // 2) % 3, 2).astype(float).reshape(shape)


X = [(8, 5), (8,)]
ROWS = [
    Row(
        "all",
        rank("neg_num: 8 pair_size: 2"),
        X,
        [()],
        lambda x, y: naive(x, y, 8, 2, 0.5)[0],
        feed={1: pairs},
        gradient=False,
    ),
    Row(
        "hard ones",
        rank("neg_num: 2 pair_size: 4 hard_ratio: 1 margin: 2"),
        [(8, 5, 1, 1), (8, 1)],
        [()],
        lambda x, y: naive(x, y, 2, 4, 2, lambda p: p[:2])[0],
        feed={1: pairs},
        gradient=False,
    ),
]
BAD = [
    Bad("labels", rank("pair_size: 2"), [(8, 5), (7,)], "bottom 1 has the wrong shape"),
    Bad("half a pair", rank("pair_size: 2"), [(7, 5), (7,)], "the last pair is not whole"),
    Bad("pair", rank("pair_size: 1"), X, "pair_size is too small", at="pair_size"),
    Bad("none", rank("pair_size: 2 neg_num: 0"), X, "neg_num must be positive", at="neg_num"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_gradient_is_not_weighted():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal(X[0]), pairs(rng, X[1])
    text = prototxt(rank("neg_num: 8 pair_size: 2") + " loss_weight: 3", X, 1)
    net = netcompiler.compile(netcompiler.parse(text), phase="TRAIN", device="cpu", dtype="float64")
    given = torch.from_numpy(x).requires_grad_()
    (3 * net(given, y)["t0"]).backward()
    np.testing.assert_allclose(given.grad, naive(x, y, 8, 2, 0.5)[1], atol=1e-12)


def test_random_ones():
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((12, 5)), pairs(rng, (12,))
    text = prototxt(rank("pair_size: 2 neg_num: 3 hard_ratio: 0.4 rand_ratio: 0.7 margin: 9"), [(12, 5), (12,)], 1)
    net = netcompiler.compile(netcompiler.parse(text), phase="TRAIN", device="cpu", dtype="float64")
    drawn = {round(float(net(x, y)["t0"].detach()), 9) for _ in range(12)}
    assert len(drawn) > 1
