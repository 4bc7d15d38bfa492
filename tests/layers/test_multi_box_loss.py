import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, prototxt, suite
from .test_detection_output import decoded, overlap

N, PRIORS, CLASSES, TRUTHS = 3, 19, 4, 6
BOTTOMS = [(N, PRIORS * 4), (N, PRIORS * CLASSES), (1, 2, PRIORS * 4), (1, 1, TRUTHS, 8)]


def layer(fields="", loss="", classes=CLASSES):
    return f'type: "MultiBoxLoss" multibox_loss_param {{ num_classes: {classes} {fields} }} loss_param {{ {loss} }}'


def bad(name, text, error, at="", bottoms=BOTTOMS):
    return Bad(name, text, bottoms, error, at=at)


BAD = [
    bad("no classes", 'type: "MultiBoxLoss"', "num_classes is missing"),
    bad("two words", layer("do_neg_mining: false"), "contradict each other", "do_neg_mining"),
    bad("own boxes", layer("share_location: false"), "needs one box for all classes", "share_location"),
    bad("agnostic", layer("map_object_to_agnostic: true"), "leaves two classes", "num_classes"),
    bad("background", layer("background_label_id: 4"), "background_label_id is no class", "background_label_id"),
    bad("sample", layer("mining_type: HARD_EXAMPLE sample_size: 0"), "sample_size must be positive", "sample_size"),
    bad("codes", layer(), "bottom 0 does not fit", bottoms=[(N, 8), *BOTTOMS[1:]]),
    bad("truth", layer(), "no ground truth", bottoms=[*BOTTOMS[:3], (1, 1, 5, 7)]),
]
FIRST = [(N, PRIORS * 2), (N, PRIORS * 4)]
NMS = "nms_param { nms_threshold: 0.3 top_k: 10 }"
BAD += [
    bad("first scores", layer(), "bottom 4 has the wrong shape", bottoms=[*BOTTOMS, FIRST[1]]),
    bad("first codes", layer(), "bottom 5 has the wrong shape", bottoms=[*BOTTOMS, FIRST[0], FIRST[0]]),
    bad("alone", layer(NMS), "nms_param does not go with a first step", "nms_param", [*BOTTOMS, FIRST[0]]),
    bad(
        "first boxes",
        layer("share_location: false mining_type: NONE"),
        "boxes of a first step need share_location",
        "share_location",
        [(N, PRIORS * 4 * CLASSES), *BOTTOMS[1:], *FIRST],
    ),
]
_, _, test_bad = suite([], BAD)


def encoded(box, prior, v, kind):
    w, h = prior[2] - prior[0], prior[3] - prior[1]
    if kind == "CENTER_SIZE":
        middle = [(b[0] + b[2]) / 2 for b in (box, prior)], [(b[1] + b[3]) / 2 for b in (box, prior)]
        code = [(middle[0][0] - middle[0][1]) / w, (middle[1][0] - middle[1][1]) / h,
                np.log((box[2] - box[0]) / w), np.log((box[3] - box[1]) / h)]  # fmt: skip
    else:
        sides = (w, h, w, h) if kind == "CORNER_SIZE" else (1, 1, 1, 1)
        code = [(b - p) / s for b, p, s in zip(box, prior, sides, strict=True)]
    return [c / s for c, s in zip(code, v, strict=True)]


def score_loss(scores, label, kind, rest=0.0):
    if kind == "SOFTMAX":
        return -np.log(max(np.exp(scores[label] - scores.max()) / np.exp(scores - scores.max()).sum(), 1.17549435e-38))
    return sum(np.log(1 + np.exp(-abs(s))) + max(s, 0) - s * (1 if c == label else rest) for c, s in enumerate(scores))


def box_loss(codes, truth, kind):
    off = [abs(a - b) for a, b in zip(codes, truth, strict=True)]
    return sum(d * d / 2 if kind == "L2" or d < 1 else d - 0.5 for d in off)


