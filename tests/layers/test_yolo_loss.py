import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, prototxt, suite
from .test_detection_output import overlap
from .test_yolo_output import listed, sigmoid

N, NUM, CLASSES, SIDES = 2, 2, 3, (3, 4)
BIASES = [1.2, 0.8, 2.5, 3.1, 0.7, 2.2]
BOTTOMS = [(N, NUM * (5 + CLASSES), *SIDES), (N, 1, 6, 5)]


def v2(fields="", biases=BIASES[:4]):
    body = f"num_class: {CLASSES} num: {NUM} {listed('biases', biases)} {fields}"
    return f'type: "RegionLoss" region_loss_param {{ {body} }}'


def v3(fields="", mask=(2, 0)):
    body = (
        f"num_class: {CLASSES} num: {NUM} {listed('biases', BIASES)} {listed('mask', mask)} anchors_scale: 2 {fields}"
    )
    return f'type: "Yolov3" yolov3_param {{ {body} }}'


BAD = [
    Bad("channels", v2(), [(N, 8, 3, 4), BOTTOMS[1]], "wrong number of channels"),
    Bad("truth", v3(), [BOTTOMS[0], (N, 7)], "bottom 1 holds no ground truth"),
    Bad("batches", v3(), [BOTTOMS[0], (1, 5)], "bottom 1 holds no ground truth"),
    Bad("biases", v2(biases=BIASES[:3]), BOTTOMS, "wrong number of biases", at="biases"),
    Bad("coords", v2("coords: 5"), BOTTOMS, "coords must be 4", at="coords"),
    Bad("mask", v3(mask=(0, 3)), BOTTOMS, "mask names no anchor", at="mask: 3"),
    Bad("short mask", v3(mask=(0,)), BOTTOMS, "wrong number of mask", at="mask"),
]
_, _, test_bad = suite([], BAD)


def corners(x, y, w, h):
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def want(x, truth, *, third, warm=True, obj=1.0, cls=1.0, noobj=0.5, coord=5.0, thresh=0.2, match=True, rescore=True,
         logic=False, mask=(2, 0)):  # fmt: skip
    """d, and the gradient's d, number by number."""
    rows, columns = SIDES
    d = np.zeros((N, NUM, 5 + CLASSES, *SIDES))
    v = x.reshape(d.shape).copy()
    for n, a, i, j in np.ndindex(N, NUM, *SIDES):
        for c in range(5 + CLASSES):
            if c in ((0, 1, 4) if not third else (0, 1, 4, *range(5, 5 + CLASSES))):
                v[n, a, c, i, j] = sigmoid(v[n, a, c, i, j])
        if not third:
            e = np.exp(v[n, a, 5:, i, j])
            v[n, a, 5:, i, j] = e / e.sum()
    across, down = (2 * columns, 2 * rows) if third else (columns, rows)

    def anchor(a):
        k = mask[a] if third else a
        return BIASES[2 * k] / across, BIASES[2 * k + 1] / down

    def box(n, a, i, j):
        (w, h), c = anchor(a), v[n, a, :4, i, j]
        return corners((j + c[0]) / columns, (i + c[1]) / rows, np.exp(c[2]) * w, np.exp(c[3]) * h)

    def bend(s):
        return s * (1 - s)

    def draw_to(n, a, i, j, x, y, w, h, k):
        c = v[n, a, :4, i, j]
        d[n, a, 0, i, j] = k * (c[0] - (x * columns - j)) * (1 if third else bend(c[0]))
        d[n, a, 1, i, j] = k * (c[1] - (y * rows - i)) * (1 if third else bend(c[1]))
        d[n, a, 2, i, j] = k * (c[2] - np.log(w / anchor(a)[0]))
        d[n, a, 3, i, j] = k * (c[3] - np.log(h / anchor(a)[1]))

    for n in range(N):
        goals = []
        for row in truth[n].reshape(-1, 5):
            if not row[3]:
                break
            goals.append(row)
        for a, i, j in np.ndindex(NUM, *SIDES):
            o = v[n, a, 4, i, j]
            best = max([overlap(box(n, a, i, j), corners(*g[1:])) for g in goals] or [0])
            d[n, a, 4, i, j] = 0 if best > thresh else o if third else noobj * o * bend(o)
            if warm and not third:
                draw_to(n, a, i, j, (j + 0.5) / columns, (i + 0.5) / rows, *anchor(a), 0.01)
        for label, x0, y0, w, h in goals:
            i, j = int(y0 * rows), int(x0 * columns)
            if third:
                sizes = [(BIASES[2 * k] / across, BIASES[2 * k + 1] / down) for k in range(3)]
            elif match:
                sizes = [anchor(a) for a in range(NUM)]
            else:
                sizes = [np.exp(v[n, a, 2:4, i, j]) * anchor(a) for a in range(NUM)]
            a = int(np.argmax([overlap(corners(0, 0, *s), corners(0, 0, w, h)) for s in sizes]))
            if third:
                if a not in mask:
                    continue
                a = mask.index(a)
            draw_to(n, a, i, j, x0, y0, w, h, coord * (2 - w * h if third or not rescore else 1))
            o = v[n, a, 4, i, j]
            if third:
                d[n, a, 4, i, j] = (o - 1) * (obj if logic else 1)
            else:
                aim = overlap(box(n, a, i, j), corners(x0, y0, w, h)) if rescore else 1
                d[n, a, 4, i, j] = obj * (o - aim) * bend(o)
            if third and d[n, a, 5, i, j]:
                d[n, a, 5 + int(label), i, j] = 1 - v[n, a, 5 + int(label), i, j]
                continue
            for c in range(CLASSES):
                d[n, a, 5 + c, i, j] = cls * (v[n, a, 5 + c, i, j] - (c == label))
    flow = d.copy()
    if logic:
        for c in (0, 1, *range(4, 5 + CLASSES)):
            flow[:, :, c] *= bend(v[:, :, c])
    return (d**2).sum() / N, flow.reshape(x.shape) / N


