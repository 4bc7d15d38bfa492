import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, labels, prototxt, suite


def contrastive(margin=1.0, legacy=False):
    def loss(a, b, labels):
        total = 0.0
        for n in range(len(a)):
            square = sum((p - q) ** 2 for p, q in zip(a[n].ravel(), b[n].ravel(), strict=True))
            if int(labels.ravel()[n]):
                total += square
            elif legacy:
                total += max(margin - square, 0)
            else:
                total += max(margin - np.sqrt(square), 0) ** 2
        return total / len(a) / 2

    return loss


def matches(margin, legacy=False):
    def right(a, b, alike):
        square = ((a - b) ** 2).sum(1)
        near = margin - (square if legacy else np.sqrt(square)) >= 0
        assert near.any() and not near.all()
        return np.where(alike.ravel().astype(int) != 0, near, ~near).astype(float).reshape(-1, 1, 1, 1)

    return right


def pairs(rng, shape):
    return np.array([0.0, 1.0, 0.9, 3.0, -1.5, 0.0, 0.0]).reshape(shape)


PAIRS = [(7, 5), (7, 5), (7,)]
ROWS = [
    Row("margin 1", 'type: "ContrastiveLoss"', PAIRS, [()], contrastive(), feed={2: pairs}),
    Row(
        "margin 4",
        'type: "ContrastiveLoss" contrastive_loss_param { margin: 4 }',
        PAIRS,
        [()],
        contrastive(4),
        feed={2: pairs},
    ),
    Row(
        "legacy",
        'type: "ContrastiveLoss" contrastive_loss_param { margin: 11 legacy_version: true }',
        PAIRS,
        [()],
        contrastive(11, True),
        feed={2: pairs},
    ),
    Row(
        "matches",
        'type: "ContrastiveLoss" contrastive_loss_param { margin: 3 output_matches: true }',
        PAIRS,
        [(), (7, 1, 1, 1)],
        lambda a, b, labels: [contrastive(3)(a, b, labels), matches(3)(a, b, labels)],
        feed={2: pairs},
    ),
    Row(
        "two labels each",
        'type: "ContrastiveLoss" contrastive_loss_param { margin: 9 legacy_version: true output_matches: true }',
        [(7, 5), (7, 5), (7, 2)],
        [(), (7, 1, 1, 1)],
        lambda a, b, two: [
            contrastive(9, True)(a, b, two[:, 0] == two[:, 1]),
            matches(9, True)(a, b, two[:, 0] == two[:, 1]),
        ],
        feed={2: labels(2)},
    ),
    Row(
        "one number each",
        'type: "ContrastiveLoss" contrastive_loss_param { margin: 5 }',
        [(7,), (7, 1), (7,)],
        [()],
        lambda a, b, labels: contrastive(5)(a.reshape(7, 1), b, labels),
        feed={2: pairs},
    ),
    Row(
        "axes of 1",
        'type: "ContrastiveLoss" contrastive_loss_param { margin: 5 }',
        [(7, 3, 1, 1), (7, 3), (7, 1, 1)],
        [()],
        contrastive(5),
        feed={2: pairs},
    ),
]
BAD = [
    Bad("two bottoms", 'type: "ContrastiveLoss"', PAIRS[:2], "the wrong number of bottoms"),
    Bad("channels", 'type: "ContrastiveLoss"', [(7, 5), (7, 3), (7,)], "differ in shape"),
    Bad("images", 'type: "ContrastiveLoss"', [(7, 5, 2), (7, 5, 2), (7,)], "the pairs must be N x C"),
    Bad("labels", 'type: "ContrastiveLoss"', [(7, 5), (7, 5), (7, 2)], "each pair needs one label"),
    Bad("a second top", 'type: "ContrastiveLoss"', PAIRS, "only output_matches has a second top", tops=2),
    Bad("no pairs", 'type: "ContrastiveLoss"', [(7,), (7, 2), (7,)], "differ in shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_equal_unlike_pairs_have_gradient_0_and_close_ones_caffes():
    msg = netcompiler.parse(prototxt('type: "ContrastiveLoss"', [(2, 1), (2, 1), (2,)], 1))
    net = netcompiler.compile(msg, optimize=False, device="cpu", dtype="float64")
    a = torch.tensor([[2.0], [0.001]], dtype=torch.float64, requires_grad=True)
    net(a, torch.tensor([[2.0], [0.0]], dtype=torch.float64), torch.zeros(2))["t0"].backward()
    assert a.grad[0, 0] == 0
    assert a.grad[1, 0].item() == pytest.approx(-(1 - 0.001) / (0.001 + 0.0001) * 0.001 / 2)
