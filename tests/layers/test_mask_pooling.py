import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite
from .test_roi_align import bilinear


def resized(height, width, growth=(0, 0)):
    def resize(x):
        h, w = x.shape[2:]
        size = [int(n * g) if g else given for given, g, n in zip((height, width), growth, (h, w), strict=True)]
        top = np.zeros((*x.shape[:2], *size))
        for n, c, i, j in np.ndindex(top.shape):
            y, z = i * h / size[0], j * w / size[1]
            if y <= h - 0.5 and z <= w - 0.5:
                top[n, c, i, j] = bilinear(x[n, c], y, z)
        return top

    return resize


def resize(fields):
    return f'type: "MaskResize" mask_resize_param {{ {fields} }}'


MASK = 'type: "MaskPooling"'
ROWS = [
    Row("mask", MASK, [(2, 3, 4, 5), (2, 1, 4, 5)], [(2, 3, 4, 5)], lambda x, mask: x * mask),
    Row("smaller", resize("output_height: 14 output_width: 9"), [(2, 1, 21, 20)], [(2, 1, 14, 9)], resized(14, 9)),
    Row(
        "larger",
        resize("output_height: 9 output_width: 30"),
        [(1, 2, 4, 7)],
        [(1, 2, 9, 30)],
        resized(9, 30),
        gradient=False,
    ),
    Row("same", resize("output_height: 4 output_width: 5"), [(1, 2, 4, 5)], [(1, 2, 4, 5)], lambda x: x),
    Row(
        "one pixel",
        resize("output_height: 3 output_width: 4"),
        [(1, 1, 1, 1)],
        [(1, 1, 3, 4)],
        resized(3, 4),
        gradient=False,
    ),
    Row(
        "factors",
        resize("output_height: 1 output_width: 1 factor_height: 2 factor_width: 0.5"),
        [(1, 2, 3, 7)],
        [(1, 2, 6, 3)],
        resized(1, 1, (2, 0.5)),
        gradient=False,
    ),
]
BAD = [
    Bad("mask", MASK, [(2, 3, 4, 5), (2, 3, 4, 5)], "the mask does not fit"),
    Bad("axes", MASK, [(2, 3), (2, 1)], "wrong number of axes"),
    Bad("no size", resize("output_height: 3"), [(1, 1, 4, 4)], "output_width is missing"),
    Bad("empty", resize("output_height: 3 output_width: 3 factor_height: 0.1"), [(1, 1, 4, 4)], "the top is empty"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_gradient_of_larger_maps_is_cut():
    """Row k takes the gradient of rows 2 k and 2 k + 1 alone: of half of row 2 k - 1 nothing."""
    text = prototxt(resize("output_height: 8 output_width: 1"), [(1, 1, 4, 1)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    x = torch.zeros(1, 1, 4, 1, dtype=torch.float64, requires_grad=True)
    grads = torch.arange(1.0, 9, dtype=torch.float64)
    (net(x)["t0"].flatten() * grads).sum().backward()
    # The last row of 8 is at 3.5: not beyond 4 - 0.5, so it is row 3's value.
    assert x.grad.flatten().tolist() == [1 + 2 / 2, 3 + 4 / 2, 5 + 6 / 2, 7 + 8]
