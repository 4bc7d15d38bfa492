import numpy as np

from .table import Bad, Row, suite

SPLIT = 'type: "SplitData" split_data_param { frame: 2 }'
X, H = (4, 2, 3, 2), (2, 2, 3, 2)


def apart(x, t):
    first, second = (np.stack([x[i] for i in range(k, 4, 2)]) for k in (0, 1))
    return first, second, np.stack([t[i] for i in (0, 2, 1, 3)])


ROWS = [Row("pairs", SPLIT, [X, X], [H, H, X], apart)]
BAD = [
    Bad("odd", SPLIT, [(3, 2, 3, 2)] * 2, "the batch is odd", tops=3),
    Bad("labels", SPLIT, [X, H], "the bottoms must have the same shape", tops=3),
    Bad("tops", SPLIT, [X, X], "the wrong number of tops", tops=2),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
