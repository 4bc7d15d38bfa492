import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def eltwise(fields: str = "") -> str:
    return f'type: "Eltwise" eltwise_param {{ {fields} }}'


X = (2, 3, 5)
ROWS = [
    Row("sum", eltwise(), [X] * 2, [X], lambda a, b: a + b),
    Row("sum of three", eltwise("operation: SUM"), [X] * 3, [X], lambda a, b, c: a + b + c),
    Row("coeff", eltwise("coeff: 0.5 coeff: -1 coeff: 2"), [X] * 3, [X], lambda a, b, c: a / 2 - b + 2 * c),
    Row("product", eltwise("operation: PROD"), [X] * 3, [X], lambda a, b, c: a * b * c),
    Row("by division", eltwise("operation: PROD stable_prod_grad: false"), [X] * 3, [X], lambda a, b, c: a * b * c),
    Row("max", eltwise("operation: MAX"), [X] * 3, [X], lambda a, b, c: np.maximum(a, np.maximum(b, c))),
    Row("max with idle coeff", eltwise("operation: MAX coeff: 2 coeff: 3"), [X] * 2, [X], np.maximum),
    Row(
        "one item",
        eltwise("allow_single_batch_input: true coeff: 2 coeff: -1"),
        [X, (1, 3, 5)],
        [X],
        lambda a, b: 2 * a - b,
    ),
    Row(
        "one factor", eltwise("operation: PROD allow_single_batch_input: true"), [X, (1, 3, 5)], [X], lambda a, b: a * b
    ),
    Row("scalars", eltwise(), [()] * 2, [()], lambda a, b: a + b),
]
BAD = [
    Bad("one bottom", eltwise(), [X], "the wrong number of bottoms"),
    Bad("shapes", eltwise(), [X, (2, 3, 7)], "must have the same shape"),
    Bad("coeff of a product", eltwise("operation: PROD coeff: 1 coeff: 1"), [X] * 2, "PROD takes no coeff", at="coeff"),
    Bad("two items", eltwise("allow_single_batch_input: true"), [X, X], "bottom 1 has the wrong shape"),
    Bad(
        "largest of one item",
        eltwise("operation: MAX allow_single_batch_input: true"),
        [X, X],
        "allow_single_batch_input is not for these",
        at="allow_single_batch_input",
    ),
    Bad("too few coeff", eltwise("coeff: 1"), [X] * 2, "the wrong number of coeff", at="coeff"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def gradients(fields: str, *bottoms: list[float]) -> list[list[float]]:
    """The gradient of the top's sum by each bottom."""
    text = prototxt(eltwise(fields), [(len(bottoms[0]),)] * len(bottoms), 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    tensors = [torch.tensor(b, dtype=torch.float32, requires_grad=True) for b in bottoms]
    net(*tensors)["t0"].sum().backward()
    return [t.grad.tolist() for t in tensors]


def test_gradient_of_max_goes_to_one_of_equals():
    assert gradients("operation: MAX", [1, 2, 1.0], [1, 1, 1], [0, 2, 1]) == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]


def test_gradient_of_product_at_0():
    assert gradients("operation: PROD", [0.0], [3]) == [[3], [0]]
    by_first, by_second = gradients("operation: PROD stable_prod_grad: false", [0.0], [3])
    assert np.isnan(by_first).all() and by_second == [0]


@pytest.mark.parametrize("operation", ["SUM", "MAX"])
def test_in_place_is_refused(operation):
    text = prototxt(eltwise(f"operation: {operation}"), [X] * 2, 1).replace('"t0"', '"b0"')
    with pytest.raises(netcompiler.NetError, match="Eltwise cannot work in place"):
        netcompiler.build(netcompiler.parse(text))


def test_product_in_place():
    text = prototxt(eltwise("operation: PROD"), [(2,)] * 2, 1).replace('"t0"', '"b0"')
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    assert net(np.array([2, 3]), np.array([5, 7]))["b0"].tolist() == [10, 21]
