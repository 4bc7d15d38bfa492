import numpy as np
import pytest

import netcompiler

from .table import Bad, Row, prototxt, suite


def to(*shape):
    return lambda x: x.reshape(shape)


def reshape(dims: str = "", fields: str = "") -> str:
    return f'type: "Reshape" reshape_param {{ shape {{ {dims} }} {fields} }}'


X = [(2, 12, 5)]
ROWS = [
    Row("given", reshape("dim: 3 dim: 8 dim: 5"), X, [(3, 8, 5)], to(3, 8, 5)),
    Row("copied and inferred", reshape("dim: 0 dim: 3 dim: -1"), X, [(2, 3, 20)], to(2, 3, 20)),
    Row("inferred in front", reshape("dim: -1 dim: 0"), X, [(10, 12)], to(10, 12)),
    Row("all into one", reshape("dim: -1"), X, [(120,)], to(120)),
    Row("a middle axis", reshape("dim: 3 dim: -1", "axis: 1 num_axes: 1"), X, [(2, 3, 4, 5)], to(2, 3, 4, 5)),
    Row("axis to the end", reshape("dim: 4 dim: -1", "axis: 1"), X, [(2, 4, 15)], to(2, 4, 15)),
    Row("copied after axis", reshape("dim: 0 dim: 1 dim: -1", "axis: 1"), X, [(2, 12, 1, 5)], to(2, 12, 1, 5)),
    Row("inserted", reshape("dim: 1", "axis: 1 num_axes: 0"), X, [(2, 1, 12, 5)], to(2, 1, 12, 5)),
    Row("appended", reshape("dim: 1", "axis: -1 num_axes: 0"), X, [(2, 12, 5, 1)], to(2, 12, 5, 1)),
    Row("removed", reshape("", "axis: 1 num_axes: 1"), [(2, 1, 5)], [(2, 5)], to(2, 5)),
    Row("to a scalar", reshape(), [(1, 1)], [()], to()),
]
BAD = [
    Bad("other count", reshape("dim: 2 dim: 13 dim: 5"), X, "another count", at="shape"),
    Bad("not divisible", reshape("dim: 7 dim: -1"), X, "-1 cannot be found", at="shape"),
    Bad("two -1", reshape("dim: -1 dim: -1"), X, "not a shape to reshape to", at="shape"),
    Bad("-2", reshape("dim: -2"), X, "not a shape to reshape to", at="shape"),
    Bad("nothing to copy", reshape("dim: 0 dim: 0 dim: 0 dim: 0"), X, "there is no dim to copy", at="shape"),
    Bad("axis", reshape("dim: -1", "axis: 4"), X, "axis is out of range", at="axis"),
    Bad("axis from the back", reshape("dim: -1", "axis: -5"), X, "axis is out of range", at="axis"),
    Bad("num_axes", reshape("dim: -1", "axis: 2 num_axes: 2"), X, "num_axes is out of range", at="num_axes"),
    Bad("num_axes -2", reshape("dim: -1", "num_axes: -2"), X, "num_axes is out of range", at="num_axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_another_batch():
    text = prototxt(reshape("dim: 0 dim: 3 dim: -1"), X, 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    assert net(np.zeros((7, 12, 5)))["t0"].shape == (7, 3, 20)
    with pytest.raises(netcompiler.NetError, match="-1 cannot be found"):
        net(np.zeros((7, 11, 5)))


def test_in_place_is_refused():
    text = prototxt(reshape("dim: -1"), X, 1).replace('"t0"', '"b0"')
    with pytest.raises(netcompiler.NetError, match="Reshape cannot work in place"):
        netcompiler.build(netcompiler.parse(text))
