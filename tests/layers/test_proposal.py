import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.layers.proposal import ordered

from .table import Bad, prototxt, suite
from .test_boxes import suppressed


def anchors(ratios, scales, base=16, pixels=False):
    """A box for each ratio and scale, around the middle of the first cell."""
    found, middle = [], (base - 1) / 2
    for ratio in ratios:
        wide = np.sqrt(base * base / ratio)
        high = wide * ratio
        if not pixels:
            wide = np.floor(wide + 0.5)
            high = np.floor(wide * ratio + 0.5)
        for scale in scales:
            w, h = wide * scale - 1, high * scale - 1
            if pixels:
                w, h = (int(v * scale / base - 1 + 0.5) for v in (wide, high))
            found.append([middle - w / 2, middle - h / 2, middle + w / 2, middle + h / 2])
    return np.array(found)


def boxes_of(scores, deltas, base, stride, height, width):
    """Each anchor's box, moved and cut at the image, with its score: place by place."""
    count, h, w = len(base), *scores.shape[1:]
    found = []
    for y, x, a in np.ndindex(h, w, count):
        x1, y1, x2, y2 = base[a] + np.array([x, y, x, y]) * stride
        dx, dy, dw, dh = deltas[4 * a : 4 * a + 4, y, x]
        wide, high = x2 - x1 + 1, y2 - y1 + 1
        cx, cy = x1 + wide / 2 + dx * wide, y1 + high / 2 + dy * high
        wide, high = wide * np.exp(dw), high * np.exp(dh)
        ends = np.array([cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2])
        found.append([*np.clip(ends, 0, [width - 1, height - 1] * 2), scores[count + a, y, x]])
    return np.array(found)


def quicksort(rows, swaps, first=0, last=None):
    """Sort rows by their last value, largest first, as one of the two forks does."""
    last = len(rows) - 1 if last is None else last
    if first >= last:
        return
    pivot, left, right = rows[first].copy(), first + 1, last
    if swaps:
        while left <= right:
            while left <= last and rows[left][-1] >= pivot[-1]:
                left += 1
            while right > first and rows[right][-1] <= pivot[-1]:
                right -= 1
            if left <= right:
                rows[[left, right]] = rows[[right, left]]
                left, right = left + 1, right - 1
        rows[[first, right]] = rows[[right, first]]
    else:
        left = first
        while left < right:
            while left < right and rows[right][-1] <= pivot[-1]:
                right -= 1
            rows[left] = rows[right]
            while left < right and rows[left][-1] >= pivot[-1]:
                left += 1
            rows[right] = rows[left]
        rows[right] = pivot
    quicksort(rows, swaps, first, right - 1)
    quicksort(rows, swaps, right + 1, last)


def naive(scores, deltas, info, base, stride, least, before, threshold, after, drop, swaps=False):
    """Rows of boxes with their scores, best first."""
    height, width, *scale = info
    rows = boxes_of(scores, deltas, base, stride, height, width)
    small = (rows[:, 2] - rows[:, 0] + 1 < least * scale[-1]) | (rows[:, 3] - rows[:, 1] + 1 < least * scale[0])
    if drop:
        rows = rows[~small]
    else:
        rows[small, 4] = 0
    quicksort(rows, swaps)
    rows = rows[:before]
    return rows[suppressed(rows, threshold, limit=after, one=1.0)]


def feeds(count, h=5, w=6, images=1, info=(70.0, 90.0, 1.0), seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.01, 1, (images, 2 * count, h, w))
    deltas = rng.normal(0, 0.4, (images, 4 * count, h, w))
    return scores, deltas, np.array([info])


def compiled(fields, bottoms, tops=2, dialect=None, dtype="float64"):
    text = prototxt(f'type: "Proposal" proposal_param {{ {fields} }}', [b.shape for b in bottoms], tops)
    return netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype=dtype, dialect=dialect)


SOME = "ratio: 0.5 ratio: 1 ratio: 2 scale: 0.5 scale: 2 feat_stride: 12 base_size: 16"
CASES = {
    "usual": ("", (16, 6000, 0.7, 300)),
    "few": ("min_size: 5 pre_nms_topn: 90 post_nms_topn: 11 nms_thresh: 0.4", (5, 90, 0.4, 11)),
    "mostly too small": ("min_size: 60 nms_thresh: 0.8", (60, 6000, 0.8, 300)),
    "one": ("min_size: 0 post_nms_topn: 1", (0, 6000, 0.7, 1)),
}


