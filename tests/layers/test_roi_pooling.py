import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite


def away(x):
    return int(np.floor(abs(x) + 0.5) * np.sign(x))


def naive(ph, pw, scale=1.0, pad=0.0, ring=False, whole=False):
    """Loops over regions, channels, bins and pixels."""

    def pool(x, rois):
        rois = rois.reshape(len(rois), 5)
        top = np.zeros((len(rois), x.shape[1], ph, pw))
        h, w = x.shape[2:]
        for r, (image, x1, y1, x2, y2) in enumerate(rois):
            across, down = (scale, scale) if scale > 0 else (w, h)
            wide, high = (x2 - x1 + 1) * pad, (y2 - y1 + 1) * pad
            left, right = away((x1 - wide) * across), away((x2 + wide) * across)
            first, last = away((y1 - high) * down), away((y2 + high) * down)
            columns, rows = max(right - left + 1, 1), max(last - first + 1, 1)
            for i, j in np.ndindex(ph, pw):
                a, b = int(np.floor(i * (rows / ph))) + first, int(np.ceil((i + 1) * (rows / ph))) + first
                c, d = int(np.floor(j * (columns / pw))) + left, int(np.ceil((j + 1) * (columns / pw))) + left
                if whole:
                    a, b = i * rows // ph + first, -(-(i + 1) * rows // ph) + first
                    c, d = j * columns // pw + left, -(-(j + 1) * columns // pw) + left
                inside = [(y, z % w) for y in range(a, b) for z in range(c, d) if 0 <= y < h and (ring or 0 <= z < w)]
                for channel in range(x.shape[1]):
                    top[r, channel, i, j] = max((x[int(image), channel, y, z] for y, z in inside), default=0)
        return top

    return pool


def roi(fields):
    return f'type: "ROIPooling" roi_pooling_param {{ {fields} }}'


def rois(images, side, scale=1.0, turned=False):
    """Regions all over an image, some beyond its edge, and if `turned` some whose end comes first."""

    def feed(rng, shape):
        found = rng.uniform(-0.3 * side, 1.3 * side, (shape[0], 2, 2)) / scale
        found = (found if turned else np.sort(found, 1)).reshape(-1, 4)
        rows = np.concatenate([rng.integers(0, images, (shape[0], 1)), found], 1)
        rows[1, 1:] = np.array([0, 0, side - 1, side - 1]) / scale
        return rows.reshape(shape)

    return {1: feed}