def draw(seed):
    rng = np.random.default_rng(seed)
    truth = np.zeros((N, 1, 6, 5))
    truth[0, 0, :4] = np.concatenate((rng.integers(0, CLASSES, (4, 1)), 0.1 + 0.8 * rng.random((4, 4))), 1)
    truth[0, 0, 3, 1:] = truth[0, 0, 2, 1:]  # one on another
    truth[1, 0, :1] = [1, 0.5, 0.3, 0.9, 0.4]
    truth[:, :, 5] = [1, 0.5, 0.5, 0.5, 0.5]  # behind the end
    return rng.standard_normal(BOTTOMS[0]), truth


def run(net, x, truth):
    leaf = torch.from_numpy(x).requires_grad_()
    loss = net(leaf, truth)["t0"]
    (3 * loss).backward()
    return loss.detach(), leaf.grad / 3


def compiled(text):
    return netcompiler.compile(
        netcompiler.parse(prototxt(text, BOTTOMS, 1)), optimize=False, device="cpu", dtype="float64"
    )


SCALES = "object_scale: 2 class_scale: 3 coord_scale: 0.5 thresh: 0.4"
SCALED = {"obj": 2, "cls": 3, "coord": 0.5, "thresh": 0.4}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (v2("side: 9 jitter: 0.1 random: 0"), {}),
        (v2(f"{SCALES} noobject_scale: 0.7"), {**SCALED, "noobj": 0.7}),
        (v2("rescore: 0 bias_match: 0"), {"rescore": False, "match": False}),
        (v3("noobject_scale: 4"), {}),
        (v3(SCALES), {**SCALED, "obj": 1}),
        (v3(f"{SCALES} use_logic_gradient: true"), {**SCALED, "logic": True}),
    ],
)
def test_loss(text, options):
    for seed in range(4):
        arrays = draw(seed)
        loss, grad = run(compiled(text), *arrays)
        expected, flow = want(*arrays, third="Yolov3" in text, **options)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        np.testing.assert_allclose(grad, flow, atol=1e-6)


def test_without_truth():
    x, truth = draw(0)
    for text in (v2(), v3()):
        loss, grad = run(compiled(text), x, 0 * truth)
        expected, flow = want(x, 0 * truth, third="Yolov3" in text)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        np.testing.assert_allclose(grad, flow, atol=1e-6)


def test_the_pull_to_the_anchors_ends(monkeypatch):
    """After as many batches as hold the first 12800 pictures; here 5, in batches of 2."""
    monkeypatch.setattr("netcompiler.layers.yolo_loss.WARM_UP", 5)
    net, arrays = compiled(v2()), draw(2)
    for k in range(4):
        np.testing.assert_allclose(run(net, *arrays)[0], want(*arrays, third=False, warm=k < 2)[0], rtol=1e-6)


@pytest.mark.parametrize(("column", "value", "error"), [(0, 3, "out of range"), (1, 1.5, "outside the picture")])
def test_truths_that_cannot_be(column, value, error):
    x, truth = draw(0)
    truth[1, 0, 0, column] = value
    for text in (v2(), v3(mask=(0, 1))):
        truth[1, 0, 0, 3:] = np.array(BIASES[2:4]) / [8, 6]  # like an anchor of both
        with pytest.raises(netcompiler.NetError, match=error):
            compiled(text)(x, truth)


def test_gradient_of_the_labels_is_refused():
    x, truth = (torch.from_numpy(a) for a in draw(0))
    with pytest.raises(netcompiler.NetError, match="no gradient to its labels"):
        compiled(v3())(x, truth.requires_grad_())["t0"].backward()
