import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, labels, prototxt, suite
from .test_softmax_with_loss import naive as loss_and_softmax


def naive(tops, **options):
    """The loss by the plain layer's loop, and the part of each position in the sum."""

    def loss(scores, truth):
        axis, ignored = options.get("axis", 1), options.get("ignore")
        value, powers = loss_and_softmax(softmax=True, **options)(scores, truth)
        rows = np.moveaxis(powers, axis, -1).reshape(-1, scores.shape[axis])
        kinds = truth.reshape(-1).astype(int)
        parts = [0 if k == ignored else -np.log(row[k]) for row, k in zip(rows, kinds, strict=True)]
        return [value, powers, np.reshape(parts, truth.shape)][:tops]

    return loss


def loss(fields="", tops=1):
    weights = "loss_weight: 1" + " loss_weight: 0" * (tops - 1)
    return f'type: "SoftmaxWithLossOHEM" {weights} {fields}'


IMAGE = [(2, 5, 3, 7), (2, 1, 3, 7)]
IGNORED = "loss_param {{ ignore_label: 3 {} }}".format
FEED = {1: labels(5)}
ROWS = [
    Row("loss", loss(), IMAGE, [()], naive(1), feed=FEED),
    Row("two tops", loss(tops=2), IMAGE, [(), IMAGE[0]], naive(2), feed=FEED),
    Row("three tops", loss(tops=3), IMAGE, [(), *IMAGE], naive(3), feed=FEED),
    Row("ignored", loss(IGNORED(""), 3), IMAGE, [(), *IMAGE], naive(3, ignore=3), feed=FEED),
    Row(
        "FULL", loss(IGNORED("normalization: FULL"), 3), IMAGE, [(), *IMAGE], naive(3, mode="FULL", ignore=3), feed=FEED
    ),
    Row("BATCH_SIZE", loss("loss_param { normalize: false }"), IMAGE, [()], naive(1, mode="BATCH_SIZE"), feed=FEED),
    Row(
        "PRE_FIXED",
        loss("loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 2.5 }"),
        IMAGE,
        [()],
        naive(1, mode=2.5),
        feed=FEED,
    ),
    Row(
        "last axis",
        loss("softmax_param { axis: -1 }", 3),
        [(2, 3, 5), (2, 3)],
        [(), (2, 3, 5), (2, 3)],
        naive(3, axis=2),
        feed=FEED,
    ),
]
BAD = [
    Bad("labels", loss(), [(7, 5), (7, 5)], "number of labels"),
    Bad("axis", loss("softmax_param { axis: 2 }"), [(7, 5), (7,)], "axis is out of range", at="axis"),
    Bad("four tops", loss(tops=4), IMAGE, "the wrong number of tops", tops=4),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_parts_have_no_gradient_and_labels_take_none():
    net = netcompiler.compile(netcompiler.parse(prototxt(loss(tops=3), IMAGE, 3)), optimize=False, device="cpu")
    truth = torch.zeros(IMAGE[1], requires_grad=True)
    tops = net(torch.rand(IMAGE[0], requires_grad=True), truth)
    assert [tops[f"t{i}"].requires_grad for i in range(3)] == [True, False, False]
    with pytest.raises(NetError, match="passes no gradient to its labels"):
        tops["t0"].backward()


def test_weight_that_is_not_written():
    net = netcompiler.build(netcompiler.parse(prototxt('type: "SoftmaxWithLossOHEM"', IMAGE, 1)))
    assert net.nodes[-1].loss_weights == (1.0,)


def test_sum_of_intel_caffe():
    """Over the first positions, as many as are not ignored; the gradient is that of all."""
    body = loss("loss_param { ignore_label: -1 normalization: NONE }", 3)
    text = prototxt(body, [(5, 4), (5,)], 3)
    found = []
    for dialect in ("intel", "rfcn"):
        net = netcompiler.compile(
            netcompiler.parse(text), optimize=False, device="cpu", dtype="float64", dialect=dialect
        )
        scores = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (5, 4))).requires_grad_()
        tops = net(scores, torch.tensor([-1, 2, -1, 0, 3]))
        tops["t0"].backward()
        found.append((tops["t0"].item(), tops["t2"].tolist(), scores.grad))
    (intel, parts, grad), (usual, same, right) = found
    assert parts == same and torch.equal(grad, right)
    assert usual == pytest.approx(sum(parts)) and intel == pytest.approx(sum(parts[:3]))
