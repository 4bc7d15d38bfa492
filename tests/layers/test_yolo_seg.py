import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite

SEG, EVAL = 'type: "YoloSeg" yolo_seg_param { object_scale: 3 }', 'type: "SegmentationEvaluate"'
X = (2, 3, 4, 5)


def unit(rng, shape):
    return rng.random(shape)


def loss(x, t):
    return ((3 * (1 / (1 + np.exp(-x)) - t.reshape(x.shape))) ** 2).sum() / len(x)


def overlap(threshold):
    def want(found, true):
        shares = []
        for a, b in zip(found[0] > threshold, true[0] > threshold, strict=True):
            shares.append((a & b).sum() / (a | b).sum() if (a & b).any() else 0)
        return np.array(shares)[None, None, None]

    return want


ROWS = [
    Row("loss", SEG, [X, (2, 60)], [()], loss, feed={1: unit}, gradient=False),
    Row("overlap", EVAL, [X, X], [(1, 1, 1, 3)], overlap(0.5), feed={0: unit, 1: unit}, gradient=False),
    Row(
        "rare",
        f"{EVAL} segmentation_evaluate_param {{ num_classes: 3 threshold: 0.97 }}",
        [X, X],
        [(1, 1, 1, 3)],
        overlap(0.97),
        feed={0: unit, 1: unit},
        gradient=False,
    ),
]
BAD = [
    Bad("labels", SEG, [X, (2, 3)], "bottom 1 has the wrong shape"),
    Bad("classes", EVAL, [X, (2, 2, 4, 5)], "bottom 1 has the wrong shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_gradient_is_no_derivative():
    text = prototxt(SEG, [X, X], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    rng = np.random.default_rng(1)
    x, t = rng.standard_normal(X), rng.random(X)
    fed = torch.tensor(x, requires_grad=True)
    net(fed, t)["t0"].backward()
    np.testing.assert_allclose(fed.grad, 3 * (1 / (1 + np.exp(-x)) - t) / 2)
