import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite
from .test_roi_align import bilinear
from .test_roi_pooling import away


def points(a, b, bins, size):
    """For each bin the coordinates that count, summed up step by step."""
    n = max(b - a, 0)
    found = []
    for i in range(bins):
        found.append([])
        steps = int(np.ceil(n / bins))
        step, at = 1 / steps if steps else np.inf, float(i)
        while at <= i + 1:
            place = a + at * (n / bins)
            if -0.5 <= place <= size - 0.5:
                found[-1].append(place)
            at += step
    return found


def naive(ph, pw, scale=1.0):
    def warp(x, rows):
        top = np.zeros((len(rows), x.shape[1], ph, pw))
        h, w = x.shape[2:]
        for r, (image, x1, y1, x2, y2) in enumerate(rows.reshape(len(rows), 5)):
            ys = points(away(y1 * scale), away(y2 * scale), ph, h)
            xs = points(away(x1 * scale), away(x2 * scale), pw, w)
            for c, i, j in np.ndindex(x.shape[1], ph, pw):
                values = [bilinear(x[int(image), c], y, z) for y in ys[i] for z in xs[j]]
                top[r, c, i, j] = max(values, default=0)
        return top

    return warp


def roi(fields):
    return f'type: "ROIWarping" roi_warping_param {{ {fields} }}'


def regions(rng, shape):
    first = rng.uniform(0, 5, (shape[0], 2))
    rows = np.concatenate([rng.integers(0, 2, (shape[0], 1)), first, first + rng.uniform(1, 7, (shape[0], 2))], 1)
    rows[0, 3] = rows[0, 1]  # without width
    return rows


IMAGE = (2, 3, 9, 8)
ROWS = [
    Row(
        "3x2",
        roi("pooled_h: 3 pooled_w: 2"),
        [IMAGE, (6, 5)],
        [(6, 3, 3, 2)],
        naive(3, 2),
        feed={1: regions},
        gradient=False,
    ),
    Row(
        "1x4, scaled",
        roi("pooled_h: 1 pooled_w: 4 spatial_scale: 0.5"),
        [IMAGE, (6, 5)],
        [(6, 3, 1, 4)],
        naive(1, 4, 0.5),
        feed={1: regions},
        gradient=False,
    ),
]
BAD = [
    Bad("no size", roi("pooled_w: 2"), [IMAGE, (1, 5)], "pooled_h is missing"),
    Bad("rows", roi("pooled_h: 2 pooled_w: 2"), [IMAGE, (3, 6)], "no rows of 5"),
]
test_row, _, test_bad = suite(ROWS, BAD)


def compiled(shape, count):
    text = prototxt(roi("pooled_h: 3 pooled_w: 2"), [shape, (count, 5)], 1)
    return netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")


def test_gradient_of_the_image():
    rows = torch.from_numpy(regions(np.random.default_rng(1), (5, 5)))
    x = torch.rand(2, 2, 9, 8, dtype=torch.float64, requires_grad=True)
    net = compiled((2, 2, 9, 8), 5)
    assert torch.autograd.gradcheck(lambda x: net(x, rows)["t0"], (x,))


def test_gradient_of_a_region_on_a_slope():
    """On the plane 2 x + 5 y each bin's largest value is at its last corner; slopes are 2 and 5 everywhere."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    rows = torch.tensor([[0.0, 4, 3, 6, 6]], dtype=torch.float64, requires_grad=True)
    top = compiled((1, 1, 20, 30), 1)((2 * x + 5 * y)[None, None].double(), rows)["t0"]
    top.sum().backward()
    columns, lines = np.array([1.0, 2]) / 3, np.array([1.0, 2, 3]) / 4  # the places over n + 1 pixels
    want = [0, 2 * 6, 5 * 6, 3 * 2 * (columns - 0.5).sum(), 2 * 5 * (lines - 0.5).sum()]
    np.testing.assert_allclose(rows.grad[0], want, rtol=1e-9)
