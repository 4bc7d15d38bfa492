import numpy as np

from .table import Bad, Row, suite


def local(fields, kind="Local"):
    return f'type: "{kind}" local_param {{ {fields} }}'


def naive(kernel, stride=1, pad=0):
    def want(x, weight, bias=None):
        n, c, h, w = x.shape
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        rows, columns = ((size + 2 * pad - kernel) // stride + 1 for size in (h, w))
        y = np.zeros((n, len(weight), rows, columns))
        for i, j in np.ndindex(rows, columns):
            patch = x[:, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel].reshape(n, -1)
            y[:, :, i, j] = patch @ weight[:, 0, :, i * columns + j].T
            if bias is not None:
                y[:, :, i, j] += bias[0, 0, :, i * columns + j]
        return y

    return want


X = (2, 3, 5, 4)
ROWS = [
    Row(
        "plain",
        local("num_output: 2 kernel_size: 3"),
        [X],
        [(2, 2, 3, 2)],
        naive(3),
        {"weight": (2, 1, 27, 6), "bias": (1, 1, 2, 6)},
        648,
    ),
    Row(
        "v1's name",
        local("num_output: 2 kernel_size: 2 bias_term: false", "LOCAL"),
        [X],
        [(2, 2, 4, 3)],
        naive(2),
        {"weight": (2, 1, 12, 12)},
        576,
    ),
    Row(
        "stride and pad",
        local("num_output: 2 kernel_size: 3 stride: 2 pad: 1"),
        [X],
        [(2, 2, 3, 2)],
        naive(3, 2, 1),
        {"weight": (2, 1, 27, 6), "bias": (1, 1, 2, 6)},
        648,
    ),
]
BAD = [
    Bad("kernel", local("num_output: 2 kernel_size: 5"), [X], "the kernel is larger", at="kernel_size"),
    Bad("no kernel", local("num_output: 2"), [X], "kernel_size must be positive"),
    Bad("no output", local("kernel_size: 2"), [X], "num_output must be positive"),
    Bad("rank", local("num_output: 2 kernel_size: 2"), [(2, 3, 4)], "the wrong number of axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
