import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite

FIELDS = ((20, 30), (40, 25))
HEAD = "cls_num: 3 field_w: 20 field_w: 40 field_h: 30 field_h: 25 stride: 8"
SHAPES = [(4, 3, 3, 4), (4, 4, 3, 4), (4, 6, 3, 4)]
MEAN, STD = (0.1, 0, -0.1, 0.2), (0.5, 0.4, 2, 1.5)
REG = "bbox_reg_param { " + " ".join(f"bbox_mean: {a} bbox_std: {b}" for a, b in zip(MEAN, STD, strict=True)) + " }"


def known(rng, shape):
    """Labels of some objects, their boxes, and overlaps of the background."""
    top = np.zeros(shape)
    top[:, 0] = rng.choice([0, 0, 0, 1, 2], shape[:1] + shape[2:])
    top[:, 1:3] = rng.uniform(0, 32, (shape[0], 2, *shape[2:]))
    top[:, 3:5] = rng.uniform(1, 60, (shape[0], 2, *shape[2:]))
    top[:, 5] = rng.uniform(0, 1, shape[:1] + shape[2:])
    return top


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def encoded(i, h, w, box, mean, std):
    wide, high = FIELDS[i % 2]
    x, y, width, height = box
    plain = [
        (x - (w + 0.5) * 8) / wide,
        (y - (h + 0.5) * 8) / high,
        np.log(max(width, 2) / wide),
        np.log(max(height, 2) / high),
    ]
    return (np.array(plain) - mean) / std


def loss(
    threshold=0.5,
    multiple=4,
    rank="conf_loss",
    least=5,
    batch=-1,
    weighted=False,
    l2=False,
    lam=1.0,
    ignored=None,
    bounds=None,
    mean=(0,) * 4,
    std=(1,) * 4,
):
    def want(scores, deltas, truth):
        probability = softmax(scores)
        kept = []
        for image in range(2):
            objects, grounds = [], []
            for i in (2 * image, 2 * image + 1):
                for h, w in np.ndindex(3, 4):
                    label = int(truth[i, 0, h, w])
                    if label > 0:
                        objects.append((i, h, w))
                    elif truth[i, 5, h, w] < threshold:
                        p = probability[i, 0, h, w]
                        grounds.append((1 - p if rank == "conf_prob" else -np.log(p), (i, h, w)))
            wanted = max(len(objects) * multiple, least) if batch < 0 else batch - len(objects)
            kept += objects + [at for _, at in sorted(grounds, reverse=True)[:wanted]]
        n_objects = sum(truth[i, 0, h, w] > 0 for i, h, w in kept)
        weight = {True: 1.0, False: 1.0}
        if weighted:
            share = 1 / (1 + multiple)
            weight = {True: share * len(kept) / n_objects, False: (1 - share) * len(kept) / (len(kept) - n_objects)}
        classes = boxes = 0.0
        count = places = 0
        for i, h, w in kept:
            label = int(truth[i, 0, h, w])
            if label == ignored:
                continue
            classes, count = classes - weight[label > 0] * np.log(probability[i, label, h, w]), count + 1
            if label:
                d = deltas[i, :, h, w].copy()
                if bounds:
                    for k, most in ((0, 1 / bounds[0]), (2, np.log(bounds[1]))):
                        middle, spread = (mean[k] + mean[k + 1]) / 2, np.sqrt(std[k] * std[k + 1])
                        d[k : k + 2] = np.clip(d[k : k + 2], (-most - middle) / spread, (most - middle) / spread)
                off = abs(d - encoded(i, h, w, truth[i, 1:5, h, w], mean, std))
                boxes += sum(x * x / 2 if x < 1 or l2 else x - 0.5 for x in off)
                places += 4
        boxes = lam * boxes / max(places, 1)
        return np.array([classes / max(count, 1) + boxes, boxes])[None, None, None]

    return want


def group(fields="", more="", head=HEAD):
    return f'type: "DetectionGroupLoss" detection_group_loss_param {{ {head} {fields} }} {more}'


def row(name, fields, want, more=""):
    return Row(name, group(fields, more), SHAPES, [(1, 1, 1, 2)], want, feed={2: known}, gradient=False)


HARD = 'neg_mining_type: "bootstrap"'
ROWS = [
    row("all", "bg_multiple: 99", loss(multiple=99)),
    row("hardest", f"{HARD} bg_multiple: 1", loss(multiple=1)),
    row("at least", f"{HARD} bg_multiple: 0 min_num_neg: 3 bg_threshold: 0.8", loss(0.8, 0, least=3)),
    row("by probability", f'{HARD} bg_multiple: 1 neg_ranking_type: "conf_prob"', loss(multiple=1, rank="conf_prob")),
    row("batch", f"{HARD} batch_size: 20 bg_multiple: 0", loss(multiple=0, batch=20)),
    row(
        "weighted",
        f"{HARD} bg_multiple: 1 pos_neg_weighted: true lambda: 0.5",
        loss(multiple=1, weighted=True, lam=0.5),
    ),
    row("squares", f'{HARD} bg_multiple: 1 bbox_loss_type: "Euclidean_L2"', loss(multiple=1, l2=True)),
    row("ignored", f"{HARD} bg_multiple: 1", loss(multiple=1, ignored=2), "loss_param { ignore_label: 2 }"),
    row("one bound", f"{HARD} bg_multiple: 1 field_xyr: 2", loss(multiple=1, mean=MEAN, std=STD), REG),
    row(
        "bounds",
        f"{HARD} bg_multiple: 1 field_xyr: 2 field_whr: 3",
        loss(multiple=1, bounds=(2, 3), mean=MEAN, std=STD),
        REG,
    ),
]


