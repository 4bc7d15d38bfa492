"""CTPN's Python layer, without its code."""

import numpy as np

import netcompiler

from .table import Bad, prototxt, suite
from .test_rpn import python


def proposal(text="'feat_stride': 16"):
    return python("layers.text_proposal_layer", "ProposalLayer", text)


BASE = [  # y1, y2 of the anchors, as Python 2 works them out by anchor.py
    *((2, 12), (0, 15), (-3, 18), (-8, 23), (-16, 31)),
    *((-26, 41), (-40, 55), (-61, 76), (-91, 106), (-133, 148)),
]


def naive(scores, deltas, height, width, stride):
    boxes, texts = [], []
    for y in range(scores.shape[2]):
        for x in range(scores.shape[3]):
            for a, (above, below) in enumerate(BASE):
                size, middle = below - above + 1.0, (above + below) / 2 + y * stride
                high = np.exp(deltas[0, 2 * a + 1, y, x]) * size
                top = deltas[0, 2 * a, y, x] * size + middle - high / 2
                xs = np.clip([x * stride, x * stride + 15], 0, width - 1)
                ys = np.clip([top, top + high], 0, height - 1)
                boxes.append([xs[0], ys[0], xs[1], ys[1]])
                texts.append([scores[0, 10 + a, y, x]])
    return np.array(boxes), np.array(texts)


def test_moves_the_anchors():
    rng = np.random.default_rng(3)
    scores, deltas = rng.random((1, 20, 3, 5)), rng.normal(0, 0.5, (1, 20, 3, 5))
    bottoms = [scores, deltas, np.array([[40.0, 70, 1.5]])]
    for stride in (16, 8):
        net = netcompiler.parse(prototxt(proposal(f"'feat_stride': {stride}"), [b.shape for b in bottoms], 2))
        tops = netcompiler.compile(net, device="cpu", dtype="float64")(*bottoms)
        boxes, texts = naive(scores, deltas, 40, 70, stride)
        np.testing.assert_allclose(tops["t0"], boxes, atol=1e-9)
        np.testing.assert_array_equal(tops["t1"], texts)


MAPS, INFO = (1, 20, 3, 5), (1, 3)
BAD = [
    Bad("no stride", proposal(""), [MAPS, MAPS, INFO], "feat_stride is missing", tops=2),
    Bad("two images", proposal(), [(2, 20, 3, 5)] * 2 + [INFO], "bottom 0 has the wrong shape", tops=2),
    Bad("deltas", proposal(), [MAPS, (1, 40, 3, 5), INFO], "bottom 1 has the wrong shape", tops=2),
    Bad("axes", proposal(), [(1, 20, 3), MAPS, INFO], "the wrong number of axes", tops=2),
    Bad("image", proposal(), [MAPS, MAPS, (1, 1)], "bottom 2 does not tell the image", tops=2),
    Bad("one top", proposal(), [MAPS, MAPS, INFO], "the wrong number of tops"),
]
test_bad = suite([], BAD)[-1]
