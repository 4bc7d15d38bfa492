import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, labels, prototxt, suite


def hinge(power):
    def loss(x, label):
        total = 0.0
        for n, row in enumerate(x.reshape(len(x), -1)):
            for k, score in enumerate(row):
                sign = 1 if k == int(label.ravel()[n]) else -1
                total += max(0.0, 1 - sign * score) ** power
        return total / len(x)

    return loss


def cut(rng, shape):
    return np.array([0.0, 4.9, 2.2, 3.0, 1.0, -0.7, 4.0]).reshape(shape)


L2 = 'type: "HingeLoss" hinge_loss_param { norm: L2 }'
ROWS = [
    Row("L1", 'type: "HingeLoss"', [(7, 5), (7,)], [()], hinge(1), feed={1: labels(5)}),
    Row("L2", L2, [(7, 5), (7,)], [()], hinge(2), feed={1: labels(5)}),
    Row("flattened", L2, [(7, 2, 3), (7, 1)], [()], hinge(2), feed={1: labels(6)}),
    Row("labels are cut towards 0", L2, [(7, 5), (7, 1, 1)], [()], hinge(2), feed={1: cut}),
]
BAD = [
    Bad("labels", 'type: "HingeLoss"', [(7, 5), (7, 5)], "each item needs one label"),
    Bad("norm", 'type: "HingeLoss" hinge_loss_param { norm: L3 }', [(7, 5), (7,)], "L3"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_that_is_no_class(label):
    msg = netcompiler.parse(prototxt(L2, [(1, 5), (1,)], 1))
    net = netcompiler.compile(msg, optimize=False, device="cpu")
    with pytest.raises(NetError, match="0 to 4"):
        net(torch.zeros(1, 5), torch.tensor([label]))


def test_a_gradient_for_computed_labels_is_refused():
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
    text += 'layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 2 } } }'
    text += 'layer { name: "z" type: "Power" bottom: "y" top: "z" }'
    text += 'layer { name: "l" type: "HingeLoss" bottom: "x" bottom: "z" top: "l" }'
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    loss = net(torch.zeros(2, 3), torch.zeros(2, requires_grad=True))["l"]
    with pytest.raises(NetError, match="HingeLoss passes no gradient to its labels"):
        loss.backward()
