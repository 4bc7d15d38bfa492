import numpy as np
import pytest

import netcompiler
from netcompiler import NetError

from .table import Bad, prototxt, suite
from .test_boxes import overlap, suppressed

BIASES = (1.0, 1.2, 2.5, 2.0, 0.6, 3.0)


def corner(box):
    return [box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2]


def first(x, side, classes, count, sqrt=True, inside=True):
    """YOLO v1's boxes: class, objectness, probability, centre and size."""
    places, found = side * side, []
    for k in range(places):
        scores = [x[c * places + k] for c in range(classes)]
        kind = int(np.argmax(scores))
        for n in range(count):
            at = (classes + count) * places + n * 4 * places + k
            cx, cy, w, h = (x[at + j * places] for j in range(4))
            if inside:
                cx, cy = (k % side + cx) / side, (k // side + cy) / side
            if sqrt:
                w, h = w * w, h * h
            found.append((kind, x[classes * places + n * places + k], scores[kind], [cx, cy, w, h]))
    return found


def second(x, side, classes, count):
    found = []
    for row, column, n in np.ndindex(side, side, count):
        values = x.reshape(count, classes + 5, side, side)[n, :, row, column]
        sigmoid = 1 / (1 + np.exp(-values))
        powers = np.exp(values[5:] - values[5:].max())
        box = [(column + sigmoid[0]) / side, (row + sigmoid[1]) / side]
        box += [np.exp(values[2]) * BIASES[2 * n] / side, np.exp(values[3]) * BIASES[2 * n + 1] / side]
        found.append((int(np.argmax(powers)), sigmoid[4], (powers / powers.sum()).max(), box))
    return found


def judge(found, objects, classes, size, threshold, limit, how, v2):
    """A row of the top."""
    row = np.zeros(classes + 4 * size)
    for label, _ in objects:
        row[label] += 1
    scored = [(k, {"OBJ": o, "PROB": p, "MULTIPLY": o * p}[how], b) for k, o, p, b in found]
    scored.sort(key=lambda f: -f[1])
    if limit >= 0:
        kept = suppressed([corner(f[2]) for f in scored], limit, equal=True)
        scored = [scored[k] for k in kept if not v2 or scored[k][1] >= 0.005]
    elif v2:
        scored = []
    taken, at = set(), classes
    for kind, score, box in sorted(scored, key=lambda f: f[0]):
        shares = [overlap(corner(box), corner(o)) if label == kind else -1 for label, o in objects]
        best = int(np.argmax(shares)) if shares else 0
        if not shares or max(shares) < 0:
            right, wrong = 0, 1
        elif shares[best] < threshold:
            right, wrong = 0, 0
        else:
            right, wrong = (0, 1) if best in taken else (1, 0)
            taken.add(best)
        row[at : at + 4] = kind, score, right, wrong
        at += 4
    return row


def evaluation(fields):
    return f'type: "EvalDetection" eval_detection_param {{ {fields} }}'


def run(fields, x, known):
    text = prototxt(evaluation(fields), [x.shape, known.shape], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    top = net(x, known)["t0"]
    assert net.graph.nodes[-1].tops[0].shape == top.shape
    return top


SIDE, CLASSES = 4, 3


def truth(rng):
    """Objects near places' middles: (class, centre and size)."""
    return [(int(rng.integers(0, CLASSES)), [*rng.uniform(0.1, 0.9, 2), *rng.uniform(0.1, 0.6, 2)]) for _ in range(5)]


@pytest.mark.parametrize("how", ["OBJ", "PROB", "MULTIPLY"])
@pytest.mark.parametrize(
    ("limit", "sqrt", "inside"), [(-1, True, True), (0.4, True, True), (0.4, False, True), (-1, True, False)]
)
def test_first(how, limit, sqrt, inside):
    rng = np.random.default_rng(1)
    x, known, want = rng.uniform(0, 0.9, (2, SIDE * SIDE * (CLASSES + 10))), np.zeros((2, 7, SIDE * SIDE)), []
    for i in range(2):
        objects, boxes = truth(rng), np.zeros((SIDE * SIDE, 4))
        for k, (label, box) in enumerate(objects):
            known[i, 1, 3 * k], known[i, 2, 3 * k], boxes[3 * k] = 1, label, box
        known[i, 3:] = boxes.reshape(4, -1)
        want.append(judge(first(x[i], SIDE, CLASSES, 2, sqrt, inside), objects, CLASSES, 32, 0.3, limit, how, False))
    fields = (
        f"side: 4 num_class: 3 threshold: 0.3 score_type: {how} nms: {limit} sqrt: {sqrt} constriant: {inside}".lower()
    )
    fields = fields.replace(how.lower(), how)
    top = run(fields, x, known.reshape(2, -1))
    np.testing.assert_allclose(top, want, atol=1e-9)
    assert top[:, CLASSES + 2 :: 4].any() and top[:, CLASSES + 3 :: 4].any()


@pytest.mark.parametrize("form", ["annotated", "listed"])
@pytest.mark.parametrize("limit", [-1, 0.3])
def test_second(form, limit):
    rng = np.random.default_rng(2)
    x, want, rows, lists = rng.normal(0, 1, (2, 24, SIDE, SIDE)), [], [], np.zeros((2, 30, 5))
    for i in range(2):
        objects = truth(rng)
        for k, (label, box) in enumerate(objects):
            rows.append([i, label + 1, 0, *corner(box), 0])
            lists[i, k] = label, *box
        want.append(judge(second(x[i], SIDE, CLASSES, 3), objects, CLASSES, 48, 0.3, limit, "MULTIPLY", True))
    known = np.array([*rows, [-1] * 8])[None, None] if form == "annotated" else lists.reshape(2, -1)
    biases = " ".join(f"biases: {b}" for b in BIASES)
    top = run(f"side: 4 num_class: 3 num_object: 3 threshold: 0.3 nms: {limit} {biases}", x, known)
    np.testing.assert_allclose(top, want, atol=1e-6)
    assert (top[:, CLASSES:] != 0).any() == (limit >= 0)


def test_image_without_objects():
    x, known = np.random.default_rng(0).uniform(0, 1, (1, 16 * 13)), np.zeros((1, 7 * 16))
    top = run("side: 4 num_class: 3", x, known)
    assert not top[0, :3].any() and (top[0, 6::4] == 1).all() and not top[0, 5::4].any()


def test_class_out_of_range():
    known = np.zeros((1, 7, 16))
    known[0, 1, 0], known[0, 2, 0] = 1, 3
    with pytest.raises(NetError, match="out of range"):
        run("side: 4 num_class: 3", np.zeros((1, 16 * 13)), known.reshape(1, -1))


BAD = [
    Bad("side", evaluation("side: 0"), [(1, 9), (1, 9)], "side must be positive", at="side"),
    Bad("biases", evaluation("biases: 1"), [(1, 9), (1, 9)], "biases has the wrong number of values", at="biases"),
    Bad("size", evaluation("side: 4 num_class: 3"), [(1, 9), (1, 7 * 16)], "208 values an image"),
    Bad("objects", evaluation("side: 4 num_class: 3"), [(1, 208), (1, 7 * 15)], "1 x 112"),
    Bad(
        "axes",
        evaluation("side: 4 num_class: 3 biases: 1 biases: 1 biases: 1 biases: 1"),
        [(1, 256), (1, 150)],
        "wrong number of axes",
    ),
    Bad(
        "rows",
        evaluation("side: 4 num_class: 3 biases: 1 biases: 1 biases: 1 biases: 1"),
        [(1, 16, 4, 4), (1, 7)],
        "rows of 8",
    ),
]
_, _, test_bad = suite([], BAD)
