import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite

X = (2, 3, 5)
ROWS = [
    Row("three", 'type: "Split"', [X], [X] * 3, lambda x: [x, x, x]),
    Row("one", 'type: "Split"', [X], [X], lambda x: x),
]
BAD = [Bad("two bottoms", 'type: "Split"', [X, X], "the wrong number of bottoms", tops=2)]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_gradients_add_up():
    net = netcompiler.compile(netcompiler.parse(prototxt('type: "Split"', [(2,)], 2)), optimize=False, device="cpu")
    x = torch.zeros(2, requires_grad=True)
    a, b = net(x).values()
    (3 * a + 5 * b).sum().backward()
    assert x.grad.tolist() == [8, 8]


def test_in_place_is_refused():
    text = prototxt('type: "Split"', [X], 2).replace('"t0"', '"b0"')
    with pytest.raises(netcompiler.NetError, match="Split cannot work in place"):
        netcompiler.build(netcompiler.parse(text))
