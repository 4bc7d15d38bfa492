import numpy as np

from .table import Bad, Row, suite


def layer(fields):
    return f'type: "ColinearConvolution" colinear_convolution_param {{ {fields} }}'


def naive(kernel=2, stride=1, pad=0, group=1, square=True, line=True, constant=True):
    def want(x, bias, weight, quadratic):
        n, c, h, w = x.shape
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        rows, columns = ((s + 2 * pad - kernel) // stride + 1 for s in (h, w))
        out = bias.size
        y = np.zeros((n, out, rows, columns))
        for b, o, i, j in np.ndindex(*y.shape):
            patch = x[b, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            if square:
                y[b, o, i, j] += patch.ravel() @ quadratic[0, o] @ patch.ravel()
            if line:
                first = o // (out // group) * (c // group)
                y[b, o, i, j] += (patch[first : first + c // group] * weight[o]).sum()
            if constant:
                y[b, o, i, j] += bias.ravel()[o]
        return y

    return want


X, NONE = (2, 2, 4, 3), (1, 1, 1, 4)
ALL = {"bias": NONE, "weight": (4, 2, 2, 2), "quadratic": (1, 4, 8, 8)}
ROWS = [
    Row("all terms", layer("num_output: 4 kernel_size: 2"), [X], [(2, 4, 3, 2)], naive(), ALL, 3456),
    Row(
        "stride, pad, groups",
        layer("num_output: 4 kernel_size: 2 stride: 2 pad: 1 group: 2"),
        [X],
        [(2, 4, 3, 2)],
        naive(2, 2, 1, 2),
        {**ALL, "weight": (4, 1, 2, 2)},
        3264,
    ),
    Row(
        "no square",
        layer("num_output: 4 kernel_size: 2 quadratic_term: false"),
        [X],
        [(2, 4, 3, 2)],
        naive(square=False),
        {**ALL, "quadratic": NONE},
        384,
        gradient=False,
    ),
    Row(
        "the square alone",
        layer("num_output: 4 kernel_size: 2 linear_term: false bias_term: false"),
        [X],
        [(2, 4, 3, 2)],
        naive(line=False, constant=False),
        {**ALL, "weight": NONE},
        3072,
        gradient=False,
    ),
    Row(
        "square and bias",
        layer("num_output: 4 kernel_size: 2 linear_term: false"),
        [X],
        [(2, 4, 3, 2)],
        naive(line=False),
        {**ALL, "weight": NONE},
        3072,
        gradient=False,
    ),
]
BAD = [
    Bad(
        "nothing",
        layer("num_output: 4 kernel_size: 2 quadratic_term: false linear_term: false"),
        [X],
        "no term is left",
    ),
    Bad("group", layer("num_output: 4 kernel_size: 2 group: 3"), [X], "group must divide", at="group"),
    Bad("kernel", layer("num_output: 4 kernel_size: 6"), [X], "the kernel is larger"),
    Bad("no kernel", layer("num_output: 4"), [X], "kernel_size must be positive"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
