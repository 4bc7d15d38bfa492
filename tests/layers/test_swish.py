import numpy as np

from .table import Bad, Row, suite


def swish(beta):
    return lambda x: x / (1 + np.exp(-beta * x))


ROWS = [
    Row("plain", 'type: "Swish"', [(2, 3, 5)], [(2, 3, 5)], swish(1)),
    Row("beta", 'type: "Swish" swish_param { beta: 1.75 }', [(2, 3)], [(2, 3)], swish(1.75)),
    Row("beta 0", 'type: "Swish" swish_param { beta: 0 }', [(2, 3)], [(2, 3)], lambda x: x / 2),
]
BAD = [Bad("misspelt", 'type: "Swish" swish_param { bet: 2 }', [(2, 3)], 'did you mean "beta"?', at="bet")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
