import numpy as np

import netcompiler

from .table import Bad, Row, prototxt, suite


def crop(h, w):
    return f'type: "RandomCrop" random_crop_param {{ target_height: {h} target_width: {w} }}'


def cut(h, w):
    def want(x):
        n, c, rows, columns = x.shape
        top = np.full((n, c, h, w), 128.0)
        top[:, -1] = np.nan
        for i in range(h):
            for j in range(w):
                a, b = i + int((rows - h) / 2), j + int((columns - w) / 2)
                if 0 <= a < rows and 0 <= b < columns:
                    top[:, :, i, j] = x[:, :, a, b]
        return top

    return want


X = (2, 7, 5, 6)
ROWS = [
    Row("middle", crop(2, 3), [X], [(2, 7, 2, 3)], cut(2, 3), gradient=False),
    Row("border", crop(8, 3), [X], [(2, 7, 8, 3)], cut(8, 3), gradient=False),
    Row("same", crop(5, 6), [X], [X], lambda x: x, gradient=False),
]
BAD = [
    Bad("channels", crop(2, 3), [(2, 3, 5, 6)], "two pictures and a disparity are wanted"),
    Bad("size", crop(0, 3), [X], "target_height must be positive", at="target_height"),
    Bad("shapes", 'type: "DataSwitch"', [X, (2, 7, 5, 5)], "the bottoms must have the same shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_places_are_drawn_in_training():
    net = netcompiler.compile(
        netcompiler.parse(prototxt(crop(2, 9), [X], 1)), phase="TRAIN", optimize=False, device="cpu"
    )
    x = np.random.default_rng(0).random(X).astype(np.float32)
    seen = set()
    for _ in range(40):
        top = net(x)["t0"].numpy()[:, :-1, :, 1:7]
        seen |= {a for a in range(4) if (x[:, :-1, a : a + 2] == top).all()}
    assert seen == {0, 1, 2}


def test_bottoms_are_drawn():
    net = netcompiler.compile(
        netcompiler.parse(prototxt('type: "DataSwitch"', [(2, 3)] * 3, 1)), optimize=False, device="cpu"
    )
    tops = [net(*(np.full((2, 3), i, np.float32) for i in range(3)))["t0"].unique().tolist() for _ in range(40)]
    assert sorted(map(tuple, {tuple(t) for t in tops})) == [(0,), (1,), (2,)]
