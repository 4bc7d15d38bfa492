import numpy as np
import pytest

import netcompiler

from .table import Bad, prototxt, suite
from .test_boxes import suppressed
from .test_decode_bbox import MEAN, NORMALISED, STD, one


def naive(scores, deltas, rois, size, thr=0.0, iou=0.5, most=0, over="union", aware=True, mean=0.0, std=1.0):
    found = []
    for c in range(1, scores.shape[1]):
        rows = []
        for score, delta, roi in zip(scores, deltas, rois, strict=True):
            k = c if aware else 1
            x1, y1, x2, y2 = one(roi[1:5], delta[4 * k : 4 * k + 4], mean, std)
            if score[c] >= thr:
                rows.append([0, max(x1, 0), max(y1, 0), min(x2, size[0, 1]), min(y2, size[0, 0]), c, score[c]])
        rows.sort(key=lambda r: -r[-1])
        found += [rows[k] for k in suppressed([r[1:5] for r in rows], iou, one=1.0, over=over, meeting=True)]
    if 0 < most < len(found):
        best = sorted(r[-1] for r in found)[-most:]
        found = [r for r in found if r[-1] in best]
    return np.array([[0, -1, -1, -1, -1, -1, -1], *found])


def feeds(count=60, classes=4, wide=None, columns=5, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.uniform(0, 60, (count, 2))
    rois = np.concatenate(
        [np.zeros((count, 1)), first, first + rng.uniform(5, 50, (count, 2)), rng.uniform(0, 1, (count, 1))], 1
    )
    scores = rng.uniform(0, 1, (count, classes))
    return scores, rng.normal(0, 0.3, (count, wide or 4 * classes)), rois[:, :columns], np.array([[80.0, 90]])


CASES = {
    "usual": ("", {}, {}),
    "limits": ("conf_thr: 0.4 iou_thr: 0.3 max_det_num: 12", {"thr": 0.4, "iou": 0.3, "most": 12}, {"columns": 6}),
    "more than there are": ("conf_thr: 0.9 max_det_num: 99", {"thr": 0.9}, {}),
    "IOMU": ('nms_type: "IOMU"', {"over": "smaller"}, {}),
    "IOFU": ('nms_type: "IOFU"', {"over": "first"}, {}),
    "nothing": ("conf_thr: 2", {"thr": 2}, {}),
}


def output(fields, more=""):
    return f'type: "FrcnnOutput" frcnn_output_param {{ {fields} }} {more}'


def run(body, bottoms):
    net = netcompiler.parse(prototxt(body, [b.shape for b in bottoms], 1))
    return netcompiler.compile(net, optimize=False, device="cpu", dtype="float64")(*bottoms)["t0"]


@pytest.mark.parametrize("case", CASES)
def test_values(case):
    fields, options, shapes = CASES[case]
    bottoms = feeds(**shapes)
    top, want = run(output(fields), bottoms), naive(*bottoms, **options)
    assert top.shape == (len(want), 7, 1, 1)
    np.testing.assert_allclose(top[..., 0, 0], want, atol=1e-9)


def test_one_kind_of_deltas():
    bottoms = feeds(wide=8)
    more = NORMALISED.replace("bbox_reg_param {", "bbox_reg_param { cls_aware: false")
    np.testing.assert_allclose(
        run(output("", more), bottoms)[..., 0, 0], naive(*bottoms, aware=False, mean=MEAN, std=STD), atol=1e-9
    )


def test_nothing_is_written(tmp_path):
    saving = f'save_output_param {{ output_directory: "{tmp_path}/found" output_format: "VOC" }}'
    run(output(saving), feeds())
    assert not list(tmp_path.iterdir())


SHAPES = [(9, 4), (9, 16), (9, 5), (1, 2)]
BAD = [
    Bad("deltas", output(""), [(9, 4), (9, 8), (9, 5), (1, 2)], "bottom 1 does not fit"),
    Bad("regions", output(""), [(9, 4), (9, 16), (8, 5), (1, 2)], "bottom 2 does not fit"),
    Bad("size", output(""), [(9, 4), (9, 16), (9, 5), (1, 3)], "bottom 3 does not tell the image"),
]
_, _, test_bad = suite([], BAD)


@pytest.mark.parametrize(("fields", "count"), [("", 1), ("max_det_num: 30", 31)])
def test_shape_rule(fields, count):
    graph = netcompiler.build(netcompiler.parse(prototxt(output(fields), SHAPES, 1)))
    assert graph.nodes[-1].tops[0].shape == (count, 7, 1, 1)