@pytest.mark.parametrize("info", [(70.0, 90.0, 1.0), (60.0, 80.0, 1.25, 0.5)], ids=len)
@pytest.mark.parametrize("case", CASES)
def test_values(case, info):
    fields, (least, before, threshold, after) = CASES[case]
    bottoms = feeds(6, info=info)
    scale = (info[2], info[3] if len(info) > 3 else info[2])
    base = anchors((0.5, 1, 2), (0.5, 2))
    rows = naive(
        bottoms[0][0],
        bottoms[1][0],
        (*info[:2], *scale),
        base,
        12,
        least,
        before,
        threshold,
        after,
        False,
        len(info) > 3,
    )
    net = compiled(f"{SOME} {fields}", bottoms)
    assert [v.shape for v in net.graph.nodes[-1].tops] == [(after, 5), (after,)]
    tops = net(*bottoms)
    np.testing.assert_allclose(tops["t0"][:, 1:], rows[:, :4], atol=1e-5)
    np.testing.assert_allclose(tops["t1"], rows[:, 4])
    assert not tops["t0"][:, 0].any()
    assert torch.equal(compiled(f"{SOME} {fields}", bottoms, tops=1)(*bottoms)["t0"], tops["t0"])


def test_sizes_in_pixels_and_several_images():
    """happynear/caffe-windows."""
    info, base = (50.0, 70.0, 1.0, 1.0), anchors((2, 0.4), (20, 37), 12, pixels=True)
    bottoms = feeds(4, images=2, info=info)
    net = compiled(
        "ratio: 2 ratio: 0.4 scale: 20 scale: 37 base_size: 12 feat_stride: 12 min_size: 5",
        bottoms,
        dialect="happynear",
    )
    tops = net(*bottoms)
    want = [naive(bottoms[0][i], bottoms[1][i], info, base, 12, 5, 6000, 0.7, 300, False, True) for i in range(2)]
    np.testing.assert_allclose(tops["t0"][:, 1:], np.concatenate(want)[:, :4], atol=1e-4)
    np.testing.assert_allclose(tops["t1"], np.concatenate(want)[:, 4])
    assert tops["t0"][:, 0].tolist() == [0] * len(want[0]) + [1] * len(want[1])


@pytest.mark.parametrize("swaps", [False, True])
def test_order_of_equals(swaps):
    scores = np.random.default_rng(4).integers(0, 5, 300).astype(float)
    rows = np.stack([np.arange(300.0), scores], 1)
    quicksort(rows, swaps)
    for limit in (300, 40):
        assert ordered(torch.from_numpy(scores), limit, swaps).tolist() == rows[:limit, 0].tolist()
    assert ordered(torch.zeros(5000), 5000, swaps).tolist() == list(range(5000))


def test_no_gradient_passes():
    bottoms = [torch.from_numpy(b).requires_grad_() for b in feeds(6)]
    assert not any(t.requires_grad for t in compiled(SOME, bottoms)(*bottoms).values())


def test_regions_of_bfloat16_scores_are_exact():
    scores, deltas, info = (torch.from_numpy(b).bfloat16() for b in feeds(6))
    tops = compiled(SOME, (scores, deltas, info), dtype="bfloat16")(scores, deltas, info)
    assert tops["t0"].dtype == torch.float32 and tops["t1"].dtype == torch.bfloat16


def shapes(count=6, info=(1, 3), n=1):
    return [(n, 2 * count, 5, 6), (n, 4 * count, 5, 6), info]


def proposal(fields):
    return f'type: "Proposal" proposal_param {{ {fields} }}'


BAD = [
    Bad("no ratio", proposal("scale: 8"), shapes(), "ratio needs positive values"),
    Bad("scale 0", proposal("ratio: 1 scale: 0"), shapes(), "scale needs positive values", at="scale"),
    Bad(
        "stride",
        proposal("ratio: 1 scale: 8 feat_stride: 0"),
        shapes(),
        "feat_stride must be positive",
        at="feat_stride",
    ),
    Bad("anchors", proposal("ratio: 1 scale: 8"), shapes(), "2 channels, for 1 anchors"),
    Bad("deltas", proposal(SOME), [*shapes()[:1], (1, 24, 5, 5), (1, 3)], "the deltas do not fit the scores"),
    Bad("info", proposal(SOME), shapes(info=(1, 2)), "does not tell the image"),
    Bad("images", proposal(SOME), shapes(n=2), "only one image at a time"),
]
_, _, test_bad = suite([], BAD)


def test_brief():
    node = netcompiler.build(netcompiler.parse(prototxt(proposal(SOME), shapes(), 1))).nodes[-1]
    assert node.layer.brief() == "3x2 anchors, s12, 6000/300, iou 0.7"


def test_info_without_a_row():
    scores, deltas, info = feeds(6)
    a = compiled(SOME, (scores, deltas, info))(scores, deltas, info)["t0"]
    assert torch.equal(a, compiled(SOME, (scores, deltas, info[0]))(scores, deltas, info[0])["t0"])
