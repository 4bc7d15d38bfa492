"""DetectionLoss and DetectionAccuracy of MS-CNN, against loops over places."""

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite
from .test_boxes import overlap
from .test_decode_bbox import MEAN, NORMALISED, STD

ZERO, UNIT = np.zeros(4), np.ones(4)
FIELD, STRIDE = (40.0, 30.0), 8
HEAD = "field_w: 40 field_h: 30 downsample_rate: 8"


def loss(
    lam=1.0,
    smooth=True,
    whr=2.0,
    xyr=2.0,
    thr=0.5,
    multiple=4,
    objectness=False,
    iou=False,
    weighed=False,
    ignored=None,
    mean=ZERO,
    std=UNIT,
    chosen=None,
):
    """`chosen`: (head, known, image) -> the backgrounds that are sampled; else all that may be."""

    def value(head, known):
        n, _, h, w = known.shape
        classes = head.shape[1] - 4
        free = (known[:, 0] == 0) & (known[:, 5] < thr)
        drawn = free if chosen is None else np.stack([chosen(head[i], known[i], free[i]) for i in range(n)])
        weights = np.where((known[:, 0] != 0) & iou, known[:, 5], 1.0)
        objects = known[:, 0] != 0
        if weighed and objects.any():
            count, share = drawn.sum() + objects.sum(), 1 / (1 + multiple)
            sums = weights[objects].sum(), weights[drawn].sum()
            weights = np.where(objects, weights * share * count / sums[0], weights * (1 - share) * count / sums[1])
        first, second, counted, places = 0.0, 0.0, 0, 0
        for i, y, x in np.ndindex(n, h, w):
            label = int(known[i, 0, y, x])
            kind = min(label, 1) if objectness else label
            values = head[i, :, y, x]
            if kind != ignored and (kind or drawn[i, y, x]):
                powers = np.exp(values[:classes] - values[:classes].max())
                first -= np.log(powers[kind] / powers.sum()) * weights[i, y, x]
                counted += 1
            if label and label != ignored:
                box = known[i, 1:5, y, x]
                middle = (np.array([x, y]) + 0.5) * STRIDE
                wanted = np.concatenate([(box[:2] - middle) / FIELD, np.log(np.maximum(box[2:], 2) / FIELD)])
                wanted = (wanted - mean) / std
                for k, most in enumerate([1 / xyr, 1 / xyr, np.log(whr), np.log(whr)]):
                    pair = slice(0, 2) if k < 2 else slice(2, 4)
                    low, high = ((v - mean[pair].mean()) / np.sqrt(std[pair].prod()) for v in (-most, most))
                    d = np.clip(values[classes + k], low, high) - wanted[k]
                    second += d * d / 2 if abs(d) < 1 or not smooth else abs(d) - 0.5
                places += 4
        boxes = lam * second / max(places, 1)
        return np.reshape([first / max(counted, 1) + boxes, boxes], (1, 1, 1, 2))

    return value


def known(rng, shape):
    n, _, h, w = shape
    labels = rng.integers(0, 3, (n, 1, h, w)) * (rng.uniform(size=(n, 1, h, w)) < 0.3)
    centre = rng.uniform(0, 60, (n, 2, h, w))
    return np.concatenate([labels, centre, rng.uniform(1, 70, (n, 2, h, w)), rng.uniform(0, 1, (n, 1, h, w))], 1)


def detection(fields="", more=""):
    return f'type: "DetectionLoss" detection_loss_param {{ cls_num: 3 {HEAD} {fields} }} {more}'


ALL = 'sample_mode: "all"'
SHAPES = [(2, 7, 4, 5), (2, 6, 4, 5)]
TOP = (1, 1, 1, 2)


def row(name, fields, want, more="", shapes=SHAPES, phase="TEST"):
    return Row(
        name, detection(f"{ALL} {fields}", more), shapes, [TOP], want, feed={1: known}, gradient=False, phase=phase
    )


