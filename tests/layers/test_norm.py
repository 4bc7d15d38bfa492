import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def normed(x):
    return x / (np.sqrt((x**2).sum(1, keepdims=True)) + 1e-6)


X = (2, 3, 4, 5)
ROWS = [Row("image", 'type: "Norm"', [X], [X], normed), Row("rank 2", 'type: "Norm"', [(4, 7)], [(4, 7)], normed)]
test_row, test_gradient, test_bad = suite(ROWS, [Bad("rank", 'type: "Norm"', [(3,)], "too few axes")])


def test_zero_has_no_gradient():
    net = netcompiler.compile(netcompiler.parse(prototxt('type: "Norm"', [(1, 3)], 1)), optimize=False, device="cpu")
    x = torch.zeros(1, 3, requires_grad=True)
    net(x)["t0"].sum().backward()
    assert x.grad.tolist() == [[0, 0, 0]]
