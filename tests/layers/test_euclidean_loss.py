import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def euclidean(a, b):
    return sum((p - q) ** 2 for p, q in zip(a.ravel(), b.ravel(), strict=True)) / len(a) / 2


ROWS = [
    Row("one shape", 'type: "EuclideanLoss"', [(5, 3, 2), (5, 3, 2)], [()], euclidean),
    Row("one count", 'type: "EuclideanLoss"', [(5, 3, 2), (5, 6)], [()], euclidean),
    Row("one axis", 'type: "EuclideanLoss"', [(5,), (5,)], [()], euclidean),
]
BAD = [
    Bad("count", 'type: "EuclideanLoss"', [(5, 3), (5, 2)], "the bottoms do not match"),
    Bad("items", 'type: "EuclideanLoss"', [(5, 3), (3, 5)], "the bottoms do not match"),
    Bad("one bottom", 'type: "EuclideanLoss"', [(5, 3)], "the wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_loss_weight_and_an_unnamed_top():
    text = prototxt('type: "EuclideanLoss" loss_weight: 0.25', [(2, 3), (2, 3)], 0)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    outputs = net(torch.ones(2, 3), torch.zeros(2, 3))
    assert {k: v.item() for k, v in outputs.items()} == {"it": 1.5}
    assert net.loss(outputs).item() == 0.375


def test_half_precision_sums_in_float32():
    msg = netcompiler.parse(prototxt('type: "EuclideanLoss"', [(1, 4099), (1, 4099)], 1))
    net = netcompiler.compile(msg, optimize=False, device="cpu", dtype="bfloat16")
    loss = net(torch.ones(1, 4099), torch.zeros(1, 4099))["t0"]
    assert loss.dtype == torch.float32
    assert loss.item() == 2049.5
