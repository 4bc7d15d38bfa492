import colorsys

import numpy as np
import torch

import netcompiler
from netcompiler.layers import detect_net_transformation as made

from .table import Bad, Row, prototxt, suite

GRID = "image_size_x: 24 image_size_y: 16 stride: 4"


def transformation(grid=GRID, augmentation="", transform=""):
    return (
        f'type: "DetectNetTransformation" detectnet_groundtruth_param {{ {grid} }} '
        f"detectnet_augmentation_param {{ {augmentation} }} transform_param {{ {transform} }}"
    )


def boxes(*rows):
    """bottom 1: items of rows x, y, width, height, class."""

    def feed(rng, shape):
        found = np.zeros(shape)
        for i, item in enumerate(rows):
            found[i, 0, 0, :2] = len(item), 16
            for j, (x, y, w, h, kind) in enumerate(item):
                found[i, 0, 1 + j, :6] = x, y, w, h, 0.3, kind
        return found

    return feed


def labels(item, covered, named, norm=1.0, scale=(1, 1), size=(16, 24), stride=4):
    """One item's, cell by cell; the picture was scaled by this, (y, x)."""
    top = np.zeros((9 + max(named.values()), size[0] // stride, size[1] // stride))
    for x, y, w, h, kind in item:
        if kind not in named:
            continue
        x1, x2 = np.clip([x * scale[1], (x + w) * scale[1]], 0, size[1])
        y1, y2 = np.clip([y * scale[0], (y + h) * scale[0]], 0, size[0])
        if x2 <= x1 or y2 <= y1:
            continue
        half_w, half_h = covered(x2 - x1) / 2, covered(y2 - y1) / 2
        for row in range(top.shape[1]):
            for column in range(top.shape[2]):
                at_x, at_y = column * stride, row * stride
                over_x = min((x1 + x2) / 2 + half_w, at_x + stride) - max((x1 + x2) / 2 - half_w, at_x)
                over_y = min((y1 + y2) / 2 + half_h, at_y + stride) - max((y1 + y2) / 2 - half_h, at_y)
                if over_x <= 0 or over_y <= 0 or over_x * over_y / stride**2 <= 1.2e-7:
                    continue
                value = max(norm, stride**2 / (4 * half_w * half_h))
                top[:, row, column] = 0
                corners = x1 - at_x, y1 - at_y, x2 - at_x, y2 - at_y
                top[:8, row, column] = 1, *corners, 1 / (x2 - x1), 1 / (y2 - y1), value
                top[8 + named[kind], row, column] = 1
    return top


def cubic(x, size):
    """Resized as OpenCV does: a = -0.75, edges repeated."""

    def along(x, count):
        found = np.zeros((*x.shape[:-1], count))
        for i in range(count):
            at = (i + 0.5) * x.shape[-1] / count - 0.5
            first, part = int(np.floor(at)), at - np.floor(at)
            for k in range(-1, 3):
                d, a = abs(k - part), -0.75
                w = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
                found[..., i] += w * x[..., min(max(first + k, 0), x.shape[-1] - 1)]
        return found

    return along(along(x, size[1]).swapaxes(2, 3), size[0]).swapaxes(2, 3)


ITEMS = [[(2, 3, 9, 8, 1), (20, 10, 30, 30, 1)], [(-4, 1, 12, 6, 2), (1, 1, 5, 5, 1), (40, 40, 3, 3, 1)]]
FED = {1: boxes(*ITEMS)}
X = [(2, 3, 16, 24), (2, 1, 5, 16)]


def plain(x, y):
    return x, np.stack([labels(i, lambda s: min(50, s / 2), {1: 0}) for i in ITEMS])


def resized(x, y):
    truth = np.stack([labels(i, lambda s: min(s, max(6, s * 0.3)), {1: 2, 2: 0}, 0, (16 / 12, 1.5)) for i in ITEMS])
    return cubic(x - np.array([3, 4, 5])[:, None, None], (16, 24)), truth


NOTHING = " ".join(f"{name}_prob: -1" for name in ("crop", "scale", "flip", "rotation", "hue_rotation", "desaturation"))


def middle(x, y):
    truth = [[(a - 3, b - 2, w, h, k) for a, b, w, h, k in item] for item in ITEMS]
    return x[:, :, 2:-2, 3:-3] - 1, np.stack([labels(i, lambda s: min(4, s / 2), {1: 0}) for i in truth])


def flipped(x, y):
    truth = [[(24 - a - w - 1, b, w, h, k) for a, b, w, h, k in item] for item in ITEMS]
    return x[:, :, :, ::-1], np.stack([labels(i, lambda s: min(50, s / 2), {1: 0}) for i in truth])


ROWS = [
    Row("as it is", transformation(), X, [(2, 3, 16, 24), (2, 9, 4, 6)], plain, feed=FED, gradient=False),
    Row(
        "resized",
        transformation(
            GRID + " scale_cvg: 0.3 gridbox_type: GRIDBOX_MIN min_cvg_len: 6 obj_norm: true"
            " object_class { src: 1 dst: 2 } object_class { src: 2 dst: 0 }",
            "",
            "mean_value: 3 mean_value: 4 mean_value: 5",
        ),
        [(2, 3, 12, 16), (2, 1, 5, 16)],
        [(2, 3, 16, 24), (2, 11, 4, 6)],
        resized,
        feed=FED,
        gradient=False,
    ),
    Row(
        "the middle",
        transformation(GRID + " max_cvg_len: 4", NOTHING, "mean_value: 1"),
        [(2, 3, 20, 30), (2, 1, 5, 16)],
        [(2, 3, 16, 24), (2, 9, 4, 6)],
        middle,
        feed=FED,
        phase="TRAIN",
        gradient=False,
    ),
    Row(
        "flipped",
        transformation(GRID, NOTHING.replace("flip_prob: -1", "flip_prob: 1")),
        X,
        [(2, 3, 16, 24), (2, 9, 4, 6)],
        flipped,
        feed=FED,
        phase="TRAIN",
        gradient=False,
    ),
]
BAD = [
    Bad("grey", transformation(), [(2, 1, 16, 24), (2, 1, 5, 16)], "wrong number of channels", 2),
    Bad("labels", transformation(), [(2, 3, 16, 24), (2, 1, 5, 8)], "bottom 1 has the wrong shape", 2),
    Bad("stride", transformation("stride: 0"), X, "stride must be positive", 2, at="stride"),
    Bad("mean", transformation(GRID, "", "mean_file: 'm'"), X, "mean_file is not supported", 2, at="mean_file"),
    Bad("means", transformation(GRID, "", "mean_value: [1, 2]"), X, "wrong number of mean_value", 2),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_colours_turn_as_hue_does():
    x = torch.rand((3, 4, 5), dtype=torch.float64)
    got = made.recoloured(x, 40.0, 0.6).flatten(1).T.tolist()
    for (b, g, r), found in zip(x.flatten(1).T.tolist(), got, strict=True):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        np.testing.assert_allclose(found, colorsys.hsv_to_rgb((h + 40 / 360) % 1, s * 0.6, v)[::-1], atol=1e-5)


def test_turned_by_a_right_angle():
    x = torch.arange(3 * 4 * 6, dtype=torch.float64).reshape(3, 4, 6)
    top = made.turned(x, 90.0)
    size, _ = made.bounds((4, 6), 90.0)
    assert tuple(top.shape[1:]) == size
    matrix, offset = made.turning((4, 6), 90.0)
    for place in ((1, 1), (2, 3)):  # row, column
        column, row = matrix @ np.array(place[::-1]) + offset
        assert abs(column - round(column)) < 1e-9
        np.testing.assert_allclose(top[:, round(row), round(column)], x[:, place[0], place[1]], atol=1e-6)
    box = np.zeros((1, 16))
    box[0, :4] = 1, 1, 2, 2  # its middle is at (2, 2)
    moved = made.moved(box, (4, 6), made.Change((4, 6), rotation=90.0))
    np.testing.assert_allclose(moved[0, :2] + 1, matrix @ [2, 2] + offset)


def test_all_at_random():
    text = prototxt(transformation(GRID, "shift_x: 3 shift_y: 2 rotation_prob: 1 scale_prob: 1"), X, 2)
    net = netcompiler.compile(netcompiler.parse(text), phase="TRAIN", device="cpu")
    rng = np.random.default_rng(0)
    for _ in range(8):
        tops = net(rng.random(X[0]) * 255, boxes(*ITEMS)(rng, X[1]))
        assert all(bool(torch.isfinite(t).all()) for t in tops.values())
