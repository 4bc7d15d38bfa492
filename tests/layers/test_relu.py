import numpy as np

from .table import Bad, Row, suite

ROWS = [
    Row("plain", 'type: "ReLU"', [(2, 3, 5)], [(2, 3, 5)], lambda x: np.maximum(x, 0)),
    Row("Intel's fuse", 'type: "ReLU" relu_param { fuse: true }', [(2, 3)], [(2, 3)], lambda x: np.maximum(x, 0)),
    Row(
        "leaky",
        'type: "ReLU" relu_param { negative_slope: 0.1 }',
        [(2, 3)],
        [(2, 3)],
        lambda x: np.where(x > 0, x, 0.1 * x),
    ),
]
BAD = [
    Bad("two tops", 'type: "ReLU"', [(2, 3)], "the wrong number of tops", tops=2),
    Bad("misspelt", 'type: "ReLU" relu_param { negative_slop: 0.1 }', [(2, 3)], 'did you mean "negative_slope"?'),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
