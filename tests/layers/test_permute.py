import numpy as np

from .table import Bad, Row, suite


def permuted(*order):
    return lambda x: x.transpose(order)


def layer(*order):
    return 'type: "Permute" permute_param { ' + " ".join(f"order: {i}" for i in order) + " }"


ROWS = [
    Row("to channels last", layer(0, 2, 3, 1), [(2, 3, 5, 7)], [(2, 5, 7, 3)], permuted(0, 2, 3, 1)),
    Row("the rest follows", layer(2), [(2, 3, 5, 7)], [(5, 2, 3, 7)], permuted(2, 0, 1, 3)),
    Row("two named", layer(3, 1), [(2, 3, 3, 3)], [(3, 3, 2, 3)], permuted(3, 1, 0, 2)),
    Row("batch and channels", layer(1, 0), [(2, 3, 5, 7)], [(3, 2, 5, 7)], permuted(1, 0, 2, 3)),
    Row("nothing named", 'type: "Permute"', [(2, 3)], [(2, 3)], np.asarray),
]
BAD = [
    Bad("no such axis", layer(0, 4), [(2, 3, 5, 7)], "there is no such axis", at="order: 4"),
    Bad("twice", layer(0, 1, 0), [(2, 3, 5, 7)], "axis 0 is named twice", at="order: 0"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
