import numpy as np
import pytest

import netcompiler

from .table import Bad, Row, prototxt, suite


def to(*shape):
    return lambda x: x.reshape(shape)


def flatten(fields: str = "") -> str:
    return f'type: "Flatten" flatten_param {{ {fields} }}'


X = [(2, 3, 5, 7)]
ROWS = [
    Row("default", flatten(), X, [(2, 105)], to(2, 105)),
    Row("middle", flatten("axis: 1 end_axis: 2"), X, [(2, 15, 7)], to(2, 15, 7)),
    Row("from the back", flatten("axis: -3 end_axis: -2"), X, [(2, 15, 7)], to(2, 15, 7)),
    Row("all", flatten("axis: 0"), X, [(210,)], to(210)),
    Row("one axis", flatten("axis: 2 end_axis: 2"), X, X, to(*X[0])),
    Row("no axis", flatten("axis: 2 end_axis: 1"), X, [(2, 3, 1, 5, 7)], to(2, 3, 1, 5, 7)),
]
BAD = [
    Bad("axis", flatten("axis: 4"), X, "axis is out of range", at="axis"),
    Bad("end_axis", flatten("end_axis: 4"), X, "end_axis is out of range", at="end_axis"),
    Bad("backwards", flatten("axis: 3 end_axis: 1"), X, "end_axis is before axis", at="end_axis"),
    Bad("one axis only", flatten(), [(2,)], "axis is out of range"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_another_number_of_axes():
    """end_axis -1 stays the last axis when the input changes."""
    net = netcompiler.compile(netcompiler.parse(prototxt(flatten(), X, 1)), optimize=False, device="cpu")
    assert net(np.zeros((2, 3, 5, 7, 11)))["t0"].shape == (2, 1155)
    with pytest.raises(netcompiler.NetError, match="too few axes"):
        net(np.zeros(2))


def test_in_place_is_refused():
    text = prototxt(flatten(), X, 1).replace('"t0"', '"b0"')
    with pytest.raises(netcompiler.NetError, match="Flatten cannot work in place"):
        netcompiler.build(netcompiler.parse(text))
