import numpy as np

from .table import Bad, Row, suite


def depthwise(kind, fields):
    return f'type: "{kind}" convolution_param {{ {fields} }}'


def each_channel(stride=(1, 1), pad=(0, 0), dilation=1):
    def want(x, weight, bias=None):
        n, c, h, w = x.shape
        kh, kw = weight.shape[2:]
        x = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
        rows = (h + 2 * pad[0] - dilation * (kh - 1) - 1) // stride[0] + 1
        columns = (w + 2 * pad[1] - dilation * (kw - 1) - 1) // stride[1] + 1
        y = np.zeros((n, c, rows, columns))
        for i, j in np.ndindex(rows, columns):
            for r, s in np.ndindex(kh, kw):
                y[:, :, i, j] += (
                    x[:, :, i * stride[0] + r * dilation, j * stride[1] + s * dilation] * weight[:, 0, r, s]
                )
        return y if bias is None else y + bias[:, None, None]

    return want


ONE, OTHER = "ConvolutionDepthwise", "DepthwiseConvolution"
X = (2, 3, 7, 6)
ROWS = [
    Row(
        "plain",
        depthwise(ONE, "num_output: 3 kernel_size: 3"),
        [X],
        [(2, 3, 5, 4)],
        each_channel(),
        {"weight": (3, 1, 3, 3), "bias": (3,)},
        1080,
    ),
    Row(
        "num_output has no effect",
        depthwise(ONE, "num_output: 8 group: 2 kernel_h: 3 kernel_w: 2 stride: 2 pad_h: 1 pad_w: 0 bias_term: false"),
        [X],
        [(2, 3, 4, 3)],
        each_channel((2, 2), (1, 0)),
        {"weight": (3, 1, 3, 2)},
        432,
    ),
    Row(
        "dilation",
        depthwise(ONE, "kernel_size: 2 dilation: 3"),
        [X],
        [(2, 3, 4, 3)],
        each_channel(dilation=3),
        {"weight": (3, 1, 2, 2), "bias": (3,)},
        288,
    ),
    Row(
        "the other",
        depthwise(OTHER, "num_output: 3 group: 3 kernel_size: 3 pad: 1"),
        [X],
        [X],
        each_channel(pad=(1, 1)),
        {"weight": (3, 1, 3, 3), "bias": (3,)},
        2268,
    ),
    Row(
        "without group dense",
        depthwise(OTHER, "num_output: 2 kernel_size: 1 bias_term: false"),
        [X],
        [(2, 2, 7, 6)],
        lambda x, weight: np.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0]),
        {"weight": (2, 3, 1, 1)},
        504,
    ),
]
BAD = [
    Bad("two bottoms", depthwise(ONE, "kernel_size: 3"), [X, X], "the wrong number of bottoms", tops=2),
    Bad("rank", depthwise(ONE, "kernel_size: 3"), [(2, 3, 7)], "the wrong number of axes"),
    Bad("no kernel", depthwise(ONE, "num_output: 3"), [X], "kernel_size is missing"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
