import numpy as np
import pytest

import netcompiler
from netcompiler import NetError

from .table import Bad, prototxt, suite


def sequence(fields=""):
    return f'type: "DataSequence" data_sequence_param {{ {fields} }}'


X = [(6, 2, 1, 3), (6,)]
BAD = [
    Bad("tops", sequence("k: 2"), X, "the wrong number of tops", tops=3),
    Bad("cache", sequence("cache_size: 0"), X, "cache_size must be positive", tops=2, at="cache_size"),
    Bad("labels", sequence(), [X[0], (6, 2)], "bottom 1 has the wrong shape", tops=2),
]
_, _, test_bad = suite([], BAD)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.float32)


def compiled(fields, tops):
    return netcompiler.compile(netcompiler.parse(prototxt(sequence(fields), X, tops)), optimize=False, device="cpu")


def batch(number):
    """Items that tell their batch, their place and their class."""
    x = np.zeros((6, 2, 1, 3), np.float32)
    x[..., 0], x[..., 1], x[..., 2] = number, np.arange(6)[:, None, None], LABELS[:, None, None]
    return x


@pytest.mark.parametrize("k", [1, 3])
def test_positives_and_negatives(k):
    net = compiled(f"k: {k} cache_size: 3 output_labels: true label_count: 3", 3 + k)
    seen = set()
    for number in range(30):
        anchor, *others, named = (t.numpy() for t in net(batch(number), LABELS).values())
        np.testing.assert_array_equal(anchor, batch(number))
        assert named.shape == (6, 2 + k, 1, 1) and (named[:, 0, 0, 0] == LABELS).all()
        for j, items in enumerate(others, 1):
            assert (items[:, 0, 0, 2] == named[:, j, 0, 0]).all()
            assert ((items[:, 0, 0, 2] == LABELS) == (j == 1)).all()
            assert (items[:, 0, 0, 0] >= number - 1).all() and (items[:, 0, 0, 0] <= number).all()
            seen |= {(int(number - item[0, 0, 0]), int(item[0, 0, 1])) for item in items}
    # Three of each class: both of this batch, and the second of the one before.
    assert seen == {(0, i) for i in range(6)} | {(1, i) for i in (3, 4, 5)}


@pytest.mark.parametrize("balanced", [False, True])
def test_pairs(balanced):
    net = compiled(f"balance_matches: {str(balanced).lower()}", 2)
    for number in range(5):
        _, other = net(batch(number), LABELS).values()
        alike = other.numpy()[:, 0, 0, 2] == LABELS
        assert alike.tolist() == [balanced and i % 2 == 0 for i in range(6)]


def test_one_class():
    with pytest.raises(NetError, match="there is one class only"):
        compiled("", 2)(batch(0), np.zeros(6, np.float32))
