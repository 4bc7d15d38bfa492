import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, labels, prototxt, suite


def multinomial(x, label):
    rows = x.reshape(len(x), -1)
    return -sum(np.log(max(rows[n, int(label.ravel()[n])], 1e-20)) for n in range(len(x))) / len(x)


def probabilities(rng, shape):
    return rng.uniform(0.05, 1, shape)


LOSS = 'type: "MultinomialLogisticLoss"'
ROWS = [
    Row("plain", LOSS, [(7, 5), (7,)], [()], multinomial, feed={0: probabilities, 1: labels(5)}),
    Row("flattened", LOSS, [(3, 5, 2), (3, 1)], [()], multinomial, feed={0: probabilities, 1: labels(10)}),
]
BAD = [Bad("labels", LOSS, [(7, 5), (7, 5)], "each item needs one label")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def net():
    return netcompiler.compile(netcompiler.parse(prototxt(LOSS, [(2, 3), (2,)], 1)), optimize=False, device="cpu")


def test_small_probabilities_count_as_1e_20_also_in_the_gradient():
    x = torch.tensor([[0, 0.5, 0.5], [0.25, 0.75, -3]], requires_grad=True)
    loss = net()(x, torch.tensor([0, 2]))["t0"]
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(1e-20))
    np.testing.assert_allclose(x.grad, [[-0.5e20, 0, 0], [0, 0, -0.5e20]], rtol=1e-5)


def test_a_label_that_is_no_class():
    with pytest.raises(NetError, match="0 to 2"):
        net()(torch.zeros(2, 3), torch.tensor([0, 3]))
