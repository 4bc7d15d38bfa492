import numpy as np

from .table import Bad, Row, suite


def pad(fields=""):
    return f'type: "RingPad" ring_pad_param {{ {fields} }}'


def around(axis, count):
    return lambda x: np.take(x, np.arange(-count, x.shape[axis] + count) % x.shape[axis], axis)


X = (2, 3, 4, 5)
ROWS = [
    Row("channels", pad(), [X], [(2, 5, 4, 5)], around(1, 1)),
    Row("width", pad("axis: -1 pad: 2"), [X], [(2, 3, 4, 9)], around(3, 2)),
    Row("all", pad("axis: 2 pad: 4"), [X], [(2, 3, 12, 5)], around(2, 4)),
    Row("none", pad("axis: 3 pad: 0"), [X], [X], lambda x: x),
]
BAD = [
    Bad("axis", pad("axis: 4"), [X], "axis is out of range", at="axis"),
    Bad("negative", pad("pad: -1"), [X], "pad is negative", at="pad"),
    Bad("too large", pad("axis: 1 pad: 4"), [X], "pad is larger than the bottom", at="pad: 4"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
