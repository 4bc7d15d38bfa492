import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite
from .test_roi_pooling import away, rois


def naive(g, d, scale):
    def pool(x, rows):
        top = np.zeros((len(rows), d, g, g))
        h, w = x.shape[2:]
        for r, (image, x1, y1, x2, y2) in enumerate(rows.reshape(len(rows), 5)):
            left, first = away(x1) * scale, away(y1) * scale
            wide = max((away(x2) + 1) * scale - left, 0.1) / g
            high = max((away(y2) + 1) * scale - first, 0.1) / g
            for o, i, j in np.ndindex(d, g, g):
                a, b = int(np.floor(i * high + first)), int(np.ceil((i + 1) * high + first))
                c, e = int(np.floor(j * wide + left)), int(np.ceil((j + 1) * wide + left))
                plane = x[int(image), (o * g + i) * g + j]
                part = plane[max(a, 0) : max(min(b, h), 0), max(c, 0) : max(min(e, w), 0)]
                top[r, o, i, j] = part.mean() if part.size else 0
        return top

    return pool


def roi(fields):
    return f'type: "PSROIPooling" psroi_pooling_param {{ {fields} }}'


def rfcn(g, d, scale):
    return roi(f"group_size: {g} output_dim: {d} spatial_scale: {scale}")


ROWS = [
    Row(
        "3x3",
        rfcn(3, 2, 0.0625),
        [(2, 18, 11, 13), (7, 5)],
        [(7, 2, 3, 3)],
        naive(3, 2, 0.0625),
        feed=rois(2, 11, 0.0625),
    ),
    Row("one bin", rfcn(1, 5, 1), [(1, 5, 4, 6), (5, 5, 1, 1)], [(5, 5, 1, 1)], naive(1, 5, 1.0), feed=rois(1, 6)),
    Row(
        "many small bins",
        rfcn(7, 1, 0.25),
        [(1, 49, 6, 5), (6, 5)],
        [(6, 1, 7, 7)],
        naive(7, 1, 0.25),
        feed=rois(1, 5, 0.25),
    ),
]
BAD = [
    Bad(
        "channels",
        rfcn(3, 2, 1),
        [(1, 17, 4, 4), (1, 5)],
        "18 channels: output_dim x group_size x group_size",
        at="output_dim",
    ),
    Bad("no scale", roi("group_size: 1 output_dim: 1"), [(1, 1, 4, 4), (1, 5)], "spatial_scale is missing"),
    Bad("group 0", rfcn(0, 2, 1), [(1, 17, 4, 4), (1, 5)], "group_size must be positive", at="group_size"),
    Bad("rows", rfcn(1, 1, 1), [(1, 1, 4, 4), (1, 4)], "no rows of 5"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_regions_take_no_gradient():
    text = prototxt(rfcn(1, 1, 1), [(1, 1, 3, 4), (1, 5)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    with pytest.raises(NetError, match="no gradient for its regions"):
        net(torch.rand(1, 1, 3, 4), torch.zeros(1, 5, requires_grad=True))["t0"].sum().backward()
