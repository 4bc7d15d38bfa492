"""BoxOutput and BoxGroupOutput: what goes to the layers behind, against loops over heads and places."""

import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, prototxt, suite
from .test_boxes import suppressed
from .test_decode_bbox import MEAN, NORMALISED, STD

OVER = {"IOU": "union", "IOMU": "smaller", "IOFU": "first"}


def box_of(deltas, field, y, x, stride, whr, xyr, mean, std):
    """The first corner and the size of a head's box."""
    d = deltas * std + mean
    size = np.exp(np.clip(d[2:], -np.log(whr), np.log(whr))) * field
    return np.clip(d[:2], -1 / xyr, 1 / xyr) * field + (np.array([x, y]) + 0.5) * stride - size / 2, size


def finish(rows, most, threshold, after, over, one):
    """The best rows of an image; of equal scores the last first."""
    rows.reverse()
    rows = sorted(rows, key=lambda r: -r[-1])[: most or None]
    boxes = [r[:4] for r in rows]
    return [rows[k] for k in suppressed(boxes, threshold, limit=after, over=over, one=one, meeting=True)]


def heads(
    fields,
    strides,
    thr=0.0,
    iou=0.5,
    kind="IOU",
    whr=2.0,
    xyr=2.0,
    most=0,
    after=0,
    least=15.0,
    mean=0.0,
    std=1.0,
    sets=1,
    ring=False,
    snaps=False,
):
    def find(*bottoms):
        found = []
        for image in range(len(bottoms[0])):
            rows = []
            for head, field, stride in zip(bottoms, fields, strides, strict=True):
                c, h, w = head.shape[1:]
                classes = c - 4 * sets
                for y, x in np.ndindex(h, w):
                    values = head[image, :, y, x]
                    score, box = max(values[1:classes]) - values[0], []
                    for k in range(sets):
                        deltas = values[classes + 4 * k :][:4]
                        corner, size = box_of(deltas, np.array(field), y, x, stride, whr, xyr, mean, std)
                        if snaps:
                            cells = ((size + 6) / 7).astype(int)
                            size_before, size = size, 7.0 * 2 ** np.ceil(np.log2(cells))
                            corner = corner + size_before / 2 - size / 2
                        corner = np.where([ring, False], corner, np.maximum(corner, 0))
                        if snaps:
                            corner = np.trunc(np.trunc(corner) / 4) * 4
                        room = np.array([w * stride, h * stride]) - corner
                        size = np.where([ring, False], size, np.minimum(size, room))
                        box += [*corner, *(corner + size)]
                    if score >= thr and box[2] - box[0] >= least and box[3] - box[1] >= least:
                        rows.append([*box, score])
            found += [[image, *r] for r in finish(rows, most, iou, after, OVER[kind], 0.0)]
        return np.array(found) if found else np.array([[0, *[1, 1, 10, 10] * sets, 0]])

    return find


def output(fields):
    return f'type: "BoxOutput" box_output_param {{ {fields} }} '


ONE, TWO = "field_w: 40 field_h: 30 downsample_rate: 8", "field_w: 80 field_h: 56 downsample_rate: 16"
BOTH = ([(40, 30), (80, 56)], [8, 16])
CASES = {
    "usual": (output(f"{ONE} {TWO}"), heads(*BOTH), (2, 7), 1),
    "limits": (
        output(f"{ONE} {TWO} fg_thr: 0.3 iou_thr: 0.3 max_nms_num: 30 max_post_nms_num: 9 min_size: 25"),
        heads(*BOTH, 0.3, 0.3, most=30, after=9, least=25),
        (2, 6),
        18,
    ),
    "IOMU, bounds": (
        output(f'{ONE} {TWO} nms_type: "IOMU" field_whr: 1.2 field_xyr: 5'),
        heads(*BOTH, kind="IOMU", whr=1.2, xyr=5),
        (1, 7),
        1,
    ),
    "IOFU, normalised": (
        output(f'{ONE} {TWO} nms_type: "IOFU"') + NORMALISED,
        heads(*BOTH, kind="IOFU", mean=MEAN, std=STD),
        (1, 8),
        1,
    ),
    "nothing": (output(f"{ONE} {TWO} fg_thr: 99"), heads(*BOTH, thr=99), (2, 7), 1),
    "two sets": (output(f"{ONE} {TWO} num_param_set: 2"), heads(*BOTH, sets=2, snaps=True), (2, 11), 1),
    "ring": (output(f"{ONE} {TWO} ringpad: true"), heads(*BOTH, ring=True, snaps=True), (2, 7), 1),
}


