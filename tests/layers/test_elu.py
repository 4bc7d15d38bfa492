import numpy as np

from .table import Bad, Row, suite


def elu(alpha, factor=1.0):
    return lambda x: factor * np.array([v if v > 0 else alpha * (np.exp(v) - 1) for v in x.ravel()]).reshape(x.shape)


ROWS = [
    Row("plain", 'type: "ELU"', [(2, 3, 5)], [(2, 3, 5)], elu(1)),
    Row("alpha", 'type: "ELU" elu_param { alpha: 0.25 }', [(2, 3)], [(2, 3)], elu(0.25)),
    Row("alpha 0", 'type: "ELU" elu_param { alpha: 0 }', [(2, 3)], [(2, 3)], elu(0)),
    Row("a fork's lambda", 'type: "ELU" elu_param { alpha: 1.5 lambda: 1.25 }', [(2, 3)], [(2, 3)], elu(1.5, 1.25)),
]
BAD = [Bad("misspelt", 'type: "ELU" elu_param { alfa: 2 }', [(2, 3)], 'did you mean "alpha"?', at="alfa")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