def matched(boxes, truths, o):
    """For each box its truth, -1 or -2, and its overlap."""
    index, best = [-1] * len(boxes), [0.0] * len(boxes)
    if not truths:
        return index, best
    overlaps = {}
    for i, box in enumerate(boxes):
        if o["inside"] and not all(0 <= v <= 1 for v in box):
            index[i] = -2
            continue
        for j, truth in enumerate(truths):
            v = overlap(box, truth[1])
            if v > 1e-6:
                overlaps[i, j] = v
                best[i] = max(best[i], v)
    left = set(range(len(truths)))
    while True:
        pairs = [(v, -i, -j) for (i, j), v in overlaps.items() if index[i] == -1 and j in left]
        if not pairs:
            break
        v, i, j = max(pairs)
        index[-i], best[-i] = -j, v
        left.remove(-j)
    if o["match"] == "PER_PREDICTION":
        for i in range(len(boxes)):
            own = [(overlaps[i, j], -j) for j in range(len(truths)) if (i, j) in overlaps]
            if index[i] == -1 and own and max(own)[0] >= o["overlap"]:
                index[i], best[i] = -max(own)[1], max(own)[0]
    return index, best


DEFAULTS = {
    "code": "CORNER", "loc": "SMOOTH_L1", "conf": "SOFTMAX", "weight": 1.0, "share": True, "match": "PER_PREDICTION",
    "overlap": 0.5, "by_prior": True, "background": 0, "difficult": True, "ratio": 3.0, "below": 0.5, "in_target": False,
    "agnostic": False, "inside": False, "bp_inside": False, "mining": "MAX_NEGATIVE", "nms": 0, "top": 0, "sample": 64,
    "nms_prior": False, "by": "VALID", "parts": (True, True), "sure": -1.0,
}  # fmt: skip


def want(codes, scores, priors, truth, *first, classes=CLASSES, **options):
    """SSD's loss, box by box."""
    o = DEFAULTS | options
    objects = first[0].reshape(N, PRIORS, 2)[:, :, 1] if first else np.zeros((N, PRIORS))
    prior, spread = priors[0].reshape(2, -1, 4)
    scores = scores.reshape(N, PRIORS, classes)
    codes = codes.reshape(N, PRIORS, -1, 4)
    used = np.ones_like(spread) if o["in_target"] else spread
    bg, boxes_off, scores_off, count = o["background"], 0.0, 0.0, 0
    targets = np.full(N * PRIORS * classes, float(bg))
    for n in range(N):
        truths = [(int(r[1]), r[3:7]) for r in truth.reshape(-1, 8) if int(r[0]) == n and (o["difficult"] or not r[7])]
        name = [bg + 1 if o["agnostic"] else label for label, _ in truths]
        labels = [bg] * PRIORS
        refined = prior
        if len(first) > 1:
            moves = first[1].reshape(N, PRIORS, 4)[n]
            refined = [decoded(moves[p], prior[p], used[p], o["code"]) for p in range(PRIORS)]
        found = {}
        for c in [0] if o["share"] else [c for c in range(classes) if c != bg]:
            boxes = [decoded(codes[n, p, c], prior[p], used[p], o["code"]) for p in range(PRIORS)]
            if o["share"]:
                found[c] = matched(refined if o["by_prior"] else boxes, truths, o)
            elif o["by_prior"]:
                index, best = matched(prior, truths, o)
                found[c] = [j if j >= 0 and truths[j][0] == c else -1 for j in index], best
            else:
                own = [j for j, t in enumerate(truths) if t[0] == c]
                index, best = matched(boxes, [truths[j] for j in own], o)
                found[c] = [own[j] if j >= 0 else j for j in index], best

        def off(p, c, j, n=n, truths=truths, prior=refined):
            code, goal = list(codes[n, p, c]), encoded(truths[j][1], prior[p], used[p], o["code"])
            if o["in_target"]:
                code, goal = ([v / s for v, s in zip(x, spread[p], strict=True)] for x in (code, goal))
            if o["bp_inside"]:
                at = prior[p] if o["by_prior"] else decoded(codes[n, p, c], prior[p], used[p], o["code"])
                code = [a if 0 <= e <= 1 else b for a, b, e in zip(code, goal, at, strict=True)]
            return box_loss(code, goal, o["loc"])

        if truths and o["mining"] != "NONE":
            index, best = found[0]
            loss = [score_loss(scores[n, p], name[j] if j >= 0 else bg, o["conf"]) for p, j in enumerate(index)]
            held = sum(j >= 0 for j in index)
            if o["mining"] == "HARD_EXAMPLE":
                loss = [v + (off(p, 0, index[p], prior=prior) if index[p] >= 0 else 0) for p, v in enumerate(loss)]
                eligible, most = list(range(PRIORS)), o["sample"]
            else:
                eligible, most = (
                    [p for p in range(PRIORS) if index[p] == -1 and best[p] < o["below"]],
                    int(held * o["ratio"]),
                )
            eligible = [p for p in eligible if objects[n, p] >= o["sure"]]
            eligible.sort(key=lambda p: -loss[p])
            if o["nms"]:
                kept = []
                for p in eligible[: o["top"]]:
                    at = [
                        prior[q] if o["nms_prior"] else decoded(codes[n, q, 0], prior[q], used[q], o["code"])
                        for q in (p, *kept)
                    ]
                    if (at[0][2] - at[0][0]) * (at[0][3] - at[0][1]) >= 1e-5:
                        kept += [p] * all(overlap(at[0], a) <= o["nms"] for a in at[1:])
                eligible = kept
            picked = set(eligible[:most])
            if o["mining"] == "HARD_EXAMPLE":
                index = [-1 if j >= 0 and p not in picked else j for p, j in enumerate(index)]
                found[0] = index, best
            for p in range(PRIORS):
                if index[p] >= 0 or (index[p] == -1 and p in picked):
                    label = name[index[p]] if index[p] >= 0 else bg
                    scores_off += score_loss(scores[n, p], label, o["conf"], bg)
        for c, (index, _) in found.items():
            for p, j in enumerate(index):
                if j >= 0:
                    boxes_off += off(p, c, j)
                    count += 1
                    labels[p] = name[j]
                    targets[n * PRIORS + p * classes + name[j]] = 1
        if o["mining"] == "NONE" and o["conf"] == "SOFTMAX":
            scores_off += sum(score_loss(scores[n, p], labels[p], "SOFTMAX") for p in range(PRIORS))
    if o["mining"] == "NONE" and o["conf"] != "SOFTMAX":
        flat = scores.reshape(-1)
        scores_off += (np.log(1 + np.exp(-np.abs(flat))) + np.maximum(flat, 0) - flat * targets).sum()
    total = o["weight"] * boxes_off * o["parts"][0] + scores_off * o["parts"][1]
    return total / max({"VALID": count, "FULL": N * PRIORS, "BATCH_SIZE": N, "NONE": 1}[o["by"]], 1), count


