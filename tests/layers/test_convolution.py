from itertools import product

import numpy as np

from .table import Bad, Row, suite


def naive(stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1):
    """2-D convolution by loops over every output and every weight."""

    def conv(x, weight, bias=None):
        n, c, h, w = x.shape
        outputs, per_group, kh, kw = weight.shape
        x = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
        oh = (x.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
        ow = (x.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
        y = np.zeros((n, outputs, oh, ow))
        for o, i, j, k, p, q in product(*map(range, (outputs, oh, ow, per_group, kh, kw))):
            channel = o // (outputs // group) * per_group + k
            y[:, o, i, j] += (
                weight[o, k, p, q] * x[:, channel, i * stride[0] + p * dilation[0], j * stride[1] + q * dilation[1]]
            )
        return y if bias is None else y + bias[:, None, None]

    return conv


def of_any_rank(stride, pad, dilation, counts):
    """One group over any number of spatial axes, each window read where it lies in the image."""

    def conv(x, weight, bias):
        y = np.zeros((len(x), len(weight), *counts))
        for window in product(*map(range, counts)):
            for place in product(*map(range, weight.shape[2:])):
                sides = zip(window, stride, place, dilation, pad, strict=True)
                at = tuple(w * s + q * d - p for w, s, q, d, p in sides)
                if all(0 <= a < size for a, size in zip(at, x.shape[2:], strict=True)):
                    y[(..., *window)] += x[(..., *at)] @ weight[(..., *place)].T
        return y + bias.reshape(-1, *(1,) * len(counts))

    return conv


def leaky(y):
    return np.where(y > 0, y, 0.25 * y)


def conv(fields: str) -> str:
    return f'type: "Convolution" convolution_param {{ {fields} }}'


ROWS = [
    Row(
        "3x3",
        conv("num_output: 5 kernel_size: 3"),
        [(2, 3, 7, 11)],
        [(2, 5, 5, 9)],
        naive(),
        {"weight": (5, 3, 3, 3), "bias": (5,)},
        2 * 5 * 5 * 9 * 3 * 9,
    ),
    Row(
        "sides, no bias",
        conv("num_output: 5 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 2 bias_term: false"),
        [(2, 3, 7, 11)],
        [(2, 5, 4, 5)],
        naive((2, 3), (1, 2)),
        {"weight": (5, 3, 3, 2)},
        2 * 5 * 4 * 5 * 3 * 6,
    ),
    Row(
        "group and dilation",
        conv("num_output: 6 kernel_size: 2 group: 2 dilation: 3"),
        [(3, 4, 7, 5)],
        [(3, 6, 4, 2)],
        naive(dilation=(3, 3), group=2),
        {"weight": (6, 2, 2, 2), "bias": (6,)},
        3 * 6 * 4 * 2 * 2 * 4,
    ),
    Row(
        "kernel as a list",
        conv("num_output: 2 kernel_size: [2, 3] stride: 1 stride: 2"),
        [(1, 3, 5, 7)],
        [(1, 2, 4, 3)],
        naive((1, 2)),
        {"weight": (2, 3, 2, 3), "bias": (2,)},
        2 * 4 * 3 * 3 * 6,
    ),
    Row(
        "one spatial axis",
        conv("num_output: 5 kernel_size: 2"),
        [(2, 3, 7)],
        [(2, 5, 6)],
        lambda x, weight, bias: naive()(x[:, :, None], weight[:, :, None], bias)[:, :, 0],
        {"weight": (5, 3, 2), "bias": (5,)},
        2 * 5 * 6 * 3 * 2,
    ),
    Row(
        "axis 2: two batch axes",
        conv("num_output: 5 kernel_size: 2 axis: 2"),
        [(2, 3, 2, 3, 5)],
        [(2, 3, 5, 2, 4)],
        lambda x, **blobs: naive()(x.reshape(6, 2, 3, 5), **blobs).reshape(2, 3, 5, 2, 4),
        {"weight": (5, 2, 2, 2), "bias": (5,)},
        6 * 5 * 2 * 4 * 2 * 4,
    ),
    Row(
        "no spatial axis",
        conv("num_output: 4 group: 2 axis: -1"),
        [(2, 3, 6)],
        [(2, 3, 4)],
        lambda x, weight, bias: (x.reshape(2, 3, 2, 1, 3) * weight.reshape(2, 2, 3)).sum(-1).reshape(2, 3, 4) + bias,
        {"weight": (4, 3), "bias": (4,)},
        6 * 4 * 3,
    ),
    Row(
        "four spatial axes",
        conv("num_output: 2 kernel_size: [2, 1, 3, 2] stride: [2, 1, 2, 1] pad: [1, 0, 2, 1] dilation: [2, 1, 1, 3]"),
        [(2, 3, 4, 2, 3, 2)],
        [(2, 2, 2, 2, 3, 1)],
        of_any_rank((2, 1, 2, 1), (1, 0, 2, 1), (2, 1, 1, 3), (2, 2, 3, 1)),
        {"weight": (2, 3, 2, 1, 3, 2), "bias": (2,)},
        2 * 2 * 12 * 3 * 12,
    ),
    Row(
        "a kernel larger than the image by less than a stride",
        conv("num_output: 2 kernel_h: 3 kernel_w: 5 stride_h: 2 stride_w: 4 pad_h: 0 pad_w: 1"),
        [(2, 3, 2, 1)],
        [(2, 2, 1, 1)],
        of_any_rank((2, 4), (0, 1), (1, 1), (1, 1)),
        {"weight": (2, 3, 3, 5), "bias": (2,)},
        2 * 2 * 3 * 15,
    ),
    Row(
        "Intel's ReLU",
        conv("num_output: 5 kernel_size: 3 relu: true"),
        [(2, 3, 7, 11)],
        [(2, 5, 5, 9)],
        lambda *arrays, **blobs: np.maximum(naive()(*arrays, **blobs), 0),
        {"weight": (5, 3, 3, 3), "bias": (5,)},
        2 * 5 * 5 * 9 * 3 * 9,
    ),
    Row(
        "Intel's leaky ReLU, and algorithms",
        conv(
            'num_output: 2 kernel_size: 2 relu: true negative_slope: 0.25 conv_algorithm: "winograd" engine: MKLDNN'
            ' conv_algos_override: "1,1,1" cudnn_convolution_algo_seeker: GET fusion_type: NONE_FUSION'
        ),
        [(2, 3, 4, 3)],
        [(2, 2, 3, 2)],
        lambda *arrays, **blobs: leaky(naive()(*arrays, **blobs)),
        {"weight": (2, 3, 2, 2), "bias": (2,)},
        2 * 2 * 3 * 2 * 3 * 4,
    ),
    Row(
        "a slope without ReLU",
        conv("num_output: 2 kernel_size: 2 negative_slope: 0.25"),
        [(2, 3, 4, 3)],
        [(2, 2, 3, 2)],
        naive(),
        {"weight": (2, 3, 2, 2), "bias": (2,)},
        2 * 2 * 3 * 2 * 3 * 4,
    ),
    Row(
        "Intel's sum",
        conv("num_output: 2 kernel_size: 2 fusion_type: SUM_FUSION"),
        [(2, 3, 4, 3), (2, 2, 3, 2)],
        [(2, 2, 3, 2)],
        lambda x, added, **blobs: naive()(x, **blobs) + added,
        {"weight": (2, 3, 2, 2), "bias": (2,)},
        2 * 2 * 3 * 2 * 3 * 4,
    ),
    Row(
        "Intel's sum and ReLU",
        conv("num_output: 2 kernel_size: 2 fusion_type: SUM_FUSION relu: true negative_slope: 0.25"),
        [(2, 3, 4, 3), (2, 2, 3, 2)],
        [(2, 2, 3, 2)],
        lambda x, added, **blobs: leaky(naive()(x, **blobs) + added),
        {"weight": (2, 3, 2, 2), "bias": (2,)},
        2 * 2 * 3 * 2 * 3 * 4,
    ),
    Row(
        "Intel's sum of one",
        conv("num_output: 2 kernel_size: 2 fusion_type: SUM_FUSION"),
        [(2, 3, 4, 3)],
        [(2, 2, 3, 2)],
        naive(),
        {"weight": (2, 3, 2, 2), "bias": (2,)},
        2 * 2 * 3 * 2 * 3 * 4,
    ),
]
IMAGE = [(2, 3, 7, 11)]
SUM = conv("num_output: 2 kernel_size: 2 fusion_type: SUM_FUSION")
ROWS += [
    Row(
        name,
        conv(f"num_output: 2 kernel_size: 2 bias_term: false {fields}"),
        [(1, 2, 5, 7)],
        [(1, 2, 5 - high, 7 - wide)],
        naive(dilation=(high, wide)),
        {"weight": (2, 2, 2, 2)},
        16 * (5 - high) * (7 - wide),
    )
    for name, fields, high, wide in (
        ("hole", "hole: 3", 3, 3),
        ("hole_h and hole_w", "hole_h: 2 hole_w: 3", 2, 3),
        ("filter_stride", "filter_stride: 2", 2, 2),
        ("dilation_h and dilation_w", "dilation_h: 2 dilation_w: 1", 2, 1),
    )
]
BAD = [
    Bad(
        "hole and dilation",
        conv("num_output: 2 kernel_size: 2 dilation: 2 hole: 2"),
        [(1, 2, 5, 7)],
        "both given",
        at="hole",
    ),
    Bad("no num_output", conv("kernel_size: 3"), IMAGE, "num_output must be positive"),
    Bad("no channels", conv("num_output: 2 kernel_size: 3"), [(2, 0, 7, 9)], "the bottom is empty"),
    Bad("no columns", conv("num_output: 2 kernel_size: 3 pad: 3"), [(2, 3, 7, 0)], "the bottom is empty"),
    Bad("no kernel", conv("num_output: 2"), IMAGE, "kernel_size is missing"),
    Bad("both spellings", conv("num_output: 2 kernel_size: 3 kernel_h: 3"), IMAGE, "both given", at="kernel_h"),
    Bad("group", conv("num_output: 4 kernel_size: 3 group: 2"), IMAGE, "divide the input channels", at="group"),
    Bad("group of outputs", conv("num_output: 4 kernel_size: 3 group: 3"), IMAGE, "divide num_output", at="group"),
    Bad("kernel too large", conv("num_output: 4 kernel_h: 3 kernel_w: 12"), IMAGE, "larger than the", at="kernel_h"),
    Bad("by a stride", conv("num_output: 1 kernel_size: 13 stride: 6"), IMAGE, "got:      13", at="kernel_size"),
    Bad("stride 0", conv("num_output: 4 kernel_size: 3 stride: 0"), IMAGE, "stride is too small", at="stride"),
    Bad("one side of stride", conv("num_output: 4 kernel_size: 3 stride_h: 2"), IMAGE, "too small", at="stride_h"),
    Bad("axis", conv("num_output: 4 kernel_size: 3 axis: 4"), IMAGE, "axis is out of range", at="axis"),
    Bad("filler", conv('num_output: 4 kernel_size: 3 weight_filler { type: "xaver" }'), IMAGE, '"xavier"?', at="type"),
    Bad("a top too few", conv("num_output: 2 kernel_size: 1"), IMAGE * 2, "the wrong number of tops"),
    Bad("a top too many", conv("num_output: 2 kernel_size: 1"), IMAGE, "expected: 1, one per bottom", 2, 'top: "t1"'),
    Bad("two tops of a sum", SUM, [*IMAGE, (2, 2, 6, 10)], "the wrong number of tops", 2),
    Bad("a sum of three", SUM, IMAGE * 3, "expected: 2 bottoms", at="fusion_type"),
    Bad("a sum that does not fit", SUM, IMAGE * 2, "must have the top's shape", at="fusion_type"),
    Bad("three values", conv("num_output: 4 kernel_size: [3, 3, 3]"), IMAGE, "expected: 1 or 2", at="3, 3, 3"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
