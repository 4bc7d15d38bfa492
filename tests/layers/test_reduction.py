import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def reduce(axis, number, coeff=1.0):
    """Loops over every place before `axis`."""

    def top(x):
        y = np.empty(x.shape[:axis])
        for place in np.ndindex(*x.shape[:axis]):
            y[place] = coeff * number(x[place].ravel().tolist())
        return y

    return top


def reduction(fields: str = "") -> str:
    return f'type: "Reduction" reduction_param {{ {fields} }}'


X = [(2, 3, 5, 7)]
ROWS = [
    Row("sum of all", reduction(), X, [()], reduce(0, sum)),
    Row("sum", reduction("axis: 1"), X, [(2,)], reduce(1, sum)),
    Row("coeff", reduction("axis: 2 coeff: -3"), X, [(2, 3)], reduce(2, sum, -3)),
    Row(
        "of absolute values",
        reduction("operation: ASUM axis: 1"),
        X,
        [(2,)],
        reduce(1, lambda v: sum(map(abs, v))),
    ),
    Row(
        "of squares",
        reduction("operation: SUMSQ axis: -2 coeff: 0.5"),
        X,
        [(2, 3)],
        reduce(2, lambda v: sum(a * a for a in v), 0.5),
    ),
    Row("mean", reduction("operation: MEAN axis: 1"), X, [(2,)], reduce(1, lambda v: sum(v) / 105)),
    Row(
        "mean, coeff", reduction("operation: MEAN axis: 3 coeff: 2"), X, [X[0][:3]], reduce(3, lambda v: sum(v) / 7, 2)
    ),
]
BAD = [
    Bad("axis", reduction("axis: 4"), X, "axis is out of range", at="axis"),
    Bad("two bottoms", reduction(), X * 2, "the wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_mean_over_another_size():
    """The divisor is the size at the call, not the one in the net."""
    net = netcompiler.compile(
        netcompiler.parse(prototxt(reduction("operation: MEAN axis: 1"), X, 1)), optimize=False, device="cpu"
    )
    assert net(np.ones((1, 2, 3, 4)))["t0"].tolist() == [1]


def test_gradient_of_an_absolute_value_at_0():
    net = netcompiler.compile(
        netcompiler.parse(prototxt(reduction("operation: ASUM"), [(3,)], 1)), optimize=False, device="cpu"
    )
    x = torch.tensor([-2.0, 0, 2], requires_grad=True)
    net(x)["t0"].backward()
    assert x.grad.tolist() == [-1, 0, 1]
