import numpy as np

from .table import Bad, Row, suite

ROWS = [
    Row("plain", 'type: "Sigmoid"', [(2, 3, 5)], [(2, 3, 5)], lambda x: 1 / (1 + np.exp(-x))),
    Row(
        "the engine is no matter",
        'type: "Sigmoid" sigmoid_param { engine: CUDNN }',
        [(2, 3)],
        [(2, 3)],
        lambda x: 1 / (1 + np.exp(-x)),
    ),
]
BAD = [Bad("two tops", 'type: "Sigmoid"', [(2, 3)], "the wrong number of tops", tops=2)]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
