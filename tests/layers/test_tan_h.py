import numpy as np

from .table import Bad, Row, suite


def tanh(x):
    return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))


ROWS = [
    Row("plain", 'type: "TanH"', [(2, 3, 5)], [(2, 3, 5)], tanh),
    Row("the engine is no matter", 'type: "TanH" tanh_param { engine: CAFFE }', [(2, 3)], [(2, 3)], tanh),
]
BAD = [Bad("two bottoms", 'type: "TanH"', [(2, 3), (2, 3)], "the wrong number of bottoms")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