ROWS = [
    row("all", "", loss()),
    row("lambda, squares", "lambda: 0.3 bb_smooth: false", loss(0.3, False)),
    row("bounds", "field_whr: 1.3 field_xyr: 5 bg_threshold: 0.8", loss(whr=1.3, xyr=5, thr=0.8)),
    row("normalised", "", loss(mean=MEAN, std=STD), NORMALISED),
    row("iou weights", "iou_weighted: true", loss(iou=True)),
    row(
        "both weights",
        "iou_weighted: true pos_neg_weighted: true bg_multiple: 2",
        loss(iou=True, weighed=True, multiple=2),
    ),
    row("ignored", "", loss(ignored=1), "loss_param { ignore_label: 1 }"),
    Row(
        "objectness",
        detection(f"{ALL} objectness: true").replace("cls_num: 3", "cls_num: 2"),
        [(2, 6, 4, 5), (2, 6, 4, 5)],
        [TOP],
        loss(objectness=True),
        feed={1: known},
        gradient=False,
    ),
    Row(
        "nothing",
        detection(f"{ALL} pos_neg_weighted: true"),
        SHAPES,
        [TOP],
        lambda *b: np.zeros(TOP),
        feed={1: lambda rng, s: np.ones(s) * np.reshape([0, 1, 1, 1, 1, 1], (1, 6, 1, 1))},
        gradient=False,
    ),
]
BAD = [
    Bad("no classes", detection().replace("cls_num: 3", ""), SHAPES, "cls_num is missing"),
    Bad("no field", detection().replace("field_h: 30", ""), SHAPES, "field_h is missing"),
    Bad("coordinates", detection("coord_num: 7"), SHAPES, "coord_num must be 4", at="coord_num"),
    Bad("objectness", detection("objectness: true"), SHAPES, "objectness is for two classes", at="objectness"),
    Bad("channels", detection(), [(2, 6, 4, 5), (2, 6, 4, 5)], "bottom 0 does not fit"),
    Bad("labels", detection(), [(2, 7, 4, 5), (2, 6, 4, 6)], "bottom 1 does not fit"),
    Bad(
        "top_k",
        f'type: "DetectionAccuracy" detection_accuracy_param {{ cls_num: 3 {HEAD} top_k: 4 }}',
        SHAPES,
        "top_k is out of range",
        at="top_k",
    ),
]


def bootstrapped(multiple):
    def chosen(head, known, free):
        found = np.zeros_like(free)
        for k in (1, 2):
            count = max(4, int((known[0] == k).sum() * multiple))
            places = [tuple(p) for p in np.argwhere(free)]
            for place in sorted(places, key=lambda p: -head[k][p])[:count]:
                found[place] = True
        return found

    return chosen


ROWS.append(
    Row(
        "bootstrap",
        detection('sample_mode: "bootstrap" bg_multiple: 1'),
        SHAPES,
        [TOP],
        loss(multiple=1, chosen=bootstrapped(1)),
        feed={1: known},
        gradient=False,
    )
)


def accuracy(top_k=1, whr=2.0, xyr=4.0, thr=0.5, objectness=False, ignored=None, tops=2):
    def value(head, known):
        n, _, h, w = known.shape
        classes = head.shape[1] - 4
        right, fore, shares = [], [], []
        for i, y, x in np.ndindex(n, h, w):
            label, values = int(known[i, 0, y, x]), head[i, :, y, x]
            kind = min(label, 1) if objectness else label
            if kind != ignored and (kind or known[i, 5, y, x] < thr):
                right.append(kind in np.argsort(-values[:classes])[:top_k])
                fore += [right[-1]] if kind else []
            if label and label != ignored:
                d = values[classes:]
                middle = np.clip(d[:2], -1 / xyr, 1 / xyr) * FIELD + (np.array([x, y]) + 0.5) * STRIDE
                half = np.exp(np.clip(d[2:], -np.log(whr), np.log(whr))) * FIELD / 2
                box = known[i, 1:5, y, x]
                shares.append(
                    overlap([*(middle - half), *(middle + half)], [*(box[:2] - box[2:] / 2), *(box[:2] + box[2:] / 2)])
                )
        means = [np.mean(v) if v else -1.0 for v in (right, fore, shares)]
        return [np.reshape(means[:2], TOP), np.reshape(means[2], (1, 1, 1, 1))][:tops]

    return value


