import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.errors import NetError

from .table import Bad, Row, labels, prototxt, suite


def naive(mode="VALID", axis=1, ignore=None, softmax=False):
    """Minus the log of the labelled class's probability, summed by a loop, divided by what `mode` says."""

    def loss(scores, truth):
        rows = np.moveaxis(scores, axis, -1).reshape(-1, scores.shape[axis])
        total, valid = 0.0, 0
        for row, label in zip(rows, truth.reshape(-1).astype(int), strict=True):
            if label != ignore:
                powers = np.exp(row - row.max())
                total -= np.log(max(powers[label] / powers.sum(), float(np.finfo(np.float32).tiny)))
                valid += 1
        count = {"FULL": len(rows), "VALID": valid, "BATCH_SIZE": int(np.prod(scores.shape[:axis])), "NONE": 1}
        value = total / max(count.get(mode, mode), 1)
        powers = np.exp(scores - scores.max(axis, keepdims=True))
        return [value, powers / powers.sum(axis, keepdims=True)] if softmax else value

    return loss


def loss(fields):
    return f'type: "SoftmaxWithLoss" {fields}'


FEW, IMAGE = [(7, 5), (7,)], [(2, 5, 3, 7), (2, 1, 3, 7)]
FEED = {1: labels(5)}
IGNORED = "loss_param {{ ignore_label: 3 {} }}".format
ROWS = [
    Row("plain", loss(""), FEW, [()], naive(), feed=FEED),
    Row("image", loss(""), IMAGE, [()], naive(), feed=FEED),
    Row("labels without an axis of one", loss(""), [(2, 5, 3, 7), (2, 3, 7)], [()], naive(), feed=FEED),
    Row("VALID", loss(IGNORED("")), IMAGE, [()], naive(ignore=3), feed=FEED),
    Row("FULL", loss(IGNORED("normalization: FULL")), IMAGE, [()], naive("FULL", ignore=3), feed=FEED),
    Row(
        "BATCH_SIZE", loss(IGNORED("normalization: BATCH_SIZE")), IMAGE, [()], naive("BATCH_SIZE", ignore=3), feed=FEED
    ),
    Row("NONE", loss(IGNORED("normalization: NONE")), IMAGE, [()], naive("NONE", ignore=3), feed=FEED),
    Row("DeepLab's", loss("softmaxloss_param { ignore_label: 3 }"), IMAGE, [()], naive(ignore=3), feed=FEED),
    Row("DeepLab's without", loss("softmaxloss_param { }"), IMAGE, [()], naive(), feed=FEED),
    Row("normalize true", loss(IGNORED("normalize: true")), IMAGE, [()], naive(ignore=3), feed=FEED),
    Row("normalize false", loss(IGNORED("normalize: false")), IMAGE, [()], naive("BATCH_SIZE", ignore=3), feed=FEED),
    Row(
        "normalization wins",
        loss(IGNORED("normalize: false normalization: FULL")),
        IMAGE,
        [()],
        naive("FULL", ignore=3),
        feed=FEED,
    ),
    Row(
        "a number of Intel Caffe",
        loss("loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 2.5 }"),
        IMAGE,
        [()],
        naive(2.5),
        feed=FEED,
    ),
    Row(
        "ignored label is no class",
        loss("loss_param { ignore_label: 255 }"),
        FEW,
        [()],
        naive(ignore=255),
        feed={1: lambda rng, s: rng.choice([0.0, 4, 255], s)},
    ),  # fmt: skip
    Row(
        "all ignored",
        loss("loss_param { ignore_label: 255 }"),
        FEW,
        [()],
        lambda x, t: 0.0,
        feed={1: lambda rng, s: np.full(s, 255.0)},
    ),  # fmt: skip
    Row("last axis", loss("softmax_param { axis: -1 }"), [(2, 3, 5), (2, 3)], [()], naive(axis=2), feed=FEED),
    Row(
        "last axis, BATCH_SIZE",
        loss("softmax_param { axis: 2 } loss_param { normalization: BATCH_SIZE }"),
        [(2, 3, 5), (2, 3)],
        [()],
        naive("BATCH_SIZE", axis=2),
        feed=FEED,
    ),
    Row("softmax on top", loss(""), IMAGE, [(), (2, 5, 3, 7)], naive(softmax=True), feed=FEED),
    Row(
        "least probability",
        loss(""),
        FEW,
        [()],
        naive(),
        feed={**FEED, 0: lambda rng, s: rng.normal(0, 2000, s)},
        gradient=False,
    ),
]
BAD = [
    Bad("labels", loss(""), [(7, 5), (7, 5)], "number of labels"),
    Bad("batch", loss(""), [(2, 5, 3), (3, 2)], "same first axis"),
    Bad("scalar label", loss(""), [(1, 5), ()], "same first axis"),
    Bad(
        "both settings",
        loss("loss_param {} softmaxloss_param { ignore_label: 3 }"),
        FEW,
        "are both given",
        at="softmaxloss_param",
    ),
    Bad(
        "weights from a file",
        loss('softmaxloss_param { weight_source: "w.txt" }'),
        FEW,
        "from a file are not supported",
        at="weight_source",
    ),
    Bad(
        "two ignored",
        loss("softmaxloss_param { ignore_label: 3 ignore_label: 4 }"),
        FEW,
        "one label can be ignored",
        at="ignore_label: 4",
    ),
    Bad("axis", loss("softmax_param { axis: 2 }"), FEW, "axis is out of range", at="axis"),
    Bad(
        "smoothing of NVCaffe", loss("loss_param { label_smoothing: 0.1 }"), FEW, "not supported", at="label_smoothing"
    ),
    Bad("three tops", loss(""), FEW, "wrong number of tops", tops=3),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def net(tops=1, dtype="float32"):
    text = prototxt(loss(""), FEW, tops)
    return netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype=dtype)


