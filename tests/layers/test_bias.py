import itertools

import numpy as np

from .table import Bad, Row, suite


def add(axis):
    """Loops over every element; `axis` is where the first axis of the bias lies."""

    def bias(x, b=None, bias=None):
        b = bias if b is None else b
        y = np.empty_like(x)
        for place in itertools.product(*map(range, x.shape)):
            y[place] = x[place] + b[place[axis : axis + b.ndim]]
        return y

    return bias


def bias(fields: str = "") -> str:
    return f'type: "Bias" bias_param {{ {fields} }}'


X = (2, 3, 5, 7)
ROWS = [
    Row("channels", bias(), [X], [X], add(1), {"bias": (3,)}),
    Row("two axes", bias("axis: 2 num_axes: 2"), [X], [X], add(2), {"bias": (5, 7)}),
    Row("to the end", bias("axis: 1 num_axes: -1"), [X], [X], add(1), {"bias": (3, 5, 7)}),
    Row("scalar", bias("num_axes: 0"), [X], [X], add(0), {"bias": ()}),
    Row("from the back", bias("axis: -2"), [X], [X], add(2), {"bias": (5,)}),
    Row("two bottoms", bias(), [X, (3, 5)], [X], add(1)),
    Row("two bottoms from the front", bias("axis: 0"), [X, (2, 3)], [X], add(0)),
    Row("two bottoms alike", bias("axis: 0"), [X, X], [X], add(0)),
    Row("second bottom scalar", bias("axis: 9"), [X, ()], [X], add(0)),
]
BAD = [
    Bad("axis", bias("axis: 4"), [X], "axis is out of range", at="axis"),
    Bad("past the end", bias("axis: 2 num_axes: 3"), [X], "num_axes is out of range", at="num_axes"),
    Bad("num_axes -2", bias("num_axes: -2"), [X], "num_axes is out of range", at="num_axes"),
    Bad("other dims", bias("axis: 2"), [X, (3, 5)], "does not lie along bottom 0", at="axis"),
    Bad("too many axes", bias("axis: 3"), [X, (7, 1)], "does not lie along bottom 0", at="axis"),
    Bad("filler", bias('filler { type: "gausian" }'), [X], 'did you mean "gaussian"?', at="type"),
    Bad("three bottoms", bias(), [X, X, X], "the wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
