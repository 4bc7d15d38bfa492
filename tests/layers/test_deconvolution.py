from itertools import product

import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def naive(stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1):
    """2-D: every input value adds its multiple of a filter, then the padding is cut off."""

    def deconv(x, weight, bias=None):
        n, c, h, w = x.shape
        per_group, kh, kw = weight.shape[1:]
        whole = [
            s * (size - 1) + d * (k - 1) + 1 for s, size, d, k in zip(stride, (h, w), dilation, (kh, kw), strict=True)
        ]
        y = np.zeros((n, per_group * group, *whole))
        for k, i, j, o, p, q in product(*map(range, (c, h, w, per_group, kh, kw))):
            top = k // (c // group) * per_group + o
            y[:, top, i * stride[0] + p * dilation[0], j * stride[1] + q * dilation[1]] += (
                x[:, k, i, j] * weight[k, o, p, q]
            )
        y = y[:, :, pad[0] : whole[0] - pad[0], pad[1] : whole[1] - pad[1]]
        return y if bias is None else y + bias[:, None, None]

    return deconv


def deconv(fields):
    return f'type: "Deconvolution" convolution_param {{ {fields} }}'


IMAGE = [(2, 3, 5, 7)]
ROWS = [
    Row(
        "3x3",
        deconv("num_output: 5 kernel_size: 3"),
        IMAGE,
        [(2, 5, 7, 9)],
        naive(),
        {"weight": (3, 5, 3, 3), "bias": (5,)},
        2 * 3 * 5 * 7 * 5 * 9,
    ),
    Row(
        "sides, no bias",
        deconv("num_output: 5 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 2 bias_term: false"),
        IMAGE,
        [(2, 5, 9, 16)],
        naive((2, 3), (1, 2)),
        {"weight": (3, 5, 3, 2)},
        2 * 3 * 5 * 7 * 5 * 6,
    ),
    Row(
        "group and dilation",
        deconv("num_output: 6 kernel_size: 2 group: 2 dilation: 3 stride: 2"),
        [(3, 4, 3, 5)],
        [(3, 6, 8, 12)],
        naive((2, 2), dilation=(3, 3), group=2),
        {"weight": (4, 3, 2, 2), "bias": (6,)},
        3 * 4 * 3 * 5 * 3 * 4,
    ),
    Row(
        "padded by more than the kernel",
        deconv("num_output: 2 kernel_size: 2 pad: 3 stride: 3"),
        IMAGE,
        [(2, 2, 8, 14)],
        naive((3, 3), (3, 3)),
        {"weight": (3, 2, 2, 2), "bias": (2,)},
        2 * 3 * 5 * 7 * 2 * 4,
    ),
    Row(
        "one spatial axis, behind two batch axes",
        deconv("num_output: 5 kernel_size: 3 stride: 2 axis: 2"),
        [(2, 3, 2, 5)],
        [(2, 3, 5, 11)],
        lambda x, weight, bias: naive((1, 2))(x.reshape(6, 2, 1, 5), weight[:, :, None], bias).reshape(2, 3, 5, 11),
        {"weight": (2, 5, 3), "bias": (5,)},
        6 * 2 * 5 * 5 * 3,
    ),
    Row(
        "no spatial axis",
        deconv("num_output: 4 group: 2"),
        [(5, 6)],
        [(5, 4)],
        lambda x, weight, bias: (x.reshape(5, 2, 3, 1) * weight.reshape(2, 3, 2)).sum(2).reshape(5, 4) + bias,
        {"weight": (6, 2), "bias": (4,)},
        5 * 6 * 2,
    ),
    Row(
        "four spatial axes, of which two are of 1",
        deconv("num_output: 6 group: 3 kernel_size: [3, 1, 1, 2] stride: 2 pad: [2, 0, 0, 1] dilation: 2"),
        [(2, 3, 3, 1, 1, 2)],
        [(2, 6, 5, 1, 1, 3)],
        lambda x, weight, bias: naive((2, 2), (2, 1), (2, 2), 3)(
            x.reshape(2, 3, 3, 2), weight.reshape(3, 2, 3, 2), bias
        ).reshape(2, 6, 5, 1, 1, 3),
        {"weight": (3, 2, 3, 1, 1, 2), "bias": (6,)},
        2 * 3 * 6 * 2 * 6,
    ),
    Row(
        "two images share the filters",
        deconv("num_output: 1 kernel_size: 2 bias_term: false"),
        [(2, 3, 2, 3), (2, 3, 2, 3)],
        [(2, 1, 3, 4)] * 2,
        lambda x, y, weight: [naive()(x, weight), naive()(y, weight)],
        {"weight": (3, 1, 2, 2)},
        2 * 2 * 3 * 2 * 3 * 4,
    ),
]
BAD = [
    Bad("no num_output", deconv("kernel_size: 3"), IMAGE, "num_output must be positive"),
    Bad("group", deconv("num_output: 4 kernel_size: 3 group: 2"), IMAGE, "divide the input channels", at="group"),
    Bad("group of outputs", deconv("num_output: 4 kernel_size: 3 group: 3"), IMAGE, "divide num_output", at="group"),
    Bad("padding", deconv("num_output: 4 kernel_size: 1 pad_h: 3 pad_w: 2"), IMAGE, "cuts everything off", at="pad_h"),
    Bad("no rows", deconv("num_output: 4 kernel_size: 3"), [(2, 3, 0, 7)], "the bottom is empty"),
    Bad("no kernel", deconv("num_output: 4"), IMAGE, "kernel_size is missing"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_bilinear_filler_upsamples_linearly():
    """The usual upsampling by 2: one filter for each channel; inside, a straight line stays straight."""
    fields = (
        'num_output: 3 group: 3 kernel_size: 4 stride: 2 pad: 1 bias_term: false weight_filler { type: "bilinear" }'
    )
    net = netcompiler.compile(netcompiler.parse(prototxt(deconv(fields), [(1, 3, 5, 6)], 1)), device="cpu")
    line = torch.arange(6.0).expand(1, 3, 5, 6)
    top = net(line)["t0"]
    assert top.shape == (1, 3, 10, 12)
    want = (torch.arange(12.0) / 2 - 0.25).expand(1, 3, 10, 12)
    torch.testing.assert_close(top[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1])
