import numpy as np

from .table import Bad, Row, suite


def norm(fields=""):
    return f'type: "LayerNorm" layer_norm_param {{ {fields} }}'


def naive(first, epsilon=1e-10):
    def want(x):
        y = np.empty_like(x)
        for place in np.ndindex(*x.shape[:first]):
            v = x[place]
            y[place] = (v - v.mean()) / np.sqrt(((v - v.mean()) ** 2).mean() + epsilon)
        return y

    return want


ROWS = [
    Row("steps", norm(), [(2, 3, 5)], [(2, 3, 5)], naive(2)),
    Row("images", norm("enable_cuda_impl: true"), [(2, 3, 2, 4)], [(2, 3, 2, 4)], naive(2)),
    Row("matrix", norm("epsilon: 0.5"), [(3, 6)], [(3, 6)], naive(1, 0.5)),
]
BAD = [
    Bad("vector", norm(), [(4,)], "too few axes"),
    Bad("nothing", norm(), [(2, 3, 0)], "nothing to take the mean of"),
    Bad("epsilon", norm("epsilon: -1"), [(2, 3)], "epsilon cannot be negative", at="epsilon"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
