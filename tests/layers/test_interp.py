import numpy as np

from .table import Bad, Row, suite


def interp(fields=""):
    return f'type: "Interp" interp_param {{ {fields} }}'


def resized(height, width, before=0, after=0):
    def want(x, *_):
        x = x[:, :, before : x.shape[2] - after, before : x.shape[3] - after]
        h, w = x.shape[2:]
        y = np.zeros((*x.shape[:2], height, width))
        for i in range(height):
            for j in range(width):
                r, c = i * (h - 1) / max(height - 1, 1), j * (w - 1) / max(width - 1, 1)
                a, b = min(int(r), h - 1), min(int(c), w - 1)
                a2, b2 = min(a + 1, h - 1), min(b + 1, w - 1)
                u, v = r - a, c - b
                y[:, :, i, j] = (1 - u) * ((1 - v) * x[:, :, a, b] + v * x[:, :, a, b2])
                y[:, :, i, j] += u * ((1 - v) * x[:, :, a2, b] + v * x[:, :, a2, b2])
        return y

    return want


def nearest(x):
    y = np.zeros((2, 3, 9, 12))
    for i in range(9):
        for j in range(12):
            y[0, 0, i, j] = x[0, 0, int(i * 4 / 8 + 0.5), int(j * 6 / 11 + 0.5)]
    return y


X = (2, 3, 5, 7)
ROWS = [
    Row("size", interp("height: 9 width: 4"), [X], [(2, 3, 9, 4)], resized(9, 4)),
    Row("same size", interp("height: 5 width: 7"), [X], [X], lambda x: x),
    Row("one pixel", interp("height: 1 width: 1"), [X], [(2, 3, 1, 1)], lambda x: x[:, :, :1, :1]),
    Row("of one pixel", interp("height: 3 width: 2"), [(1, 2, 1, 1)], [(1, 2, 3, 2)], resized(3, 2)),
    Row("zoom", interp("zoom_factor: 3 height: 50 width: 50"), [X], [(2, 3, 13, 19)], resized(13, 19)),
    Row("shrink", interp("shrink_factor: 2"), [X], [(2, 3, 3, 4)], resized(3, 4)),
    Row("shrunk, then zoomed", interp("shrink_factor: 2 zoom_factor: 3"), [X], [(2, 3, 7, 10)], resized(7, 10)),
    Row("all three", interp("shrink_factor: 2 zoom_factor: 3 height: 6 width: 5"), [X], [(2, 3, 6, 5)], resized(6, 5)),
    Row("crop", interp("height: 8 width: 9 pad_beg: -1 pad_end: -2"), [X], [(2, 3, 8, 9)], resized(8, 9, 1, 2)),
    Row("like a bottom", interp(), [X, (1, 1, 6, 3)], [(2, 3, 6, 3)], resized(6, 3)),
    Row("told once more", interp("use_blob_size: true"), [X, (1, 1, 6, 3)], [(2, 3, 6, 3)], resized(6, 3)),
    Row("nearest", interp("height: 9 width: 12 mode: NEAREST"), [X], [(2, 3, 9, 12)], nearest, gradient=False),
]
BAD = [
    Bad("padding", interp("height: 2 width: 2 pad_beg: 1"), [X], "pad_beg can only crop", at="pad_beg"),
    Bad("no size", interp(), [X], "the size is not told"),
    Bad("height alone", interp("height: 3"), [X], "the size is not told", at="height"),
    Bad("zero", interp("zoom_factor: 0"), [X], "zoom_factor must be positive", at="zoom_factor"),
    Bad("all cut off", interp("zoom_factor: 2 pad_end: -5"), [X], "the crop leaves nothing", at="pad_end"),
    Bad("no channels", interp("zoom_factor: 2"), [(2, 0, 4, 5)], "the bottom is empty"),
    Bad("one bottom", interp("use_blob_size: true"), [X], "does not fit the bottoms", at="use_blob_size"),
    Bad("two bottoms", interp("use_blob_size: false"), [X, X], "does not fit the bottoms", at="use_blob_size"),
    Bad("rank", interp("zoom_factor: 2"), [(2, 3, 4)], "the wrong number of axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
