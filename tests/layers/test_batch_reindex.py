import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, labels, prototxt, suite

REINDEX = 'type: "BatchReindex"'


def picked(x, numbers):
    y = np.empty((len(numbers), *x.shape[1:]))
    for i, number in enumerate(numbers):
        y[i] = x[int(number)]
    return y


ROWS = [
    Row("more than there are", REINDEX, [(3, 5, 2), (11,)], [(11, 5, 2)], picked, feed={1: labels(3)}),
    Row("fewer", REINDEX, [(7, 5), (2,)], [(2, 5)], picked, feed={1: labels(7)}),
    Row(
        "a fraction is cut off", REINDEX, [(3, 5), (2,)], [(2, 5)], picked, feed={1: lambda g, s: np.array([1.9, 2.5])}
    ),
]
BAD = [
    Bad("numbers of two axes", REINDEX, [(3, 5), (2, 1)], "a list of item numbers"),
    Bad("scalar", REINDEX, [(), (2,)], "bottom 0 has too few axes"),
    Bad("one bottom", REINDEX, [(3, 5)], "the wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def compiled() -> netcompiler.CompiledNet:
    net = netcompiler.parse(prototxt(REINDEX, [(3, 2), (4,)], 1))
    return netcompiler.compile(net, optimize=False, device="cpu")


@pytest.mark.parametrize("number", [-1, 3])
def test_a_number_that_is_no_item(number):
    with pytest.raises(netcompiler.NetError, match="out of range") as caught:
        compiled()(np.zeros((3, 2)), np.array([0, number, 1, 2]))
    assert caught.value.got == number


def test_gradient_of_the_numbers_is_refused():
    top = compiled()(torch.zeros(3, 2), torch.zeros(4, requires_grad=True))["t0"]
    with pytest.raises(netcompiler.NetError, match="no gradient for its item numbers"):
        top.sum().backward()


def test_gradients_of_an_item_picked_twice_add_up():
    x = torch.zeros(3, 2, requires_grad=True)
    compiled()(x, torch.tensor([2, 0, 2, 2]))["t0"].sum().backward()
    assert x.grad.tolist() == [[1, 1], [0, 0], [3, 3]]
