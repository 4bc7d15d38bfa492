import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite


def python(name):
    return f'type: "Python" python_param {{ module: "pythonLayer" layer: "{name}" }}'


def some_labels(rng, shape):
    return np.array([1.0, -1, 0, 1, -1, 0]).reshape(shape)


def front(scores, labels):
    top, kept = np.zeros((6, 2)), np.zeros((6, 1))
    places = [i for i in range(6) if labels.ravel()[i] != -1]
    for k, i in enumerate(places):
        top[k], kept[k] = scores[i].ravel(), labels.ravel()[i]
    return [top, kept]


def no_target(rng, shape):
    return np.full(shape, -1.0)


N = 6
ROWS = [
    Row("labelled", python("cls_Layer"), [(N, 2), (N, 1)], [(N, 2), (N, 1)], front, feed={1: some_labels}),
    Row(
        "labelled pixels",
        python("cls_Layer_fc"),
        [(N, 2, 1, 1), (N,)],
        [(N, 2, 1, 1), (N, 1)],
        lambda *given: [front(*given)[0][:, :, None, None], front(*given)[1]],
        feed={1: some_labels},
    ),
    Row(
        "regression",
        python("regression_Layer"),
        [(N, 4, 1, 1), (N, 4)],
        [(1,)],
        lambda x, t: np.array([sum((x.ravel() - t.ravel()) ** 2) / N / 2]),
        gradient=False,
    ),
    Row(
        "no target",
        python("regression_Layer"),
        [(N, 10), (N, 10)],
        [(1,)],
        lambda x, t: np.zeros(1),
        feed={1: no_target},
        gradient=False,
    ),
]
BAD = [
    Bad("scores", python("cls_Layer"), [(N, 3), (N, 1)], "the scores do not fit the labels", tops=2),
    Bad("items", python("cls_Layer"), [(5, 2), (N, 1)], "the scores do not fit the labels", tops=2),
    Bad("labels", python("cls_Layer"), [(N, 2), (N, 2)], "each item needs one label", tops=2),
    Bad("targets", python("regression_Layer"), [(N, 4), (N, 5)], "the bottoms do not match"),
    Bad("another class", python("roi_Layer"), [(N, 4), (N, 4)], "runs code named by the net"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_data_follows_the_picture():
    tops = " ".join(f'top: "{t}"' for t in ("data", "label", "roi", "pts"))
    text = f'layer {{ name: "d" {tops} {python("Data_Layer_train")} }}'
    graph = netcompiler.build(netcompiler.parse(text), inputs={"data": (5, 3, 12, 12)})
    assert [v.shape for v in graph.inputs()] == [(5, 3, 12, 12), (5, 1), (5, 4), (5, 10)]
    with pytest.raises(NetError, match="does not tell the shape of top 0"):
        netcompiler.build(netcompiler.parse(text.replace('top: "pts"', "")))


def test_the_loss_weight_does_not_change_the_gradient():
    net = netcompiler.compile(
        netcompiler.parse(prototxt(python("regression_Layer") + " loss_weight: 0.5", [(2, 4), (2, 4)], 1)),
        optimize=False,
        device="cpu",
    )
    x, target = torch.from_numpy(np.random.default_rng(3).standard_normal((2, 2, 4), np.float32))
    x.requires_grad_()
    (net(x, target)["t0"] * 7).sum().backward()
    torch.testing.assert_close(x.grad, (x.detach() - target) / 2)
