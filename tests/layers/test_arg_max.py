import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def best(values, k):
    """The places of the k largest, by a plain sort: of equal values the later place first."""
    return sorted(range(len(values)), key=lambda i: (values[i], i), reverse=True)[:k]


def by_item(k, with_values=False):
    def top(x):
        n = len(x)
        y = np.empty((n, 2 if with_values else 1, k, *(1,) * (x.ndim - 3)))
        for i in range(n):
            values = x[i].ravel()
            places = best(values, k)
            y[i, 0] = np.reshape(places, y[i, 0].shape)
            if with_values:
                y[i, 1] = np.reshape(values[places], y[i, 1].shape)
        return y

    return top


def by_axis(axis, k, values=False):
    def top(x):
        along = np.moveaxis(x, axis, -1)
        y = np.empty((*along.shape[:-1], k))
        for place in np.ndindex(*along.shape[:-1]):
            places = best(along[place], k)
            y[place] = along[place][places] if values else places
        return np.moveaxis(y, -1, axis)

    return top


def ties(rng, shape):
    return rng.integers(0, 3, shape).astype(np.float64)


def arg_max(fields: str = "") -> str:
    return f'type: "ArgMax" argmax_param {{ {fields} }}'


def row(name, fields, bottom, top, want, **more):
    return Row(name, arg_max(fields), [bottom], [top], want, gradient=False, **more)


X = (2, 3, 5, 7)
ROWS = [
    row("default", "", (3, 11), (3, 1, 1), by_item(1)),
    row("image", "", X, (2, 1, 1, 1), by_item(1)),
    row("top 5", "top_k: 5", X, (2, 1, 5, 1), by_item(5)),
    row("with values", "top_k: 3 out_max_val: true", X, (2, 2, 3, 1), by_item(3, True)),
    row("axis", "axis: 1", X, (2, 1, 5, 7), by_axis(1, 1)),
    row("axis, top 2", "axis: -2 top_k: 2", X, (2, 3, 2, 7), by_axis(2, 2)),
    row("axis, values", "axis: 3 top_k: 7 out_max_val: true", X, (2, 3, 5, 7), by_axis(3, 7, True)),
    row("ties", "top_k: 4", (5, 13), (5, 1, 4), by_item(4), feed={0: ties}),
    row("ties along an axis", "axis: 1 top_k: 2", (5, 13, 2), (5, 2, 2), by_axis(1, 2), feed={0: ties}),
]
BAD = [
    Bad("top_k 0", arg_max("top_k: 0"), [X], "top_k must be positive", at="top_k"),
    Bad("top_k too large", arg_max("top_k: 106"), [X], "more than there is", at="top_k"),
    Bad("too large for the axis", arg_max("axis: 1 top_k: 4"), [X], "more than there is", at="top_k"),
    Bad("axis", arg_max("axis: 4"), [X], "axis is out of range", at="axis"),
    Bad("scalar", arg_max(), [()], "too few axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


@pytest.mark.parametrize("fields", ["", "out_max_val: true", "axis: 1 out_max_val: true"])
def test_gradient_is_refused(fields):
    text = prototxt(arg_max(fields), [(2, 3)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    top = net(torch.zeros(2, 3, requires_grad=True))["t0"]
    with pytest.raises(netcompiler.NetError, match="ArgMax has no gradient"):
        top.sum().backward()
    assert not net(torch.zeros(2, 3))["t0"].requires_grad


def test_bfloat16_places_are_whole():
    """bfloat16 would make 999 of 998 1000."""
    text = prototxt(arg_max(), [(1, 1000)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="bfloat16")
    for place in (997, 999):
        x = np.zeros((1, 1000))
        x[0, place] = 1
        assert net(x)["t0"].item() == place
