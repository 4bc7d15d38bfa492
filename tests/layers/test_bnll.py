import numpy as np

from .table import Bad, Row, suite


def wide(rng, shape):
    return rng.uniform(-120, 120, shape)


def bnll(x):
    return np.where(x > 0, x + np.log1p(np.exp(-np.abs(x))), np.log1p(np.exp(-np.abs(x))))


ROWS = [
    Row("plain", 'type: "BNLL"', [(2, 3, 5)], [(2, 3, 5)], bnll),
    Row("far from 0", 'type: "BNLL"', [(7, 11)], [(7, 11)], bnll, feed={0: wide}, tolerance=1e-12),
]
BAD = [Bad("two tops", 'type: "BNLL"', [(2, 3)], "the wrong number of tops", tops=2)]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