def check(body, want, bottoms, count, sets=1):
    nets = [
        netcompiler.compile(
            netcompiler.parse(prototxt(body, [b.shape for b in bottoms], tops)),
            optimize=False,
            device="cpu",
            dtype="float64",
        )
        for tops in (1, 2)
    ]
    wide = 4 * sets + 1
    assert [v.shape for v in nets[1].graph.nodes[-1].tops] == [(count, wide, 1, 1), (count, wide + 1, 1, 1)]
    rows = want(*bottoms)
    tops = nets[1](*bottoms)
    assert tops["t0"].shape == (len(rows), wide, 1, 1)
    np.testing.assert_allclose(tops["t0"][..., 0, 0], rows[:, :-1], atol=1e-6)
    scored = rows if rows[0, -1] else np.zeros_like(rows)
    np.testing.assert_allclose(tops["t1"][..., 0, 0], scored, atol=1e-6)
    assert torch.equal(nets[0](*bottoms)["t0"], tops["t0"])
    return rows


@pytest.mark.parametrize("case", CASES)
def test_values(case):
    body, want, (images, channels), count = CASES[case]
    rng = np.random.default_rng(len(case))
    bottoms = rng.normal(0, 1, (images, channels, 12, 16)), rng.normal(0, 1, (images, channels, 6, 8))
    rows = check(body, want, bottoms, count, 2 if case == "two sets" else 1)
    assert len(rows) > 2 or case == "nothing"


def groups(fields, strides, thr=0.0, iou=0.5, most=0, after=0, least=15.0, mean=0.0, std=1.0):
    def find(*bottoms):
        found = []
        for image in range(len(bottoms[0]) // len(fields[0])):
            rows = []
            for j, (group, stride) in enumerate(zip(fields, strides, strict=True)):
                scores, deltas = bottoms[2 * j], bottoms[2 * j + 1]
                h, w = scores.shape[2:]
                for k, y, x in np.ndindex(len(group), h, w):
                    item = image * len(group) + k
                    field = np.array(group[k])
                    corner, size = box_of(deltas[item, :, y, x], field, y, x, stride, 2.0, 2.0, mean, std)
                    last = np.minimum(corner + size - 1, [w * stride, h * stride])
                    box = [*np.maximum(corner, 0), *last]
                    score = 1 - scores[item, 0, y, x]
                    if score >= thr and box[2] - box[0] + 1 >= least and box[3] - box[1] + 1 >= least:
                        rows.append([*box, score])
            found += [[image, *r] for r in finish(rows, most, iou, after, "union", 1.0)]
        return np.array(found)

    return find


GROUP = (
    "box_group_param { stride: 8 field_w: 32 field_w: 48 field_h: 40 field_h: 24 }"
    " box_group_param { stride: 16 field_w: 80 field_h: 60 }"
)


def group_output(fields=""):
    return f'type: "BoxGroupOutput" box_group_output_param {{ {GROUP} {fields} }} '


def test_groups():
    rng = np.random.default_rng(0)
    bottoms = (
        rng.uniform(0, 1, (4, 2, 12, 16)),
        rng.normal(0, 1, (4, 4, 12, 16)),
        rng.uniform(0, 1, (2, 2, 6, 8)),
        rng.normal(0, 1, (2, 4, 6, 8)),
    )
    fields, strides = [[(32, 40), (48, 24)], [(80, 60)]], [8, 16]
    check(group_output(), groups(fields, strides), bottoms, 1)
    limits = "fg_thr: 0.2 iou_thr: 0.4 max_nms_num: 99 max_post_nms_num: 10 min_size: 20"
    want = groups(fields, strides, 0.2, 0.4, 99, 10, 20.0, MEAN, STD)
    assert len(check(group_output(limits) + NORMALISED, want, bottoms, 20)) == 20


HEAD = (1, 7, 4, 5)
BAD = [
    Bad("fields", output(ONE), [HEAD, HEAD], "field_w has the wrong number of values", at="field_w"),
    Bad("no fields", output(""), [HEAD], "field_w has the wrong number of values"),
    Bad("heads", output(f"{ONE} {TWO}"), [HEAD, (1, 6, 4, 5)], "the heads differ"),
    Bad("channels", output(ONE), [(1, 5, 4, 5)], "too few channels"),
    Bad("bounds", output(f"{ONE} field_whr: 0"), [HEAD], "field_whr must be positive", at="field_whr"),
    Bad("sets", output(f"{ONE} num_param_set: 0"), [HEAD], "num_param_set must be positive", at="num_param_set"),
    Bad("groups", group_output(), [HEAD, HEAD], "the wrong number of bottoms"),
    Bad("images", group_output(), [(4, 2, 5, 7), (4, 4, 5, 7), (3, 2, 3, 4), (3, 4, 3, 4)], "bottom 2 does not fit"),
    Bad("deltas", group_output(), [(4, 2, 5, 7), (4, 4, 5, 7), (2, 2, 3, 4), (2, 8, 3, 4)], "bottom 3 does not fit"),
    Bad(
        "one field",
        group_output().replace("field_w: 48", ""),
        [HEAD] * 4,
        "field_w and field_h must be as many",
        at="field_w",
    ),
]
_, _, test_bad = suite([], BAD)
