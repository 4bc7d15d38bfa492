import warnings

import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, prototxt, suite

N, PRIORS, CLASSES = 2, 23, 4
BOTTOMS = [(N, PRIORS * 4), (N, PRIORS * CLASSES), (1, 2, PRIORS * 4)]


def layer(fields, nms=""):
    return f'type: "DetectionOutput" detection_output_param {{ num_classes: {CLASSES} {fields} nms_param {{ {nms} }} }}'


BAD = [
    Bad("no classes", 'type: "DetectionOutput"', BOTTOMS, "num_classes is missing"),
    Bad("threshold", layer("", "nms_threshold: -1"), BOTTOMS, "nms_threshold is negative", at="nms_threshold"),
    Bad("eta", layer("", "eta: 0"), BOTTOMS, "eta is out of range", at="eta"),
    Bad("codes", layer(""), [(N, 8), *BOTTOMS[1:]], "bottom 0 does not fit the priors"),
    Bad("codes of each class", layer("share_location: false"), BOTTOMS, "bottom 0 does not fit the priors"),
    Bad("scores", layer(""), [BOTTOMS[0], (N, 8), BOTTOMS[2]], "bottom 1 does not fit the priors"),
    Bad("batches", layer(""), [BOTTOMS[0], (3, PRIORS * CLASSES), BOTTOMS[2]], "the batches differ"),
    Bad("priors", layer(""), [*BOTTOMS[:2], (1, 3, PRIORS * 4)], "bottom 2 holds no priors"),
    Bad("first step", layer(""), [*BOTTOMS, (N, PRIORS), BOTTOMS[0]], "bottom 3 does not fit the priors"),
]
_, _, test_bad = suite([], BAD)


def decoded(code, box, v, kind):
    code = [c * s for c, s in zip(code, v, strict=True)]
    w, h = box[2] - box[0], box[3] - box[1]
    if kind == "CORNER":
        return [b + c for b, c in zip(box, code, strict=True)]
    if kind == "CORNER_SIZE":
        return [b + c * s for b, c, s in zip(box, code, (w, h, w, h), strict=True)]
    x, y = box[0] + w / 2 + code[0] * w, box[1] + h / 2 + code[1] * h
    w, h = w * np.exp(code[2]), h * np.exp(code[3])
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0
    areas = [(c[2] - c[0]) * (c[3] - c[1]) if c[2] > c[0] and c[3] > c[1] else 0 for c in (a, b)]
    return w * h / (sum(areas) - w * h)


def want(
    codes, scores, priors, *first, kind="CORNER", in_target=False, share=True, background=0, keep=-1, lowest=-np.inf, top=-1,
    threshold=0.3, eta=1.0, objectness=0.01
):  # fmt: skip
    """Box by box."""
    boxes, spread = priors[0].reshape(2, -1, 4)
    spread = np.ones_like(spread) if in_target else spread
    count, rows = len(boxes), []
    for image in range(len(codes)):
        score = scores[image].reshape(count, -1).copy()
        if first:
            for p in range(count):
                if first[0][image].reshape(count, 2)[p, 1] < objectness:
                    score[p] = [1, *[0] * (score.shape[1] - 1)]
        found = []
        for c in range(score.shape[1]):
            if c == background:
                continue
            best = sorted((p for p in range(count) if score[p, c] > lowest), key=lambda p: -score[p, c])
            limit, kept = threshold, []
            for p in best[: top if top > -1 else None]:
                prior = boxes[p]
                if len(first) > 1:
                    prior = decoded(first[1][image].reshape(count, 4)[p], prior, spread[p], kind)
                code = codes[image].reshape(count, -1, 4)[p, 0 if share else c]
                box = decoded(code, prior, spread[p], kind)
                if all(overlap(box, other) <= limit for *_, other in kept):
                    kept.append((score[p, c], c, box))
                    limit *= eta if eta < 1 and limit > 0.5 else 1
            found += kept
        if -1 < keep < len(found):
            best = sorted(found, key=lambda f: -f[0])[:keep]
            found = [f for f in found if any(f is b for b in best)]
        rows += [[image, c, s, *box] for s, c, box in found]
    return np.array(rows or [[i, *[-1] * 6] for i in range(len(codes))])[None, None]


def draw(seed=0, share=True):
    rng = np.random.default_rng(seed)
    corner, size = rng.random((PRIORS, 2)), 0.2 + 0.5 * rng.random((PRIORS, 2))
    boxes = np.concatenate((corner - size / 2, corner + size / 2), 1)
    spread = 0.1 + rng.random((PRIORS, 4))
    codes = rng.standard_normal((N, PRIORS * 4 * (1 if share else CLASSES))) * 0.5
    return codes, rng.random((N, PRIORS * CLASSES)), np.stack((boxes.reshape(-1), spread.reshape(-1)))[None]


