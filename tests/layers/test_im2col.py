from itertools import product

import numpy as np

from .table import Bad, Row, suite


def naive(kernel, stride, pad, dilation):
    """Each value by its place in the window and the window's place; any number of spatial axes."""

    def im2col(x):
        spatial = x.shape[2:]
        sides = zip(spatial, kernel, stride, pad, dilation, strict=True)
        counts = [int((size + 2 * p - d * (k - 1) - 1) / s) + 1 for size, k, s, p, d in sides]
        y = np.zeros((x.shape[0], x.shape[1], *kernel, *counts))
        for place in product(*map(range, kernel)):
            for window in product(*map(range, counts)):
                at = [w * s + q * d - p for w, s, q, d, p in zip(window, stride, place, dilation, pad, strict=True)]
                if all(0 <= a < size for a, size in zip(at, spatial, strict=True)):
                    y[(slice(None), slice(None), *place, *window)] = x[(slice(None), slice(None), *at)]
        return y.reshape(x.shape[0], -1, *counts)

    return im2col


def im2col(fields):
    return f'type: "Im2col" convolution_param {{ {fields} }}'


ROWS = [
    Row(
        "3x3",
        im2col("kernel_size: 3 pad: 1 stride: 2"),
        [(2, 3, 7, 5)],
        [(2, 27, 4, 3)],
        naive((3, 3), (2, 2), (1, 1), (1, 1)),
    ),
    Row(
        "sides and dilation; the filters have no effect",
        im2col("kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 3 dilation: 2 dilation: 1 num_output: 7 group: 2"),
        [(2, 3, 7, 5)],
        [(2, 18, 3, 2)],
        naive((3, 2), (1, 3), (0, 0), (2, 1)),
    ),
    Row(
        "a kernel larger than the image by less than a stride",
        im2col("kernel_size: [3, 2] stride: [2, 3] pad: [0, 1]"),
        [(2, 3, 2, 5)],
        [(2, 18, 1, 2)],
        naive((3, 2), (2, 3), (0, 1), (1, 1)),
    ),
    Row("one spatial axis", im2col("kernel_size: 2"), [(2, 3, 5)], [(2, 6, 4)], naive((2,), (1,), (0,), (1,))),
    Row(
        "three spatial axes",
        im2col("kernel_size: [2, 1, 3] stride: 2 pad: 1"),
        [(2, 3, 3, 2, 5)],
        [(2, 18, 2, 2, 3)],
        naive((2, 1, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
    ),
    Row(
        "two batch axes",
        im2col("kernel_size: 2 axis: 2"),
        [(2, 3, 5, 3, 2)],
        [(2, 3, 20, 2, 1)],
        lambda x: naive((2, 2), (1, 1), (0, 0), (1, 1))(x.reshape(6, 5, 3, 2)).reshape(2, 3, 20, 2, 1),
    ),
]
BAD = [
    Bad("no kernel", im2col("stride: 2"), [(2, 3, 7, 5)], "kernel_size is missing"),
    Bad("kernel too large", im2col("kernel_size: 6"), [(2, 3, 7, 5)], "larger than the padded image", at="kernel_size"),
    Bad("no image", im2col("kernel_size: 1"), [(2, 3)], "no spatial axis"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
