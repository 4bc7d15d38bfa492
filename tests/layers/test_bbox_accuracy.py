import numpy as np
import pytest

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite
from .test_boxes import overlap
from .test_decode_bbox import MEAN, NORMALISED, STD, one


def naive(mean=0.0, std=1.0, aware=True, tops=2):
    def accuracy(deltas, rois, objects):
        found = []
        for delta, roi, known in zip(*(b.reshape(len(b), -1) for b in (deltas, rois, objects)), strict=True):
            if known[0] > 0 and known[5] <= 0.975:
                k = int(known[0]) if aware else 1
                boxes = [one(roi[1:], delta[4 * k : 4 * k + 4], mean, std), roi[1:]]
                lines = [[*b[:2], *(b[2:] + 1)] for b in boxes]
                found.append([overlap(b, [*known[1:3], *(known[3:5] + 1)]) for b in lines])
        means = np.mean(found, 0) if found else np.array([-1.0, -1])
        return [means[k].reshape(1, 1, 1, 1) for k in range(tops)]

    return accuracy


def rois(rng, shape):
    first = rng.uniform(0, 30, (shape[0], 2))
    return np.concatenate([np.zeros((shape[0], 1)), first, first + rng.uniform(5, 40, (shape[0], 2))], 1).reshape(shape)


def objects(rng, shape):
    rows = np.concatenate([rois(rng, (shape[0], 5)), rng.uniform(0.5, 1, (shape[0], 1))], 1)
    rows[:, 0] = rng.integers(0, 3, shape[0])
    rows[0, 5], rows[1, 0], rows[1, 5] = 0.99, 2, 0.5
    return rows.reshape(shape)


ACCURACY = 'type: "BboxAccuracy"'
FEED = {1: rois, 2: objects}
SHAPES = [(19, 12), (19, 5), (19, 6)]
ONE = (1, 1, 1, 1)
ROWS = [
    Row("two tops", ACCURACY, SHAPES, [ONE, ONE], naive(), feed=FEED, gradient=False),
    Row("one top", ACCURACY, SHAPES, [ONE], naive(tops=1), feed=FEED, gradient=False),
    Row("normalised", f"{ACCURACY} {NORMALISED}", SHAPES, [ONE, ONE], naive(MEAN, STD), feed=FEED, gradient=False),
    Row(
        "one kind of deltas",
        f"{ACCURACY} bbox_reg_param {{ cls_aware: false }}",
        [(9, 8, 1, 1), (9, 5, 1, 1), (9, 6, 1, 1)],
        [ONE, ONE],
        naive(aware=False),
        feed=FEED,
        gradient=False,
    ),
    Row(
        "nothing",
        ACCURACY,
        SHAPES,
        [ONE, ONE],
        lambda *b: [np.full(ONE, -1.0)] * 2,
        feed={1: rois, 2: lambda rng, s: np.zeros(s)},
        gradient=False,
    ),
]
BAD = [
    Bad("a scalar", ACCURACY, [(), (3, 5), (3, 6)], "bottom 0 has too few axes"),
    Bad("regions", ACCURACY, [(3, 8), (4, 5), (3, 6)], "bottom 1 does not fit"),
    Bad("objects", ACCURACY, [(3, 8), (3, 5), (3, 5)], "bottom 2 does not fit"),
    Bad("deltas", ACCURACY, [(3, 7), (3, 5), (3, 6)], "bottom 0 has no deltas"),
    Bad("eight", f"{ACCURACY} bbox_reg_param {{ cls_aware: false }}", SHAPES, "R x 8"),
]
test_row, _, test_bad = suite(ROWS, BAD)


def compiled(dialect=None):
    text = prototxt(ACCURACY, [(1, 8), (1, 5), (1, 6)], 1)
    return netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64", dialect=dialect)


@pytest.mark.parametrize(("dialect", "share"), [("mscnn", 0.5 / 19.5), ("cascade-rcnn", 0)])
def test_boxes_that_share_half_a_pixel(dialect, share):
    rows = np.array([[0.0, 0, 0, 9, 9]]), np.array([[1, 9.5, 0, 18.5, 9, 0.6]])
    assert compiled(dialect)(np.zeros((1, 8)), *rows)["t0"].item() == pytest.approx(share)


def test_class_out_of_range():
    with pytest.raises(NetError, match="a class is out of range"):
        compiled()(np.zeros((1, 8)), np.array([[0.0, 0, 0, 9, 9]]), np.array([[2, 0, 0, 9, 9, 0.6]]))