def run(text, arrays, **options):
    net = netcompiler.parse(prototxt(text, [a.shape for a in arrays], 1))
    return netcompiler.compile(net, optimize=False, device="cpu", dtype="float64", **options)(*arrays)["t0"].numpy()


CASES = {
    "plain": ("", "", {}),
    "centre": ("code_type: CENTER_SIZE confidence_threshold: 0.3", "nms_threshold: 0.45 top_k: 9",
               {"kind": "CENTER_SIZE", "lowest": 0.3, "threshold": 0.45, "top": 9}),
    "corner size": ("code_type: CORNER_SIZE background_label_id: 2", "", {"kind": "CORNER_SIZE", "background": 2}),
    "no background": ("background_label_id: -1", "", {"background": -1}),
    "in target": ("variance_encoded_in_target: true code_type: CENTER_SIZE", "",
                  {"in_target": True, "kind": "CENTER_SIZE"}),
    "keep": ("keep_top_k: 7", "nms_threshold: 0.9", {"keep": 7, "threshold": 0.9}),
    "keep none": ("keep_top_k: 0", "", {"keep": 0}),
    "eta": ("code_type: CENTER_SIZE", "nms_threshold: 0.8 eta: 0.8",
            {"kind": "CENTER_SIZE", "threshold": 0.8, "eta": 0.8}),
    "each class its own": ("share_location: false keep_top_k: 9", "", {"share": False, "keep": 9}),
    "top 0": ("", "top_k: 0", {"top": 0}),
    "nothing": ("confidence_threshold: 2", "", {"lowest": 2}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_finds(case):
    fields, nms, options = CASES[case]
    for seed in range(3):
        arrays = draw(seed, options.get("share", True))
        expected = want(*arrays, **options)
        got = run(layer(fields, nms), arrays)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("boxes", [False, True])
def test_of_two_steps(boxes):
    arrays = draw(7)
    rng = np.random.default_rng(8)
    arrays = (*arrays, rng.random((N, PRIORS * 2)), *[rng.standard_normal((N, PRIORS * 4)) * 0.3] * boxes)
    text = layer("code_type: CENTER_SIZE objectness_score: 0.4 confidence_threshold: 0.2")
    expected = want(*arrays, kind="CENTER_SIZE", objectness=0.4, lowest=0.2)
    np.testing.assert_allclose(run(text, arrays), expected, atol=1e-6)


def test_a_picture_to_show_changes_nothing():
    arrays = draw()
    picture = np.zeros((N, 3, 8, 8))
    shown = run(layer("visualize: true visualize_threshold: 0.5"), (*arrays, picture))
    np.testing.assert_array_equal(shown, run(layer(""), arrays))


def test_shape_rule_is_caffes():
    node = netcompiler.build(netcompiler.parse(prototxt(layer(""), BOTTOMS, 1))).nodes[-1]
    assert node.top_shapes == ((1, 1, 1, 7),)


def test_in_lower_precision_the_boxes_are_not():
    arrays = [torch.from_numpy(a).bfloat16() for a in draw()]
    net = netcompiler.parse(prototxt(layer(""), BOTTOMS, 1))
    top = netcompiler.compile(net, device="cpu", dtype="bfloat16")(*arrays)["t0"]
    assert top.dtype == torch.float32


def test_what_would_be_saved_is_told():
    save = 'output_directory: "out" output_format: "VOC" label_map_file: "l" name_size_file: "n"'
    net = netcompiler.parse(prototxt(layer(f"save_output_param {{ {save} }}"), BOTTOMS, 1))
    with pytest.warns(netcompiler.NetWarning, match='detections are not written to "out"'):
        netcompiler.build(net)
    unsaved = netcompiler.parse(prototxt(layer('save_output_param { label_map_file: "l" }'), BOTTOMS, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        netcompiler.build(unsaved)


@pytest.mark.parametrize("bottom", [0, 1])
def test_no_gradient(bottom):
    arrays = [torch.from_numpy(a) for a in draw()]
    arrays[bottom].requires_grad_()
    net = netcompiler.compile(netcompiler.parse(prototxt(layer(""), BOTTOMS, 1)), device="cpu", dtype="float64")
    with pytest.raises(netcompiler.NetError, match="DetectionOutput has no gradient"):
        net(*arrays)["t0"].sum().backward()


def test_is_not_exported():
    net = netcompiler.compile(netcompiler.parse(prototxt(layer(""), BOTTOMS, 1)), optimize=False, device="cpu")
    arrays = tuple(torch.from_numpy(a).float() for a in draw())
    with pytest.raises(netcompiler.NetError, match="choose its bottoms as outputs"):
        torch.export.export(net, arrays)
