import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def shares(rng, shape):
    """Distributions along axis 1, with zeros."""
    t = rng.random(shape) * (rng.random(shape) < 0.7) + 1e-3 * (np.arange(shape[1]) == 0).reshape(
        -1, *(1,) * (len(shape) - 2)
    )
    return t / t.sum(1, keepdims=True)


def divergence(x, t):
    p, total = softmax(x, 1), 0.0
    for place in np.ndindex(t.shape):
        if t[place] > 0:
            total += t[place] * (np.log(t[place]) - np.log(p[place]))
    return total / len(x)


def entropy(axis, n):
    return lambda x, t: (-t * np.log(softmax(x, axis))).sum() / n


ONE, TWO = 'type: "SoftmaxCrossEntropyLoss"', 'type: "SoftmaxCrossEntropy2Loss"'
X = (2, 4, 3, 5)
ROWS = [
    Row("divergence", ONE, [X, X], [()], divergence, feed={1: shares}),
    Row("of vectors", ONE, [(6, 5)] * 2, [()], divergence, feed={1: shares}),
    Row("entropy", TWO, [X, X], [()], entropy(1, 30), feed={1: shares}),
    Row(
        "by batch",
        f"{TWO} loss_param {{ normalization: BATCH_SIZE }} softmax_param {{ axis: 2 }}",
        [X, X],
        [()],
        entropy(2, 8),
    ),
    Row("parts", TWO, [(3, 4)] * 2, [(), (3, 4)], lambda x, t: (entropy(1, 3)(x, t), -t * np.log(softmax(x, 1)))),
]
BAD = [
    Bad("targets", ONE, [X, (2, 4, 3, 4)], "bottom 1 has the wrong shape"),
    Bad("targets of the second", TWO, [X, (2, 4, 5, 3)], "the bottoms must have the same shape"),
    Bad("axis", f"{ONE} softmax_param {{ axis: 4 }}", [X, X], "axis is out of range", at="axis"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_gradient_where_targets_do_not_sum_to_one():
    net = netcompiler.compile(
        netcompiler.parse(prototxt(ONE, [(3, 4)] * 2, 1)), optimize=False, device="cpu", dtype="float64"
    )
    rng = np.random.default_rng(2)
    x, t = rng.standard_normal((3, 4)), rng.random((3, 4))
    fed = torch.tensor(x, requires_grad=True)
    net(fed, t)["t0"].backward()
    np.testing.assert_allclose(fed.grad, (softmax(x, 1) - t) / 3)
