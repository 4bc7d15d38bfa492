import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, prototxt, suite
from .test_boxes import overlap
from .test_decode_bbox import MEAN, NORMALISED, STD

ZERO, UNIT = np.zeros(4), np.ones(4)
OBJECTS = np.array(
    [
        [0, 20.0, 10, 160, 120, 3, 0],
        [0, 100, 60, 290, 200, 1, 0],
        [1, 5, 150, 60, 180, 2, 0],
        [1, 200, 20, 280, 90, 1, 1],
    ]
)


def regions(count=200, seed=0, images=2):
    rng = np.random.default_rng(seed)
    near = OBJECTS[rng.integers(0, 4, count // 2), :5] + np.concatenate(
        [np.zeros((count // 2, 1)), rng.normal(0, 9, (count // 2, 4))], 1
    )
    ends = rng.uniform(0, 300, (count - count // 2, 4))
    far = np.concatenate(
        [
            rng.integers(0, images, (len(ends), 1)),
            np.minimum(ends[:, :2], ends[:, 2:]),
            np.maximum(ends[:, :2], ends[:, 2:]),
        ],
        1,
    )
    return np.concatenate([near, far])


def target(fields="", more=""):
    usual = "cls_num: 4 num_img_per_batch: 2 img_width: 320 img_height: 240"
    return f'type: "ProposalTarget" proposal_target_param {{ {usual} {fields} }} {more}'


def compiled(body, rois, objects=OBJECTS, tops=7, dialect="mscnn"):
    text = prototxt(body, [rois.shape, objects.shape], tops)
    return netcompiler.compile(
        netcompiler.parse(text), phase="TRAIN", optimize=False, device="cpu", dtype="float64", dialect=dialect
    )


def share(box, known):
    """The overlap of boxes between lines, or 0 of another image's."""
    ends = [[*b[:2], b[2] + 1, b[3] + 1] for b in (box[1:5], known[1:5])]
    return overlap(*ends) if box[0] == known[0] else 0.0


def check(tops, fg=0.5, mean=ZERO, std=UNIT, aware=True, thr=(0, 10), iou=False, fraction=0.25):
    """All that is told of each sample; returns the overlaps."""
    rois, classes, deltas, inside, outside, known, weights = (t[..., 0, 0].numpy() for t in tops.values())
    most = []
    for k, roi in enumerate(rois):
        shares = [share(roi, o) for o in OBJECTS]
        best = int(np.argmax(shares))
        most.append(max(shares))
        o = OBJECTS[best]
        label = o[5] if max(shares) >= fg else 0
        assert classes[k, 0] == label and not (label and o[6])
        want = np.zeros((deltas.shape[1] // 4, 4))
        ones = np.zeros_like(want)
        if label:
            size, grown = roi[3:5] - roi[1:3] + 1, o[3:5] - o[1:3] + 1
            move = (o[1:3] + grown / 2 - roi[1:3] - size / 2) / size
            place = int(label) if aware else 1
            want[place] = (np.array([*move, *np.log(grown / size)]) - mean) / std
            ones[place] = thr[0] <= max(shares) <= thr[1]
        np.testing.assert_allclose(deltas[k], want.ravel(), atol=1e-9)
        np.testing.assert_array_equal(inside[k], ones.ravel())
        np.testing.assert_allclose(known[k], [label, *o[1:5], max(shares)] if label else [0] * 6, atol=1e-9)
    assert (inside == outside).all()
    found = classes[:, 0] > 0
    raw = np.where(found & iou, most, 1.0)
    scale = np.where(found, fraction * len(raw) / raw[found].sum(), (1 - fraction) * len(raw) / raw[~found].sum())
    np.testing.assert_allclose(weights[:, 0], raw * scale)
    return np.array(most)


def test_sample():
    rois = regions()
    net = compiled(target("batch_size: 40 bg_thr_lw: 0.05 iou_weighted: true"), rois)
    assert [v.shape for v in net.graph.nodes[-1].tops] == [(40, c, 1, 1) for c in (5, 1, 16, 16, 16, 6, 1)]
    torch.manual_seed(0)
    tops = net(rois, OBJECTS)
    most = check(tops, iou=True)
    assert (tops["t1"][:10] > 0).all() and not tops["t1"][10:].any()
    assert (most[10:] >= 0.05).all() and (most[10:] < 0.5).all()
    candidates = {tuple(r) for r in np.concatenate([rois, OBJECTS[:, :5]])}
    chosen = {tuple(r) for r in tops["t0"][..., 0, 0].tolist()}
    assert len(chosen) == 40 and chosen <= candidates


def test_others_fill_up():
    rois = regions(60)
    most = check(compiled(target("batch_size: 50 bg_thr_lw: 0.3"), rois)(rois, OBJECTS))
    assert ((most > 0.3) & (most < 0.5)).sum() > 0 and (most < 0.3).sum() > 10


def test_boxes_by_chance_fill_up():
    rois = OBJECTS[:2, :5]
    tops = compiled(target("batch_size: 60"), rois)(rois, OBJECTS)
    check(tops)
    made = tops["t0"][5:, :, 0, 0]
    assert tops["t0"].shape[0] == 60 and set(made[:, 0].tolist()) == {0, 1}
    assert (made[:, 3:] - made[:, 1:3] >= 31).all() and (made[:, 1] < 320 - 32).all() and (made[:, 2] < 240 - 32).all()


def test_normalised_and_one_kind_of_deltas():
    rois = regions()
    more = NORMALISED.replace("bbox_reg_param {", "bbox_reg_param { cls_aware: false")
    tops = compiled(target("batch_size: 64", more), rois, dialect="cascade-rcnn")(rois, OBJECTS)
    assert tops["t2"].shape == (64, 8, 1, 1)
    check(tops, mean=MEAN, std=STD, aware=False)


def test_fields_of_cascade_rcnn():
    rois = regions()
    objects = np.concatenate([OBJECTS, [[-1, 0, 0, 9, 9, 1, 0]]])
    net = compiled(
        target("batch_size: -1 pickup_discard: false append_gtbox: false bbox_thr_lw: 0.6 bbox_thr_hg: 0.8"),
        rois,
        objects,
    )
    tops = net(rois, objects)
    shares = np.array([[share(r, o) for o in OBJECTS] for r in rois])
    ignored = (shares.argmax(1) == 3) & (shares.max(1) >= 0.5)
    kept = (shares.max(1) >= 0.1) & ~ignored
    assert len(tops["t0"]) == kept.sum()
    assert {tuple(r) for r in tops["t0"][..., 0, 0].tolist()} == {tuple(r) for r in rois[kept]}
    count = (tops["t1"] > 0).sum().item()
    assert (tops["t1"][:count] > 0).all()
    check(tops, thr=(0.6, 0.8))


def test_an_empty_sample_has_one_box():
    rois = np.array([[0.0, 0, 0, 9, 9]])
    net = compiled(target("pickup_discard: false append_gtbox: false"), rois, tops=6)
    tops = net(rois, OBJECTS)
    assert tops["t0"].shape == (1, 5, 1, 1) and not tops["t1"].any()


def test_class_out_of_range():
    rois = regions()
    with pytest.raises(NetError, match="class of an object is out of range"):
        compiled(target().replace("cls_num: 4", "cls_num: 3"), rois)(rois, OBJECTS)


SHAPES = [(9, 5), (4, 7)]
BAD = [
    Bad("no classes", 'type: "ProposalTarget"', SHAPES, "cls_num is missing", tops=6),
    Bad(
        "no image",
        'type: "ProposalTarget" proposal_target_param { cls_num: 2 }',
        SHAPES,
        "img_width is missing",
        tops=6,
    ),
    Bad("batch", target("batch_size: -2"), SHAPES, "batch_size must be positive", tops=6, at="batch_size"),
    Bad("thresholds", target("fg_thr: 0.4"), SHAPES, "fg_thr is below bg_thr_hg", tops=6, at="fg_thr"),
    Bad("space", target("output_3d_boxes: true"), SHAPES, "not supported", tops=6, at="output_3d_boxes"),
    Bad("regions", target(), [(9, 4), (4, 7)], "bottom 0 has no rows of 5", tops=6),
    Bad("objects", target(), [(9, 5), (4, 6)], "bottom 1 has no objects", tops=6),
    Bad("tops", target(), SHAPES, "the wrong number of tops", tops=5),
]
_, _, test_bad = suite([], BAD)