def accuracy(threshold=0.5, ignored=None, mean=(0,) * 4, std=(1,) * 4):
    def want(scores, deltas, truth):
        right, right_objects, overlaps, count = 0, 0, [], 0
        for i, h, w in np.ndindex(4, 3, 4):
            label = int(truth[i, 0, h, w])
            if label == ignored or (label == 0 and truth[i, 5, h, w] >= threshold):
                continue
            hit = int(scores[i, :, h, w].argmax()) == label
            right, count = right + hit, count + 1
            if label:
                right_objects += hit
                wide, high = FIELDS[i % 2]
                d = deltas[i, :, h, w] * std + mean
                d[:2], d[2:] = np.clip(d[:2], -0.25, 0.25), np.clip(d[2:], -np.log(2), np.log(2))
                a = np.array(
                    [d[0] * wide + (w + 0.5) * 8, d[1] * high + (h + 0.5) * 8, wide * np.exp(d[2]), high * np.exp(d[3])]
                )
                b = truth[i, 1:5, h, w]
                low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
                shared = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2) - low
                common = shared.prod() if (shared >= 1).all() else 0
                overlaps.append(common / (a[2] * a[3] + b[2] * b[3] - common))
        found = np.array([right / count, right_objects / len(overlaps)])
        return found[None, None, None], np.full((1, 1, 1, 1), np.mean(overlaps))

    return want


def measured(fields="", more=""):
    return f'type: "DetectionGroupAccuracy" detection_group_accuracy_param {{ {HEAD} {fields} }} {more}'


TOPS = [(1, 1, 1, 2), (1, 1, 1, 1)]
ROWS += [
    Row("accuracy", measured(), SHAPES, TOPS, accuracy(), feed={2: known}, gradient=False),
    Row(
        "accuracy, set",
        measured("bg_threshold: 0.3", f"{REG} loss_param {{ ignore_label: 1 }}"),
        SHAPES,
        TOPS,
        accuracy(0.3, 1, MEAN, STD),
        feed={2: known},
        gradient=False,
    ),
]
BAD = [
    Bad("mining", group('neg_mining_type: "best"'), SHAPES, "unknown neg_mining_type", at="neg_mining_type"),
    Bad("batch", group("batch_size: 0"), SHAPES, "batch_size is out of range", at="batch_size"),
    Bad("fields", group(head="cls_num: 3 stride: 8 field_w: 4"), SHAPES, "must be as many", at="field_w"),
    Bad("classes", group(head="stride: 8 field_w: 4 field_h: 4"), SHAPES, "cls_num is missing"),
    Bad("objectness", measured("objectness: true"), SHAPES, "objectness is for two classes", at="objectness"),
    Bad("scores", group(), [(4, 4, 3, 4), *SHAPES[1:]], "bottom 0 does not fit"),
    Bad("truth", group(), [*SHAPES[:2], (4, 5, 3, 4)], "bottom 2 does not fit"),
    Bad("groups", group(), [(3, *s[1:]) for s in SHAPES], "the batch has no whole groups"),
    Bad("bound", group("field_whr: 0"), SHAPES, "field_whr must be positive", at="field_whr"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def compiled(layer):
    text = prototxt(layer, SHAPES, 1)
    return netcompiler.compile(netcompiler.parse(text), phase="TRAIN", optimize=False, device="cpu", dtype="float64")


def feeds():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s) if i < 2 else known(rng, s) for i, s in enumerate(SHAPES)]


def test_the_gradient():
    net = compiled(group("bg_multiple: 99"))
    scores, deltas, truth = feeds()
    a, b = (torch.tensor(x, requires_grad=True) for x in (scores, deltas))

    def run(*x):
        return net(*x, truth)["t0"][..., 0]

    assert torch.autograd.gradcheck(run, (a, b), atol=1e-6)


@pytest.mark.parametrize("mining", ["random", "mixture"])
def test_drawn_backgrounds(mining):
    net = compiled(group(f'neg_mining_type: "{mining}" bg_multiple: 0 min_num_neg: 6 lambda: 0'))
    scores, deltas, truth = feeds()
    free = (truth[:, 0] == 0) & (truth[:, 5] < 0.5)
    losses = -np.log(softmax(scores)[:, 0])
    hard = np.zeros_like(free)
    for image in range(2):
        part = np.where(free, losses, -1).reshape(2, -1)[image]
        hard.reshape(2, -1)[image, part.argsort()[-3:]] = True
    seen = np.zeros(free.shape)
    for _ in range(60):
        x = torch.tensor(scores, requires_grad=True)
        net(x, deltas, truth)["t0"][..., 0].sum().backward()
        used = (x.grad.numpy() != 0).any(1)
        assert (used[truth[:, 0] > 0]).all()
        drawn = used & (truth[:, 0] == 0)
        assert (drawn.reshape(2, -1).sum(1) == 6).all() and not (drawn & ~free).any()
        assert mining == "random" or (drawn | ~hard).all()
        seen += drawn
    assert (seen > 0)[free].all()


def test_objects_are_drawn_where_there_are_too_many():
    net = compiled(group("batch_size: 4 bg_multiple: 1"))
    scores, deltas, truth = feeds()
    x = torch.tensor(scores, requires_grad=True)
    net(x, deltas, truth)["t0"][..., 0].sum().backward()
    used = (x.grad.numpy() != 0).any(1)
    assert ((used & (truth[:, 0] > 0)).reshape(2, -1).sum(1) == 2).all()
    assert (used.reshape(2, -1).sum(1) == 4).all()
