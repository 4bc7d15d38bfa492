import numpy as np
import torch

import netcompiler

from .table import Bad, Row, labels, prototxt, suite


def center(fields="num_output: 4", weight=""):
    return f'type: "CenterLoss" {weight} center_loss_param {{ {fields} }}'


def loss(x, truth, weight):
    away = x.reshape(len(x), -1) - weight[truth.ravel().astype(int)]
    return (away**2).sum() / len(x) / 2


X = (6, 2, 3)
ROWS = [
    Row("loss", center(), [X, (6,)], [()], loss, {"weight": (4, 6)}, 36, feed={1: labels(4)}, gradient=False),
    Row(
        "labels with axes",
        center(),
        [X, (6, 1, 1)],
        [()],
        loss,
        {"weight": (4, 6)},
        36,
        feed={1: labels(4)},
        gradient=False,
    ),
]
BAD = [
    Bad("no output", center("axis: 1"), [X, (6,)], "num_output must be positive"),
    Bad("axis", center("num_output: 4 axis: 2"), [X, (6,)], "axis is out of range", at="axis"),
    Bad("labels", center(), [X, (6, 2)], "bottom 1 has the wrong shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_gradients():
    text = prototxt(center(weight="loss_weight: 0.5"), [(5, 3), (5,)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    rng = np.random.default_rng(3)
    x, centres, truth = rng.standard_normal((5, 3)), rng.standard_normal((4, 3)), np.array([0, 2, 2, 3, 2])
    net.load_caffe_params({"it": [centres]})
    fed = torch.tensor(x, requires_grad=True)
    net.loss(net(fed, truth.astype(float))).backward()
    np.testing.assert_allclose(fed.grad, 0.5 * (x - centres[truth]) / 5)
    step = np.zeros((4, 3))
    for j in range(4):
        mine = x[truth == j]
        step[j] = (len(mine) * centres[j] - mine.sum(0)) / (1 + len(mine))
    np.testing.assert_allclose(net.caffe_grads()["it"][0], step, atol=1e-12)


def test_no_loss_weight_is_none():
    text = prototxt(center(), [(5, 3), (5,)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    assert not any(any(n.loss_weights) for n in net.graph.nodes)
