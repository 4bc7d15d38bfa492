import numpy as np

from .table import Bad, Row, suite


def correlation(fields):
    return f'type: "Correlation1D" correlation_param {{ {fields} }}'


def naive(kernel, most, pad=0, s1=1, s2=1, direction=0, subtract=False):
    def want(a, b):
        n, c, h, w = a.shape
        a, b = (np.pad(x, ((0, 0), (0, 0), (0, 0), (pad, pad))) for x in (a, b))
        wide = w + 2 * pad
        r = most // s2
        steps = {0: range(-r, r + 1), 1: range(r + 1), -1: range(-r - 1, 0)}[direction]
        rows, columns = -(-(h - kernel + 1) // s1), -(-(wide - 2 * most - kernel + 1) // s1)
        y = np.zeros((n, len(steps), rows, columns))
        for d, o in enumerate(steps):
            for i, j in np.ndindex(rows, columns):
                for p, q in np.ndindex(kernel, kernel):
                    row, column = i * s1 + p, most + j * s1 + q
                    at = column + o * s2
                    other = b[:, :, row, at] if 0 <= at < wide else np.zeros((n, c))
                    one = a[:, :, row, column]
                    y[:, d, i, j] += (np.abs(one - other) if subtract else one * other).sum(1)
        return y / (kernel * kernel * c)

    return want


X = [(2, 3, 4, 7)] * 2
ROWS = [
    Row(
        "both ways",
        correlation("kernel_size: 1 max_displacement: 2 pad: 2"),
        X,
        [(2, 5, 4, 7)],
        naive(1, 2, 2),
        macs=840,
    ),
    Row(
        "patches",
        correlation("kernel_size: 3 max_displacement: 1 pad: 1"),
        X,
        [(2, 3, 2, 5)],
        naive(3, 1, 1),
        macs=1620,
    ),
    Row(
        "strides",
        correlation("kernel_size: 1 max_displacement: 3 pad: 4 stride_1: 2 stride_2: 2"),
        X,
        [(2, 3, 2, 5)],
        naive(1, 3, 4, 2, 2),
        macs=180,
    ),
    Row(
        "right",
        correlation("kernel_size: 1 max_displacement: 2 pad: 2 single_direction: 1"),
        X,
        [(2, 3, 4, 7)],
        naive(1, 2, 2, direction=1),
        macs=504,
    ),
    Row(
        "left",
        correlation("kernel_size: 1 max_displacement: 2 pad: 2 single_direction: -1"),
        X,
        [(2, 3, 4, 7)],
        naive(1, 2, 2, direction=-1),
        macs=504,
    ),
    Row(
        "subtract",
        correlation("kernel_size: 1 max_displacement: 1 correlation_type: SUBTRACT do_abs: true"),
        X,
        [(2, 3, 4, 5)],
        naive(1, 1, subtract=True),
        macs=360,
    ),
]
BAD = [
    Bad("even", correlation("kernel_size: 2 max_displacement: 1"), X, "kernel_size must be odd", at="kernel_size"),
    Bad("missing", correlation("kernel_size: 3"), X, "max_displacement is missing"),
    Bad("direction", correlation("kernel_size: 1 max_displacement: 1 single_direction: 2"), X, "out of range"),
    Bad(
        "stride",
        correlation("kernel_size: 1 max_displacement: 1 stride_1: 4294967295"),
        X,
        "stride_1 is out of range",
        at="stride_1",
    ),
    Bad("too far", correlation("kernel_size: 1 max_displacement: 4"), X, "do not fit the image"),
    Bad("shapes", correlation("kernel_size: 1 max_displacement: 1"), [(2, 3, 4, 7), (2, 3, 4, 6)], "the same shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
