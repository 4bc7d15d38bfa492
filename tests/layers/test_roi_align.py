import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite
from .test_roi_pooling import rois


def bilinear(plane, y, x):
    """A value between pixels; the coordinates are pulled into the image."""
    h, w = plane.shape
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    a, b = int(np.floor(y)), int(np.floor(x))
    c, d = min(a + 1, h - 1), min(b + 1, w - 1)
    upper = plane[a, b] * (1 - x + b) + plane[a, d] * (x - b)
    return upper * (1 - y + a) + (plane[c, b] * (1 - x + b) + plane[c, d] * (x - b)) * (y - a)


def naive(ph, pw, scale=1.0, pad=0.0):
    def align(x, rows):
        top = np.zeros((len(rows), x.shape[1], ph + 1, pw + 1))
        h, w = x.shape[2:]
        for r, (image, x1, y1, x2, y2) in enumerate(rows.reshape(len(rows), 5)):
            wide, high = (x2 - x1 + 1) * pad, (y2 - y1 + 1) * pad
            left, right = (x1 - wide) * scale - 0.5, (x2 + wide) * scale - 0.5
            first, last = (y1 - high) * scale - 0.5, (y2 + high) * scale - 0.5
            if right <= left or last <= first:
                continue
            for i, j in np.ndindex(ph + 1, pw + 1):
                y, z = first + i * (last - first) / ph, left + j * (right - left) / pw
                if -0.5 <= y <= h - 0.5 and -0.5 <= z <= w - 0.5:
                    for channel in range(x.shape[1]):
                        top[r, channel, i, j] = bilinear(x[int(image), channel], y, z)
        return top

    return align


def detectrons(ph, pw, scale, ratio):
    def align(x, rows):
        top = np.zeros((len(rows), x.shape[1], ph, pw))
        h, w = x.shape[2:]
        for r, (image, x1, y1, x2, y2) in enumerate(rows.reshape(len(rows), 5)):
            wide, high = max((x2 - x1) * scale, 1), max((y2 - y1) * scale, 1)
            across = ratio if ratio > 0 else int(np.ceil(wide / pw))
            down = ratio if ratio > 0 else int(np.ceil(high / ph))
            for i, j, k, m in np.ndindex(ph, pw, down, across):
                y, z = (
                    y1 * scale + (i + (k + 0.5) / down) * high / ph,
                    x1 * scale + (j + (m + 0.5) / across) * wide / pw,
                )
                if -1 <= y <= h and -1 <= z <= w:
                    for channel in range(x.shape[1]):
                        top[r, channel, i, j] += bilinear(x[int(image), channel], y, z) / (down * across)
        return top

    return align


def averaged(fields):
    return f'type: "ROIAlign" roi_align_param {{ {fields} }}'


def roi(fields):
    return f'type: "ROIAlign" roi_pooling_param {{ {fields} }}'


IMAGE = (2, 3, 7, 9)
ROWS = [
    Row(
        "7x7",
        roi("pooled_h: 7 pooled_w: 7 spatial_scale: 0.125"),
        [IMAGE, (7, 5)],
        [(7, 3, 8, 8)],
        naive(7, 7, 0.125),
        feed=rois(2, 9, 0.125),
    ),
    Row(
        "padded",
        roi("pooled_h: 2 pooled_w: 3 pad_ratio: 0.5"),
        [IMAGE, (7, 5, 1, 1)],
        [(7, 3, 3, 4)],
        naive(2, 3, 1.0, 0.5),
        feed=rois(2, 9),
    ),
    Row(
        "one pixel",
        roi("pooled_h: 1 pooled_w: 2"),
        [(1, 2, 1, 1), (4, 5)],
        [(4, 2, 2, 3)],
        naive(1, 2),
        feed=rois(1, 2),
    ),
    Row(
        "detectron's",
        averaged("pooled_h: 3 pooled_w: 2 spatial_scale: 0.25 sampling_ratio: 2"),
        [IMAGE, (7, 5)],
        [(7, 3, 3, 2)],
        detectrons(3, 2, 0.25, 2),
        feed=rois(2, 9, 0.25),
    ),
    Row(
        "detectron's, as many as fit",
        averaged("pooled_h: 2 pooled_w: 2"),
        [IMAGE, (7, 5, 1, 1)],
        [(7, 3, 2, 2)],
        detectrons(2, 2, 1.0, -1),
        feed=rois(2, 9),
    ),
]
BAD = [
    Bad("no bins", averaged("pooled_w: 2"), [IMAGE, (1, 5)], "pooled_h is missing"),
    Bad(
        "two messages",
        averaged("pooled_w: 2 pooled_h: 2") + " roi_pooling_param { pooled_w: 2 pooled_h: 2 }",
        [IMAGE, (1, 5)],
        "roi_align_param and roi_pooling_param are both given",
        at="roi_align_param",
    ),
    Bad("no size", roi("pooled_w: 2"), [IMAGE, (1, 5)], "pooled_h is missing"),
    Bad(
        "scale",
        roi("pooled_w: 2 pooled_h: 2 spatial_scale: 0"),
        [IMAGE, (1, 5)],
        "must be positive",
        at="spatial_scale",
    ),
    Bad("rows", roi("pooled_h: 2 pooled_w: 2"), [IMAGE, (3, 6)], "no rows of 5"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_regions_take_no_gradient():
    text = prototxt(roi("pooled_h: 1 pooled_w: 1"), [(1, 1, 3, 4), (1, 5)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    with pytest.raises(NetError, match="no gradient for its regions"):
        net(torch.rand(1, 1, 3, 4), torch.zeros(1, 5, requires_grad=True))["t0"].sum().backward()
