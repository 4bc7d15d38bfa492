import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.errors import NetError

from .table import Bad, Row, labels, prototxt, suite


def naive(x, weight, bias=0):
    return np.array([weight[int(i)] + bias for i in x.flat]).reshape(*x.shape, weight.shape[1])


def embed(fields):
    return f'type: "Embed" embed_param {{ {fields} }}'


BOTH = "num_output: 5 input_dim: 7"
ROWS = [
    Row("plain", embed(BOTH), [(2, 3)], [(2, 3, 5)], naive, {"weight": (7, 5), "bias": (5,)}, feed={0: labels(7)}),
    Row(
        "no bias", embed(f"{BOTH} bias_term: false"), [(11,)], [(11, 5)], naive, {"weight": (7, 5)}, feed={0: labels(7)}
    ),
]
BAD = [
    Bad("no num_output", embed("input_dim: 7"), [(2, 3)], "num_output must be positive"),
    Bad("no input_dim", embed("num_output: 5 input_dim: 0"), [(2, 3)], "input_dim must be positive", at="input_dim"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def net():
    return netcompiler.compile(netcompiler.parse(prototxt(embed(BOTH), [(4,)], 1)), optimize=False, device="cpu")


@pytest.mark.parametrize("index", [-1, 7])
def test_index_out_of_range(index):
    with pytest.raises(NetError, match="out of range"):
        net()(torch.tensor([0, 1, index, 2]))


def test_indices_take_no_gradient():
    with pytest.raises(NetError, match="passes no gradient to its indices"):
        net()(torch.zeros(4, requires_grad=True))["t0"].sum().backward()