def draw(seed, classes=CLASSES, share=True, background=0):
    rng = np.random.default_rng(seed)
    corner, size = 0.1 + 0.5 * rng.random((PRIORS, 2)), 0.2 + 0.4 * rng.random((PRIORS, 2))
    boxes = np.concatenate((corner, corner + size), 1)
    spread = 0.1 + rng.random((PRIORS, 4))
    labels = [c for c in range(classes) if c != background]
    truth = np.empty((TRUTHS, 8))
    corner, size = 0.1 + 0.5 * rng.random((TRUTHS, 2)), 0.2 + 0.4 * rng.random((TRUTHS, 2))
    truth[:, 0] = [0, 0, -1, 0, 2, 2]  # none in item 1
    truth[:, 1] = rng.choice(labels, TRUTHS)
    truth[:, 2], truth[:, 3:5], truth[:, 5:7], truth[:, 7] = 0, corner, corner + size, [0, 1, 0, 0, 0, 1]
    codes = rng.standard_normal((N, PRIORS * 4 * (1 if share else classes)))
    scores = 2 * rng.standard_normal((N, PRIORS * classes))
    return codes, scores, np.stack((boxes.reshape(-1), spread.reshape(-1)))[None], truth[None, None]


CENTRE = "code_type: CENTER_SIZE"
CASES = {
    "plain": ("", "", {}),
    "centre": (f"{CENTRE} loc_weight: 0.5 overlap_threshold: 0.3 neg_overlap: 0.2 neg_pos_ratio: 1.5", "",
               {"code": "CENTER_SIZE", "weight": 0.5, "overlap": 0.3, "below": 0.2, "ratio": 1.5}),
    "corner size, bipartite": ("code_type: CORNER_SIZE match_type: BIPARTITE loc_loss_type: L2", "normalization: FULL",
                               {"code": "CORNER_SIZE", "match": "BIPARTITE", "loc": "L2", "by": "FULL"}),
    "in target": (f"{CENTRE} encode_variance_in_target: true", "normalize: false",
                  {"code": "CENTER_SIZE", "in_target": True, "by": "BATCH_SIZE"}),
    "background": ("background_label_id: 2 use_difficult_gt: false", "normalization: NONE",
                   {"background": 2, "difficult": False, "by": "NONE"}),
    "logistic": ("conf_loss_type: LOGISTIC", "", {"conf": "LOGISTIC"}),
    "logistic, background 1": ("conf_loss_type: LOGISTIC background_label_id: 1", "", {"conf": "LOGISTIC", "background": 1}),
    "all": ("mining_type: NONE do_neg_mining: false", "", {"mining": "NONE"}),
    "all, logistic": ("mining_type: NONE conf_loss_type: LOGISTIC", "", {"mining": "NONE", "conf": "LOGISTIC"}),
    "own boxes": (f"{CENTRE} mining_type: NONE share_location: false", "",
                  {"code": "CENTER_SIZE", "mining": "NONE", "share": False}),
    "own boxes, predicted": (f"{CENTRE} mining_type: NONE share_location: false use_prior_for_matching: false", "",
                             {"code": "CENTER_SIZE", "mining": "NONE", "share": False, "by_prior": False}),
    "predicted": (f"{CENTRE} use_prior_for_matching: false bp_inside: true", "",
                  {"code": "CENTER_SIZE", "by_prior": False, "bp_inside": True}),
    "inside": ("ignore_cross_boundary_bbox: true bp_inside: true", "", {"inside": True, "bp_inside": True}),
    "hard": (f"{CENTRE} mining_type: HARD_EXAMPLE sample_size: 8", "",
             {"code": "CENTER_SIZE", "mining": "HARD_EXAMPLE", "sample": 8}),
    "hard, alone": (f"{CENTRE} mining_type: HARD_EXAMPLE sample_size: 8 nms_param {{ nms_threshold: 0.2 top_k: 12 }}", "",
                    {"code": "CENTER_SIZE", "mining": "HARD_EXAMPLE", "sample": 8, "nms": 0.2, "top": 12}),
    "alone": (f"{CENTRE} use_prior_for_nms: true nms_param {{ nms_threshold: 0.3 top_k: 10 }}", "",
              {"code": "CENTER_SIZE", "nms": 0.3, "top": 10, "nms_prior": True}),
    "alone, top_k is 0": ("nms_param { }", "", {"nms": 0.3}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_loss(case):
    fields, loss, options = CASES[case]
    counts = []
    for seed in range(4):
        arrays = draw(seed, share=options.get("share", True), background=options.get("background", 0))
        net = netcompiler.parse(prototxt(layer(fields, loss), [a.shape for a in arrays], 1))
        net = netcompiler.compile(net, optimize=False, device="cpu", dtype="float64")
        expected, count = want(*arrays, **options)
        counts.append(count)
        np.testing.assert_allclose(net(*arrays)["t0"].numpy(), expected, rtol=1e-6)

        def run(codes, scores, net=net, fixed=arrays[2:]):
            return net(codes, scores, *fixed)["t0"]

        if seed == 0:
            given = [torch.from_numpy(a).requires_grad_() for a in arrays[:2]]
            assert torch.autograd.gradcheck(run, given, eps=1e-7, atol=1e-5)
    assert max(counts) > 1


STEPS = {
    "scores": (f"{CENTRE} objectness_score: 0.4", 1, {"code": "CENTER_SIZE", "sure": 0.4}),
    "boxes": (f"{CENTRE} objectness_score: 0.3 bp_inside: true", 2,
              {"code": "CENTER_SIZE", "sure": 0.3, "bp_inside": True}),
    "boxes in target": (f"{CENTRE} encode_variance_in_target: true", 2,
                        {"code": "CENTER_SIZE", "sure": 0.01, "in_target": True}),
    "all of them": (f"{CENTRE} mining_type: NONE", 2, {"code": "CENTER_SIZE", "mining": "NONE"}),
    "hard": (f"{CENTRE} mining_type: HARD_EXAMPLE sample_size: 8 objectness_score: 0.3", 2,
             {"code": "CENTER_SIZE", "mining": "HARD_EXAMPLE", "sample": 8, "sure": 0.3}),
    "predicted": (f"{CENTRE} use_prior_for_matching: false", 2, {"code": "CENTER_SIZE", "by_prior": False, "sure": 0.01}),
}  # fmt: skip


@pytest.mark.parametrize("case", STEPS)
def test_second_step(case):
    fields, more, options = STEPS[case]
    rng = np.random.default_rng(8)
    for seed in range(3):
        objects = rng.random((N, PRIORS * 2))
        arrays = [*draw(seed), objects, 0.3 * rng.standard_normal((N, PRIORS * 4))][: 4 + more]
        net = netcompiler.parse(prototxt(layer(fields), [a.shape for a in arrays], 1))
        net = netcompiler.compile(net, optimize=False, device="cpu", dtype="float64")
        np.testing.assert_allclose(net(*arrays)["t0"].numpy(), want(*arrays, **options)[0], rtol=1e-6)
        if seed == 0:
            given = [torch.from_numpy(a).requires_grad_() for a in arrays[:2]]
            fixed = [torch.from_numpy(a).requires_grad_(i > 1) for i, a in enumerate(arrays[2:])]

            def run(codes, scores, net=net, fixed=fixed):
                return net(codes, scores, *fixed)["t0"]

            assert torch.autograd.gradcheck(run, given, eps=1e-7, atol=1e-5)
            assert all(f.grad is None for f in fixed)


def test_first_step_knows_two_kinds():
    arrays = draw(5, classes=2)
    arrays[3][..., 1] = [1, 2, 3, 1, 4, 1]
    fields = layer("objectness_score: 0.01", classes=2)
    net = netcompiler.parse(prototxt(fields, [a.shape for a in arrays], 1))
    got = netcompiler.compile(net, optimize=False, device="cpu", dtype="float64")(*arrays)["t0"]
    arrays[3][..., 1] = 1
    np.testing.assert_allclose(got, want(*arrays, classes=2)[0], rtol=1e-6)


def test_mycaffes_name():
    arrays = draw(3)
    text = layer("loc_weight: 3").replace("multibox_loss_param", "multiboxloss_param")
    net = netcompiler.parse(prototxt(text, [a.shape for a in arrays], 1))
    got = netcompiler.compile(net, optimize=False, device="cpu", dtype="float64")(*arrays)["t0"]
    np.testing.assert_allclose(got, want(*arrays, weight=3)[0], rtol=1e-6)


def test_one_name_for_all_objects():
    arrays = draw(5, classes=2)
    arrays[3][..., 1] = 1
    net = netcompiler.parse(prototxt(layer("map_object_to_agnostic: true", classes=2), [a.shape for a in arrays], 1))
    got = netcompiler.compile(net, optimize=False, device="cpu", dtype="float64")(*arrays)["t0"]
    np.testing.assert_allclose(got, want(*arrays, classes=2, agnostic=True)[0], rtol=1e-6)


@pytest.mark.parametrize("parts", [(True, False), (False, True)])
def test_a_part_that_passes_no_gradient_does_not_count(parts):
    down = " ".join(f"propagate_down: {str(flows).lower()}" for flows in (*parts, False, False))
    arrays = draw(1)
    net = netcompiler.parse(prototxt(f"{layer()} {down}", BOTTOMS, 1))
    got = netcompiler.compile(net, optimize=False, device="cpu", dtype="float64")(*arrays)["t0"]
    np.testing.assert_allclose(got, want(*arrays, parts=parts)[0], rtol=1e-6)


def compiled(fields=""):
    net = netcompiler.parse(prototxt(layer(fields), BOTTOMS, 1))
    return netcompiler.compile(net, optimize=False, device="cpu", dtype="float64")


def test_without_truth_there_is_no_loss():
    codes, scores, priors, truth = draw(0)
    truth[..., 0] = -1
    given = [torch.from_numpy(a).requires_grad_() for a in (codes, scores)]
    loss = compiled()(*given, priors, truth)["t0"]
    loss.backward()
    assert loss == 0 and not any(g.grad.any() for g in given)


@pytest.mark.parametrize(("label", "error"), [(0, "the background's"), (4, "out of range"), (-1, "out of range")])
def test_labels(label, error):
    codes, scores, priors, truth = draw(0)
    truth[0, 0, 0, 1] = label
    with pytest.raises(netcompiler.NetError, match=error):
        compiled()(codes, scores, priors, truth)


@pytest.mark.parametrize("bottom", [2, 3])
def test_gradient_of_priors_and_truth_is_refused(bottom):
    arrays = [torch.from_numpy(a) for a in draw(0)]
    arrays[bottom].requires_grad_()
    with pytest.raises(netcompiler.NetError, match="no gradient to its priors and labels"):
        compiled()(*arrays)["t0"].backward()


def test_a_batch_of_zeros_is_one_without_truth():
    codes, scores, priors, truth = draw(0)
    assert compiled()(codes, scores, priors, 0 * truth)["t0"] == 0
