"""The Python layers of multi-task network cascades, without their code."""

import numpy as np
import pytest

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite
from .test_proposal import feeds
from .test_roi_warping import regions
from .test_rpn import compiled, proposal, python

MASK = python("pylayer.mask_layer", "MaskLayer")
BRIDGE = python("pylayer.stage_bridge_layer", "StageBridgeLayer")


def bridged(rois, deltas, scores, info):
    found = []
    for roi, delta, score in zip(rois, deltas, scores, strict=True):
        dx, dy, dw, dh = delta.reshape(-1, 4)[np.argmax(score)]
        wide, high = roi[3] - roi[1] + 1, roi[4] - roi[2] + 1
        cx, cy = roi[1] + wide / 2 + dx * wide, roi[2] + high / 2 + dy * high
        wide, high = wide * np.exp(dw) / 2, high * np.exp(dh) / 2
        ends = np.clip([cx - wide, cy - high, cx + wide, cy + high], 0, [info[0, 1] - 1, info[0, 0] - 1] * 2)
        found.append([0, *ends])
    return np.array(found)


def image(rng, shape):
    return np.array([[9.0, 8, 1]])


SHAPES = [(7, 5), (7, 12), (7, 3), (1, 3)]
ROWS = [
    Row("masks", MASK, [(3, 441)], [(3, 1, 21, 21)], lambda x: x.reshape(3, 1, 21, 21)),
    Row("bridge", BRIDGE, SHAPES, [(7, 5)], bridged, feed={0: regions, 3: image}, gradient=False),
]
BAD = [
    Bad("masks", MASK, [(3, 440)], "bottom 0 has no masks"),
    Bad("deltas", BRIDGE, [(7, 5), (7, 11), (7, 3), (1, 3)], "bottom 1 does not fit"),
    Bad("image", BRIDGE, [(7, 5), (7, 12), (7, 3), (1, 1)], "bottom 3 does not tell the image"),
    Bad("bottoms", BRIDGE, SHAPES[:3], "the wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_proposals_are_those_of_faster_rcnn():
    bottoms = feeds(9, 8, 9, info=(128.0, 144.0, 1.0))
    shapes = [b.shape for b in bottoms]
    body = python("pylayer.proposal_layer", "ProposalLayer", "{'feat_stride': 16, 'gradient_scale': 1}")
    tops = [compiled(b, shapes, 1)(*bottoms)["t0"] for b in (body, proposal())]
    assert len(tops[0]) > 5 and (tops[0] == tops[1]).all()


@pytest.mark.parametrize("body", [MASK, BRIDGE])
def test_training_is_not_known(body):
    with pytest.raises(NetError, match="known for TEST only"):
        netcompiler.build(netcompiler.parse(prototxt(body, SHAPES if body == BRIDGE else [(3, 441)], 1)), "TRAIN")
