import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite

NORMALISED = (
    "bbox_reg_param { bbox_mean: 0 bbox_mean: 0.05 bbox_mean: -0.1 bbox_mean: 0.2"
    " bbox_std: 0.1 bbox_std: 0.1 bbox_std: 0.2 bbox_std: 0.3 }"
)
MEAN, STD = np.array([0, 0.05, -0.1, 0.2]), np.array([0.1, 0.1, 0.2, 0.3])


def one(box, delta, mean=0.0, std=1.0):
    """A box moved by normalised deltas, whose middle is that of its first and last pixel."""
    dx, dy, dw, dh = delta * std + mean
    wide, high = box[2] - box[0] + 1, box[3] - box[1] + 1
    cx, cy = dx * wide + (box[0] + box[2]) / 2, dy * high + (box[1] + box[3]) / 2
    wide, high = wide * np.exp(dw), high * np.exp(dh)
    return np.array([cx - (wide - 1) / 2, cy - (high - 1) / 2, cx + (wide - 1) / 2, cy + (high - 1) / 2])


def naive(mean=0.0, std=1.0):
    def decode(deltas, rois):
        deltas, rois = deltas.reshape(-1, 8), rois.reshape(-1, 5)
        rows = [[r[0], *one(r[1:], d[4:], mean, std)] for d, r in zip(deltas, rois, strict=True)]
        return np.reshape(rows, (-1, 5, 1, 1))

    return decode


def rois(rng, shape):
    first = rng.uniform(0, 50, (shape[0], 2))
    return np.concatenate(
        [rng.integers(0, 2, (shape[0], 1)), first, first + rng.uniform(0, 40, (shape[0], 2))], 1
    ).reshape(shape)


DECODE = 'type: "DecodeBBox"'
ROWS = [
    Row("plain", DECODE, [(7, 8), (7, 5)], [(7, 5, 1, 1)], naive(), feed={1: rois}, gradient=False),
    Row(
        "normalised",
        f"{DECODE} {NORMALISED}",
        [(4, 8, 1, 1), (4, 5, 1, 1)],
        [(4, 5, 1, 1)],
        naive(MEAN, STD),
        feed={1: rois},
        gradient=False,
    ),
]
BAD = [
    Bad("deltas", DECODE, [(7, 4), (7, 5)], "bottom 0 does not fit"),
    Bad("regions", DECODE, [(7, 8), (6, 5)], "bottom 1 does not fit"),
    Bad("TEST", DECODE, [(7, 8), (7, 5), (7, 6)], "bottom 2 is for TRAIN only", at="bottom"),
    Bad(
        "mean",
        f"{DECODE} bbox_reg_param {{ bbox_mean: 1 bbox_std: 1 }}",
        [(7, 8), (7, 5)],
        "bbox_mean needs four values",
    ),
    Bad(
        "std",
        DECODE + NORMALISED.replace("0.3", "0").replace("bbox_reg", " bbox_reg"),
        [(7, 8), (7, 5)],
        "must be positive",
        at="bbox_std",
    ),
]
test_row, _, test_bad = suite(ROWS, BAD)


def trained(shapes, fields=""):
    text = prototxt(f"{DECODE} {fields}", shapes, 1)
    return netcompiler.compile(netcompiler.parse(text), phase="TRAIN", optimize=False, device="cpu", dtype="float64")


def test_train_drops_boxes():
    rows = np.array([[0.0, 3, 4, 9, 12], [0, 9, 9, 1, 12], [1, 3, 4, 9, 12]])
    deltas, known = np.zeros((3, 8)), np.array([[1, 0, 0, 0, 0, 0.5], [1, 0, 0, 0, 0, 0.5], [1, 0, 0, 0, 0, 0.96]])
    assert trained([(3, 8), (3, 5)])(deltas, rows)["t0"].flatten(1).tolist() == [rows[0].tolist(), rows[2].tolist()]
    net = trained([(3, 8), (3, 5), (3, 6)])
    assert net(deltas, rows, known)["t0"].flatten(1).tolist() == [rows[0].tolist()]
    net = trained([(3, 8), (3, 5), (3, 6)], "decode_bbox_param { gt_iou_thr: 0.97 }")
    assert len(net(deltas, rows, known)["t0"]) == 2
    with pytest.raises(NetError, match="no box is left"):
        trained([(1, 8), (1, 5)])(deltas[:1], rows[1:2])


def test_no_gradient_passes():
    top = trained([(1, 8), (1, 5)])(torch.zeros(1, 8, requires_grad=True), torch.tensor([[0.0, 1, 1, 3, 3]]))["t0"]
    assert not top.requires_grad