def measured(fields="", more=""):
    return f'type: "DetectionAccuracy" detection_accuracy_param {{ cls_num: 3 {HEAD} {fields} }} {more}'


def measure(name, fields, want, more="", tops=2):
    return Row(name, measured(fields, more), SHAPES, [TOP, (1, 1, 1, 1)][:tops], want, feed={1: known}, gradient=False)


ROWS += [
    measure("accuracy", "", accuracy()),
    measure("one top", "", accuracy(tops=1), tops=1),
    measure("top 2, bounds", "top_k: 2 field_whr: 1.3 field_xyr: 2 bg_threshold: 0.9", accuracy(2, 1.3, 2.0, 0.9)),
    measure("ignored, accuracy", "", accuracy(ignored=2), "loss_param { ignore_label: 2 }"),
    Row(
        "nothing, accuracy",
        measured(),
        SHAPES,
        [TOP, (1, 1, 1, 1)],
        lambda *b: [np.full(TOP, -1.0), np.full((1, 1, 1, 1), -1.0)],
        feed={1: lambda rng, s: np.ones(s) * np.reshape([0, 1, 1, 1, 1, 1], (1, 6, 1, 1))},
        gradient=False,
    ),
]
test_row, _, test_bad = suite(ROWS, BAD)


def compiled(body, phase="TRAIN"):
    text = prototxt(body, SHAPES, 1)
    return netcompiler.compile(netcompiler.parse(text), phase=phase, optimize=False, device="cpu", dtype="float64")


def feeds(seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 2, SHAPES[0])).requires_grad_(), torch.from_numpy(known(rng, SHAPES[1]))


def test_gradient():
    """That of the loss, but that the bounds let the boxes' part through."""
    head, truth = feeds()
    net = compiled(detection(f"{ALL} lambda: 0.7 field_whr: 1.1"))
    assert net.graph.nodes[-1].loss_weights == (1.0,)
    net.loss(net(head, truth)).backward()
    grad = head.grad.clone()
    with torch.no_grad():
        step = 1e-6
        for place in [(0, 0, 1, 2), (1, 2, 3, 4), (0, 1, 0, 0)]:
            values = []
            for sign in (1, -1):
                moved = head.detach().clone()
                moved[place] += sign * step
                values.append(net(moved, truth)["t0"].flatten()[0])
            assert grad[place].item() == pytest.approx(((values[0] - values[1]) / (2 * step)).item(), abs=1e-6)
    objects = (truth[:, 0] != 0)[:, None].expand(-1, 4, -1, -1)
    assert (grad[:, 3:][objects] != 0).all() and not grad[:, 3:][~objects].any()
    assert grad[:, 3:].abs().max().item() <= 0.7 / objects.sum() + 1e-12


@pytest.mark.parametrize("mode", ["random", "mixture"])
def test_random_backgrounds(mode):
    """Some of those that may be drawn have a gradient, and no others; the draw follows the seed."""
    net, found = compiled(detection(f'sample_mode: "{mode}" bg_multiple: 1')), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        head, truth = feeds()
        net(head, truth)["t0"].flatten()[0].backward()
        found.append(head.grad[:, :3].abs().sum(1) > 0)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    free = (truth[:, 0] == 0) & (truth[:, 5] < 0.5)
    drawn = found[0] & (truth[:, 0] == 0)
    assert drawn.any() and not (drawn & ~free).any() and (drawn.sum() < free.sum())
    assert found[0][truth[:, 0] != 0].all()


def test_labels_take_no_gradient():
    head, truth = feeds()
    with pytest.raises(NetError, match="passes no gradient to its labels"):
        compiled(detection(ALL))(head, truth.requires_grad_())["t0"].sum().backward()
