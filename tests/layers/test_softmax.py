import numpy as np

from .table import Bad, Row, suite


def naive(axis):
    def softmax(x):
        y = np.zeros_like(x)
        moved, out = np.moveaxis(x, axis, -1), np.moveaxis(y, axis, -1)
        for place in np.ndindex(moved.shape[:-1]):
            powers = [np.exp(v - max(moved[place])) for v in moved[place]]
            out[place] = [p / sum(powers) for p in powers]
        return y

    return softmax


def softmax(axis):
    return f'type: "Softmax" softmax_param {{ axis: {axis} engine: CUDNN }}'


ROWS = [
    Row("plain", 'type: "Softmax"', [(2, 5, 3, 7)], [(2, 5, 3, 7)], naive(1)),
    Row("axis -1", softmax(-1), [(2, 5, 3)], [(2, 5, 3)], naive(2)),
    Row("axis 0", softmax(0), [(5,)], [(5,)], naive(0)),
    Row("large scores", softmax(1), [(2, 5)], [(2, 5)], naive(1), feed={0: lambda rng, s: rng.normal(1000, 500, s)}),
]
BAD = [Bad("axis", softmax(2), [(2, 3)], "axis is out of range", at="axis")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