IMAGE = (2, 3, 9, 11)
ROWS = [
    Row(
        "7x7",
        roi("pooled_h: 7 pooled_w: 7 spatial_scale: 0.0625"),
        [IMAGE, (6, 5)],
        [(6, 3, 7, 7)],
        naive(7, 7, 0.0625),
        feed=rois(2, 11, 0.0625),
    ),
    Row("scale 1", roi("pooled_h: 2 pooled_w: 3"), [IMAGE, (7, 5)], [(7, 3, 2, 3)], naive(2, 3), feed=rois(2, 11)),
    Row(
        "turned",
        roi("pooled_h: 2 pooled_w: 3"),
        [IMAGE, (19, 5)],
        [(19, 3, 2, 3)],
        naive(2, 3),
        feed=rois(2, 11, turned=True),
        gradient=False,
    ),
    Row(
        "four axes",
        roi("pooled_h: 3 pooled_w: 1"),
        [IMAGE, (7, 5, 1, 1)],
        [(7, 3, 3, 1)],
        naive(3, 1),
        feed=rois(2, 11),
    ),
    Row(
        "one bin",
        roi("pooled_h: 1 pooled_w: 1"),
        [(1, 2, 17, 33), (9, 5)],
        [(9, 2, 1, 1)],
        naive(1, 1),
        feed=rois(1, 33),
    ),
    Row(
        "padded",
        roi("pooled_h: 3 pooled_w: 2 spatial_scale: 0.25 pad_ratio: 0.25"),
        [IMAGE, (6, 5)],
        [(6, 3, 3, 2)],
        naive(3, 2, 0.25, 0.25),
        feed=rois(2, 9, 0.25),
    ),
    Row(
        "round the image",
        roi("pooled_h: 2 pooled_w: 3 ringpad: true"),
        [IMAGE, (9, 5)],
        [(9, 3, 2, 3)],
        naive(2, 3, ring=True),
        feed=rois(2, 11),
    ),
    Row(
        "relative",
        roi("pooled_h: 2 pooled_w: 2 spatial_scale: -1"),
        [IMAGE, (6, 5)],
        [(6, 3, 2, 2)],
        naive(2, 2, -1),
        feed=rois(2, 1),
    ),
    Row(
        "one pixel",
        roi("pooled_h: 2 pooled_w: 2"),
        [(2, 3, 1, 1), (6, 5)],
        [(6, 3, 2, 2)],
        naive(2, 2),
        feed=rois(2, 1),
    ),
]
BAD = [
    Bad("no size", roi("pooled_h: 2"), [IMAGE, (1, 5)], "pooled_w is missing"),
    Bad("size 0", roi("pooled_h: 0 pooled_w: 2"), [IMAGE, (1, 5)], "pooled_h must be positive", at="pooled_h"),
    Bad("rows of 4", roi("pooled_h: 2 pooled_w: 2"), [IMAGE, (3, 4)], "no rows of 5"),
    Bad("no image", roi("pooled_h: 2 pooled_w: 2"), [(2, 3), (3, 5)], "wrong number of axes"),
    Bad("one bottom", roi("pooled_h: 2 pooled_w: 2"), [IMAGE], "the wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def compiled(fields, *shapes, **options):
    options = {"optimize": False, "device": "cpu", **options}
    return netcompiler.compile(netcompiler.parse(prototxt(roi(fields), shapes, 1)), **options)


def test_jolibrain_takes_relative_regions():
    x, rows = np.random.default_rng(0).standard_normal((1, 2, 6, 8)), np.array([[0, 0.1, 0.3, 0.7, 0.9]])
    net = compiled("pooled_h: 2 pooled_w: 3", (1, 2, 6, 8), (1, 5), dialect="jolibrain", dtype="float64")
    np.testing.assert_allclose(net(x, rows)["t0"], naive(2, 3, -1)(x, rows))


@pytest.mark.parametrize("dialect", ["intel", "fast-rcnn"])
def test_bins_of_whole_numbers(dialect):
    """29 / 11 is a little more than it should be in float32: the last of 11 bins over 29 pixels ends a pixel late."""
    x = torch.arange(40.0).reshape(1, 1, 1, 40)
    found = []
    for length in range(1, 40):
        rows = torch.tensor([[0.0, 0, 0, length - 1, 0]])
        top = compiled("pooled_h: 1 pooled_w: 11", x.shape, (1, 5), dialect=dialect)(x, rows)["t0"]
        exact = naive(1, 11, whole=True)(x.numpy(), rows.numpy())
        found.append(bool((top.numpy() == exact).all()))
    assert all(found) == (dialect == "intel")


def test_the_first_of_equals_takes_the_gradient():
    x = torch.zeros(1, 1, 3, 4, requires_grad=True)
    compiled("pooled_h: 1 pooled_w: 1", x.shape, (1, 5))(x, torch.tensor([[0.0, 1, 1, 3, 2]]))["t0"].sum().backward()
    want = torch.zeros(1, 1, 3, 4)
    want[0, 0, 1, 1] = 1
    assert torch.equal(x.grad, want)


def test_pixels_beyond_a_region_take_no_gradient():
    """The first region ends before it begins; the second has 29 pixels, of which rounding makes 30 (see above)."""
    x = torch.arange(40.0).reshape(1, 1, 1, 40).requires_grad_()
    rows = torch.tensor([[0.0, 9, 0, 3, 0], [0, 0, 0, 28, 0]])
    top = compiled("pooled_h: 1 pooled_w: 11", x.shape, (2, 5))(x, rows)["t0"]
    assert top[0, 0, 0].tolist() == [9.0] * 11 and top[1, 0, 0, -1] == 29
    top.sum().backward()
    assert x.grad[0, 0, 0, 29:].tolist() == [0.0] * 11 and x.grad[0, 0, 0, 9] == 0 and x.grad.sum() == 10


def test_regions_take_no_gradient():
    rows = torch.tensor([[0.0, 1, 1, 3, 2]], requires_grad=True)
    with pytest.raises(NetError, match="no gradient for its regions"):
        compiled("pooled_h: 1 pooled_w: 1", (1, 1, 3, 4), (1, 5))(torch.rand(1, 1, 3, 4), rows)["t0"].sum().backward()


@pytest.mark.parametrize("image", [-1, 2])
def test_region_of_no_image(image):
    with pytest.raises(NetError, match="of an image that there is not"):
        compiled("pooled_h: 1 pooled_w: 1", (2, 1, 3, 4), (1, 5))(
            torch.rand(2, 1, 3, 4), torch.tensor([[image, 1, 1, 3, 2]])
        )


def test_no_region():
    net = compiled("pooled_h: 2 pooled_w: 3", (2, 4, 3, 4), (5, 5))
    assert net(torch.rand(2, 4, 3, 4), torch.zeros(0, 5))["t0"].shape == (0, 4, 2, 3)


def test_exported_is_alike():
    net = compiled("pooled_h: 2 pooled_w: 3 spatial_scale: 0.5", IMAGE, (6, 5))
    rng = np.random.default_rng(3)
    feeds = (torch.rand(IMAGE), torch.from_numpy(rois(2, 11, 0.5)[1](rng, (6, 5))).float())
    with torch.no_grad():
        program = torch.export.export(net, feeds)
        torch.testing.assert_close(program.module()(*feeds)["t0"], net(*feeds)["t0"])


def test_a_map_in_bfloat16():
    net = compiled("pooled_h: 2 pooled_w: 3", IMAGE, (6, 5), dtype="bfloat16")
    x, rows = torch.rand(IMAGE).bfloat16(), torch.from_numpy(rois(2, 11)[1](np.random.default_rng(3), (6, 5)))
    top = net(x, rows.round())["t0"]
    assert top.dtype == torch.bfloat16
    np.testing.assert_array_equal(top.float(), naive(2, 3)(x.float().numpy(), rows.round().numpy()))
