from itertools import product

import numpy as np

from .table import Bad, Row, suite


def naive(n=5, alpha=1.0, beta=0.75, k=1.0, within=False):
    """Each value by a loop over its window."""

    def lrn(x):
        y, half = np.zeros_like(x), n // 2
        for b, c, i, j in product(*map(range, x.shape)):
            if within:
                window = x[b, c, max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1]
                scale = 1 + alpha / n**2 * (window**2).sum()
            else:
                window = x[b, max(c - half, 0) : c + half + 1, i, j]
                scale = k + alpha / n * (window**2).sum()
            y[b, c, i, j] = x[b, c, i, j] / scale**beta
        return y

    return lrn


def lrn(fields):
    return f'type: "LRN" lrn_param {{ {fields} }}'


IMAGE = [(2, 7, 3, 5)]
ROWS = [
    Row("plain", 'type: "LRN"', IMAGE, IMAGE, naive()),
    Row("AlexNet's", lrn("local_size: 5 alpha: 0.0001 beta: 0.75 k: 2"), IMAGE, IMAGE, naive(5, 1e-4, 0.75, 2)),
    Row(
        "window beyond the channels",
        lrn("local_size: 9 alpha: 3 beta: 0.5"),
        [(2, 3, 2, 5)],
        [(2, 3, 2, 5)],
        naive(9, 3, 0.5),
    ),
    Row("window of one", lrn("local_size: 1 beta: 1"), IMAGE, IMAGE, naive(1, beta=1)),
    Row(
        "within a channel",
        lrn("local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL"),
        IMAGE,
        IMAGE,
        naive(3, 0.5, within=True),
    ),
    Row(
        "within a channel k is 1",
        lrn("local_size: 7 k: 5 norm_region: WITHIN_CHANNEL"),
        IMAGE,
        IMAGE,
        naive(7, within=True),
    ),
]
BAD = [
    Bad("even", lrn("local_size: 4"), IMAGE, "local_size must be odd", at="local_size"),
    Bad("zero", lrn("local_size: 0"), IMAGE, "local_size must be odd", at="local_size"),
    Bad("no rows", lrn("local_size: 5"), [(2, 3, 0, 7)], "the bottom is empty"),
    Bad("two axes", lrn("local_size: 5"), [(2, 7)], "wrong number of axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
