import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def cross_entropy(mode="BATCH_SIZE", ignore=None):
    def loss(x, target):
        total, counted = 0.0, 0
        for v, t in zip(x.ravel(), target.ravel(), strict=True):
            if ignore is not None and int(t) == ignore:
                continue
            s = 1 / (1 + np.exp(-v))
            total -= t * np.log(s) + (1 - t) * np.log(1 - s)
            counted += 1
        divisor = {"BATCH_SIZE": len(x), "FULL": x.size, "VALID": counted, "NONE": 1}[mode]
        return total / max(divisor, 1)

    return loss


def shares(rng, shape):
    return rng.uniform(0, 1, shape)


def some_ignored(rng, shape):
    return rng.choice([0.0, 1.0, 0.75, 7.0, 7.5, -7.0], shape)


def all_ignored(rng, shape):
    return np.full(shape, 7.0)


def scel(fields: str = "") -> str:
    return 'type: "SigmoidCrossEntropyLoss"' + (f" loss_param {{ {fields} }}" if fields else "")


X = [(5, 3, 2), (5, 3, 2)]
ROWS = [
    Row("plain", scel(), X, [()], cross_entropy(), feed={1: shares}),
    Row("another shape", scel(), [(5, 3, 2), (5, 6)], [()], cross_entropy(), feed={1: shares}),
    Row("full", scel("normalization: FULL"), X, [()], cross_entropy("FULL"), feed={1: shares}),
    Row("none", scel("normalization: NONE"), X, [()], cross_entropy("NONE"), feed={1: shares}),
    Row("old normalize", scel("normalize: true"), X, [()], cross_entropy("FULL"), feed={1: shares}),
    Row("old not normalize", scel("normalize: false"), X, [()], cross_entropy(), feed={1: shares}),
    Row("ignored", scel("ignore_label: 7"), X, [()], cross_entropy("BATCH_SIZE", 7), feed={1: some_ignored}),
    Row("ignored 0", scel("ignore_label: 0"), X, [()], cross_entropy("BATCH_SIZE", 0), feed={1: some_ignored}),
    Row(
        "valid",
        scel("ignore_label: 7 normalization: VALID"),
        X,
        [()],
        cross_entropy("VALID", 7),
        feed={1: some_ignored},
    ),
    Row(
        "none valid", scel("ignore_label: 7 normalize: true"), X, [()], cross_entropy("VALID", 7), feed={1: all_ignored}
    ),
]
BAD = [
    Bad("count", scel(), [(5, 3), (5, 2)], "the targets do not match"),
    Bad("items", scel(), [(5, 3), (3, 5)], "the targets do not match"),
    Bad("smoothing", scel("label_smoothing: 0.1"), X, "LossParameter.label_smoothing", at="label_smoothing"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_large_scores_do_not_overflow():
    msg = netcompiler.parse(prototxt(scel(), [(1, 4), (1, 4)], 1))
    x = torch.tensor([[1e4, 1e4, -1e4, -1e4]], requires_grad=True)
    loss = netcompiler.compile(msg, optimize=False, device="cpu")(x, torch.tensor([[1, 0, 1, 0]]))["t0"]
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert x.grad.tolist() == [[0, 1, -1, 0]]