def test_a_certain_mistake_still_has_a_gradient():
    """Where the loss stops growing, Caffe's gradient is the softmax minus one all the same."""
    scores = torch.zeros(7, 5)
    scores[:, 2] = 1e30
    scores[:, 4] = -1e30
    scores.requires_grad_()
    truth = torch.tensor([2, 2, 0, 4, 2, 4, 2])
    value = net()(scores, truth)["t0"]
    assert value.item() == pytest.approx(3 * 87.336544 / 7)
    value.backward()
    want = torch.zeros(7, 5)
    want[:, 2] = 1
    want[torch.arange(7), truth] -= 1
    torch.testing.assert_close(scores.grad, want / 7)


def test_the_second_top_has_no_gradient():
    tops = net(tops=2)(torch.rand(7, 5, requires_grad=True), torch.zeros(7))
    assert tops["t0"].requires_grad and not tops["t1"].requires_grad


def test_unnamed_top_and_loss_weight():
    whole = net(tops=0)
    assert whole.graph.nodes[-1].loss_weights == (1.0,)
    scores, truth = torch.rand(7, 5), torch.zeros(7)
    outputs = whole(scores, truth)
    assert whole.loss(outputs) == net()(scores, truth)["t0"]


def test_bfloat16_scores_have_a_float32_loss():
    scores, truth = torch.randn(7, 5), torch.arange(7) % 5
    value = net(dtype="bfloat16")(scores.bfloat16(), truth)["t0"]
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, net()(scores.bfloat16().float(), truth)["t0"])


@pytest.mark.parametrize("label", [-1, 5])
def test_label_out_of_range(label):
    with pytest.raises(NetError, match="out of range"):
        net()(torch.rand(7, 5), torch.full((7,), label))


def test_labels_take_no_gradient():
    with pytest.raises(NetError, match="passes no gradient to its labels"):
        net()(torch.rand(7, 5, requires_grad=True), torch.zeros(7, requires_grad=True))["t0"].backward()


def weighted(fields, scores, truth):
    """The loss and its gradient, with SegNet's weights."""
    layer = f'type: "SoftmaxWithLoss" loss_param {{ weight_by_label_freqs: true {fields} }}'
    msg = netcompiler.parse(prototxt(layer, [scores.shape, truth.shape], 1))
    compiled = netcompiler.compile(msg, optimize=False, device="cpu", dtype="float64")
    fed = torch.tensor(scores, requires_grad=True)
    loss = compiled.loss(compiled(fed, truth))
    loss.backward()
    return float(loss.detach()), fed.grad.numpy()


@pytest.mark.parametrize("counted", [True, False])
def test_weights_of_classes(counted):
    rng = np.random.default_rng(0)
    scores, truth = rng.standard_normal((7, 3)), np.array([0.0, 1, 1, 2, 0, 0, 9])
    weights = np.array([1 / 3, 1 / 2, 1]) if counted else np.array([0.5, 2, 3])
    fields = "ignore_label: 9" + ("" if counted else " class_weighting: 0.5 class_weighting: 2 class_weighting: 3")
    loss, gradient = weighted(fields, scores, truth)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    kept = truth[:6].astype(int)
    share = weights[kept] / 6
    np.testing.assert_allclose(loss, -(np.log(p[range(6), kept]) * share).sum())
    np.testing.assert_allclose(gradient[:6], (p[:6] - np.eye(3)[kept]) * share[:, None])
    assert not gradient[6].any()


def test_weights_must_fit_the_classes():
    with pytest.raises(NetError, match="the wrong number of class_weighting"):
        weighted("class_weighting: 1", np.zeros((7, 3)), np.zeros(7))


def test_weights_without_the_switch_have_no_effect():
    layer = 'type: "SoftmaxWithLoss" loss_param { class_weighting: 1 }'
    assert not netcompiler.build(netcompiler.parse(prototxt(layer, [(7, 3), (7,)], 1))).nodes[-1].layer.weighted
