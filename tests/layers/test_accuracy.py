import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.errors import NetError

from .table import Bad, Row, labels, prototxt, suite


def naive(top_k=1, axis=1, ignore=None, per_class=False):
    """Caffe's rule by loops: right if fewer than top_k other classes score at least as much."""

    def accuracy(scores, truth):
        scores = np.moveaxis(scores, axis, -1).reshape(-1, scores.shape[axis])
        right, count = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
        for row, label in zip(scores, truth.reshape(-1).astype(int), strict=True):
            if label == ignore:
                continue
            count[label] += 1
            right[label] += sum(row[c] >= row[label] for c in range(len(row)) if c != label) < top_k
        total = right.sum() / count.sum() if count.sum() else 0.0
        each = [r / c if c else 0.0 for r, c in zip(right, count, strict=True)]
        return [total, each] if per_class else total

    return accuracy


def accuracy(fields):
    return f'type: "Accuracy" accuracy_param {{ {fields} }}'


def tied(rng, shape):
    return rng.integers(0, 3, shape).astype(np.float64)


MANY = [(37, 5), (37,)]
ROWS = [
    Row("top 1", 'type: "Accuracy"', MANY, [()], naive(), feed={1: labels(5)}, gradient=False),
    Row("top 3", accuracy("top_k: 3"), MANY, [()], naive(3), feed={1: labels(5)}, gradient=False),
    Row("top all", accuracy("top_k: 5"), MANY, [()], lambda x, t: 1.0, feed={1: labels(5)}, gradient=False),
    Row("equal scores", accuracy("top_k: 2"), MANY, [()], naive(2), feed={0: tied, 1: labels(5)}, gradient=False),
    Row(
        "the least is the best (happynear)",
        accuracy("top_k: 2 min_is_better: true"),
        MANY,
        [()],
        lambda x, t: np.mean([k in np.argsort(row, kind="stable")[:2] for row, k in zip(x, t, strict=True)]),
        feed={0: tied, 1: labels(5)},
        gradient=False,
    ),
    Row(
        "every score equal counts as wrong",
        'type: "Accuracy"',
        MANY,
        [()],
        lambda x, t: 0.0,
        feed={0: lambda rng, s: np.ones(s), 1: labels(5)},
        gradient=False,
    ),
    Row(
        "each place of an image, ignored label",
        accuracy("ignore_label: 1"),
        [(2, 5, 3, 7), (2, 1, 3, 7)],
        [()],
        naive(ignore=1),
        feed={1: labels(5)},
        gradient=False,
    ),
    Row(
        "ignored label is no class",
        accuracy("ignore_label: 255"),
        [(2, 5, 3, 7), (2, 3, 7)],
        [()],
        naive(ignore=255),
        feed={1: lambda rng, s: rng.choice([0.0, 1, 4, 255], s)},
        gradient=False,
    ),
    Row(
        "nothing to count",
        accuracy("ignore_label: 2"),
        [(3, 5), (3,)],
        [(), (5,)],
        lambda x, t: [0.0, np.zeros(5)],
        feed={1: lambda rng, s: np.full(s, 2.0)},
        gradient=False,
    ),
    Row(
        "each class, last axis",
        accuracy("top_k: 2 axis: -1"),
        [(11, 3, 7), (11, 3)],
        [(), (7,)],
        naive(2, axis=2, per_class=True),
        feed={1: labels(5)},
        gradient=False,
    ),
]
BAD = [
    Bad("top_k", accuracy("top_k: 6"), MANY, "top_k is out of range", at="top_k"),
    Bad("top_k 0", accuracy("top_k: 0"), MANY, "top_k is out of range", at="top_k"),
    Bad("labels", 'type: "Accuracy"', [(3, 5), (4,)], "number of labels"),
    Bad("axis", accuracy("axis: 2"), MANY, "axis is out of range", at="axis"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_no_gradient():
    net = netcompiler.compile(netcompiler.parse(prototxt('type: "Accuracy"', MANY, 1)), optimize=False, device="cpu")
    feeds = torch.rand(37, 5, requires_grad=True), torch.zeros(37)
    with pytest.raises(NetError, match="passes no gradient"):
        net(*feeds)["t0"].backward()


@pytest.mark.parametrize("label", [-1, 5])
def test_label_out_of_range(label):
    net = netcompiler.compile(netcompiler.parse(prototxt('type: "Accuracy"', MANY, 1)), optimize=False, device="cpu")
    with pytest.raises(NetError, match="out of range") as caught:
        net(torch.rand(37, 5), torch.full((37,), label))
    assert (caught.value.expected, caught.value.got) == ("0 to 4", label)
