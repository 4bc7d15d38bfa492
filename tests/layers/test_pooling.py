from itertools import product

import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite

LOWEST = np.finfo(np.float32).min


def sizes(shape, kernel, stride, pad, floor=False):
    """Caffe's rule, by trying window after window."""
    found = []
    for size, k, s, p in zip(shape, kernel, stride, pad, strict=True):
        count = 1
        while (count - 1) * s + k < size + 2 * p:  # the last one does not reach the end of the padded image
            count += 1
        if floor and (count - 1) * s + k > size + 2 * p:
            count -= 1
        if any(pad) and (count - 1) * s >= size + p:
            count -= 1
        found.append(count)
    return found


def naive(method, kernel, stride=(1, 1), pad=(0, 0), floor=False, include_pad=True):
    """Pooling by loops over the windows; MAX gives the places, too."""

    def pool(x):
        n, c, h, w = x.shape
        k = kernel or (h, w)
        oh, ow = sizes((h, w), k, stride, pad, floor)
        y, place = np.zeros((n, c, oh, ow)), np.zeros((n, c, oh, ow))
        for b, d, i, j in product(*map(range, y.shape)):
            top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
            inside = list(product(range(max(top, 0), min(top + k[0], h)), range(max(left, 0), min(left + k[1], w))))
            size = (min(top + k[0], h + pad[0]) - top) * (min(left + k[1], w + pad[1]) - left)
            values = [x[b, d, r, s] for r, s in inside]
            if method == "MAX":
                best = int(np.argmax(values)) if inside else None
                y[b, d, i, j] = LOWEST if best is None else values[best]
                place[b, d, i, j] = -1 if best is None else inside[best][0] * w + inside[best][1]
            elif method == "AVE":
                size = size if include_pad else len(inside)
                y[b, d, i, j] = np.float64(sum(values)) / size if size else np.nan
            else:
                y[b, d, i, j] = sum(v * v for v in values) / sum(values) if sum(values) > 0 else 0
        return y, place

    return pool


def first(method, *arguments, **options):
    return lambda x: naive(method, *arguments, **options)(x)[0]


def pool(fields):
    return f'type: "Pooling" pooling_param {{ {fields} }}'


def tied(rng, shape):
    """Whole numbers, so that windows have several largest values."""
    return rng.integers(-2, 2, shape).astype(np.float64)


def positive(rng, shape):
    return rng.random(shape) + 0.1


IMAGE = [(2, 3, 11, 7)]
ROWS = [
    Row("max", pool("kernel_size: 3 stride: 2"), IMAGE, [(2, 3, 5, 3)], first("MAX", (3, 3), (2, 2))),
    Row("max rounds up", pool("kernel_size: 2 stride: 2"), IMAGE, [(2, 3, 6, 4)], first("MAX", (2, 2), (2, 2))),
    Row(
        "max rounds down",
        pool("kernel_size: 2 stride: 2 round_mode: FLOOR"),
        IMAGE,
        [(2, 3, 5, 3)],
        first("MAX", (2, 2), (2, 2), floor=True),
    ),
    Row(
        "torch_pooling is FLOOR",
        pool("pool: AVE kernel_size: 2 stride: 2 torch_pooling: true"),
        IMAGE,
        [(2, 3, 5, 3)],
        first("AVE", (2, 2), (2, 2), floor=True),
    ),
    Row(
        "ceil_mode false is FLOOR",
        pool("pool: AVE kernel_size: 2 stride: 2 ceil_mode: false"),
        IMAGE,
        [(2, 3, 5, 3)],
        first("AVE", (2, 2), (2, 2), floor=True),
    ),
    Row(
        "max, padded",
        pool("kernel_size: 3 stride: 2 pad: 1"),
        IMAGE,
        [(2, 3, 6, 4)],
        first("MAX", (3, 3), (2, 2), (1, 1)),
    ),
    Row(
        "max drops the window that starts in the padding",
        pool("kernel_size: 2 stride: 2 pad: 1"),
        [(2, 3, 5, 4)],
        [(2, 3, 3, 3)],
        first("MAX", (2, 2), (2, 2), (1, 1)),
    ),
    Row(
        "padding along one axis drops along the other",
        pool("kernel_h: 3 kernel_w: 1 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 0"),
        [(2, 3, 5, 6)],
        [(2, 3, 3, 2)],
        first("MAX", (3, 1), (2, 3), (1, 0)),
    ),
    Row(
        "max, padded by more than half the kernel",
        pool("kernel_size: 3 stride: 2 pad: 2"),
        IMAGE,
        [(2, 3, 7, 5)],
        first("MAX", (3, 3), (2, 2), (2, 2)),
    ),
    Row(
        "max, sides",
        pool("kernel_h: 2 kernel_w: 3 stride_h: 3 stride_w: 2"),
        IMAGE,
        [(2, 3, 4, 3)],
        first("MAX", (2, 3), (3, 2)),
    ),
    Row("max, global", pool("global_pooling: true"), IMAGE, [(2, 3, 1, 1)], first("MAX", None)),
    Row(
        "max, kernel beyond the image",
        pool("kernel_size: 4 stride: 3"),
        [(2, 3, 3, 2)],
        [(2, 3, 1, 1)],
        first("MAX", (4, 4), (3, 3)),
    ),
    Row(
        "mask, the first of equal values",
        pool("kernel_size: 3 stride: 2"),
        IMAGE,
        [(2, 3, 5, 3)] * 2,
        naive("MAX", (3, 3), (2, 2)),
        feed={0: tied},
        gradient=False,
    ),
    Row(
        "mask, padded",
        pool("kernel_size: 3 stride: 2 pad: 2"),
        IMAGE,
        [(2, 3, 7, 5)] * 2,
        naive("MAX", (3, 3), (2, 2), (2, 2)),
    ),
    Row(
        "mask, global",
        pool("global_pooling: true"),
        IMAGE,
        [(2, 3, 1, 1)] * 2,
        naive("MAX", None),
        feed={0: tied},
        gradient=False,
    ),
    Row(
        "mask, windows outside",
        pool("kernel_size: 1 stride: 3"),
        [(2, 3, 6, 7)],
        [(2, 3, 3, 3)] * 2,
        naive("MAX", (1, 1), (3, 3)),
    ),
    Row("ave", pool("pool: AVE kernel_size: 3 stride: 2"), IMAGE, [(2, 3, 5, 3)], first("AVE", (3, 3), (2, 2))),
    Row(
        "ave rounds up", pool("pool: AVE kernel_size: 3 stride: 3"), IMAGE, [(2, 3, 4, 3)], first("AVE", (3, 3), (3, 3))
    ),
    Row(
        "ave, padded: divides by the window in the padded image",
        pool("pool: AVE kernel_size: 3 stride: 2 pad: 1"),
        [(2, 3, 8, 7)],
        [(2, 3, 5, 4)],
        first("AVE", (3, 3), (2, 2), (1, 1)),
    ),
    Row(
        "ave, padded by more than half the kernel",
        pool("pool: AVE kernel_size: 5 stride: 3 pad: 4"),
        IMAGE,
        [(2, 3, 5, 4)],
        first("AVE", (5, 5), (3, 3), (4, 4)),
    ),
    Row(
        "ave, much padded, the last window cut",
        pool("pool: AVE kernel_size: 5 stride: 4 pad: 3"),
        [(2, 3, 10, 7)],
        [(2, 3, 4, 3)],
        first("AVE", (5, 5), (4, 4), (3, 3)),
    ),
    Row(
        "ave, without the padding",
        pool("pool: AVE kernel_size: 3 stride: 2 pad: 1 avg_include_pad: false"),
        [(2, 3, 8, 7)],
        [(2, 3, 5, 4)],
        first("AVE", (3, 3), (2, 2), (1, 1), include_pad=False),
    ),
    Row(
        "ave, without much padding",
        pool("pool: AVE kernel_size: 3 stride: 2 pad: 2 avg_include_pad: false"),
        IMAGE,
        [(2, 3, 7, 5)],
        first("AVE", (3, 3), (2, 2), (2, 2), include_pad=False),
    ),
    Row("ave, one bin", pool("pool: AVE bin_size: 1"), IMAGE, [(2, 3, 1, 1)], first("AVE", None)),
    Row("ave, global", pool("pool: AVE global_pooling: true"), IMAGE, [(2, 3, 1, 1)], first("AVE", None)),
    Row(
        "ave, windows outside",
        pool("pool: AVE kernel_size: 1 stride: 3"),
        [(2, 3, 6, 8)],
        [(2, 3, 3, 4)],
        first("AVE", (1, 1), (3, 3)),
        gradient=False,
    ),
    Row(
        "stochastic in TEST",
        pool("pool: STOCHASTIC kernel_size: 3 stride: 2"),
        [(2, 3, 8, 7)],
        [(2, 3, 4, 3)],
        first("STOCHASTIC", (3, 3), (2, 2)),
        feed={0: positive},
    ),
    Row(
        "stochastic in TEST, sums of any sign",
        pool("pool: STOCHASTIC kernel_size: 2 stride: 2"),
        IMAGE,
        [(2, 3, 6, 4)],
        first("STOCHASTIC", (2, 2), (2, 2)),
        gradient=False,
    ),
    Row(
        "stochastic in TEST, global, of zeros",
        pool("pool: STOCHASTIC global_pooling: true"),
        IMAGE,
        [(2, 3, 1, 1)],
        first("STOCHASTIC", None),
        feed={0: lambda rng, shape: np.zeros(shape)},
        gradient=False,
    ),
]


def with_holes(x):
    """MAX of a kernel of 3 x 3, stride 2, pad 1, of every second pixel."""
    spaced = np.pad(x, ((0, 0), (0, 0), (1, 9), (1, 9)), constant_values=-np.inf)
    rows, columns = (-(-(size + 2 - 5) // 2) + 1 for size in x.shape[2:])
    y = np.empty((*x.shape[:2], rows, columns))
    for i, j in np.ndindex(rows, columns):
        y[:, :, i, j] = spaced[:, :, 2 * i : 2 * i + 5 : 2, 2 * j : 2 * j + 5 : 2].max((2, 3))
    return y


ROWS += [
    Row("dilation", pool("kernel_size: 3 stride: 2 pad: 1 dilation: 2"), IMAGE, [(2, 3, 5, 3)], with_holes),
    Row(
        "dilation, rounded up",
        pool("kernel_size: 3 stride: 2 pad: 1 dilation: 2"),
        [(1, 2, 6, 8)],
        [(1, 2, 3, 4)],
        with_holes,
    ),
]
BAD = [
    Bad(
        "dilation of AVE",
        pool("pool: AVE kernel_size: 2 dilation: 2"),
        IMAGE,
        "AVE pooling takes no dilation",
        at="dilation",
    ),
    Bad("no kernel", pool("stride: 2"), IMAGE, "kernel_size is missing"),
    Bad("both spellings", pool("kernel_size: 3 kernel_h: 3 kernel_w: 3"), IMAGE, "both given", at="kernel_h"),
    Bad("one side of the kernel", pool("kernel_h: 3"), IMAGE, "kernel_h is given alone", at="kernel_h"),
    Bad("one side of the padding", pool("kernel_size: 3 pad_w: 1"), IMAGE, "pad_w is given alone", at="pad_w"),
    Bad("kernel 0", pool("kernel_size: 0"), IMAGE, "kernel_size is too small", at="kernel_size"),
    Bad("stride 0", pool("kernel_size: 3 stride: 0"), IMAGE, "stride is too small", at="stride"),
    Bad("padding of a kernel", pool("kernel_size: 3 pad: 3"), IMAGE, "smaller than the kernel", at="pad"),
    Bad("kernel too large", pool("kernel_h: 3 kernel_w: 8"), IMAGE, "larger than the padded image", at="kernel_h"),
    Bad("kernel too large for FLOOR", pool("kernel_size: 8 stride: 9 round_mode: FLOOR"), IMAGE, "larger than the"),
    Bad(
        "kernel of a global pooling", pool("global_pooling: true kernel_size: 3"), IMAGE, "no meaning", at="kernel_size"
    ),
    Bad("kernel of one bin", pool("bin_size: 1 kernel_size: 3"), IMAGE, "no meaning with bin_size", at="kernel_size"),
    Bad("several bins", pool("bin_size: 2"), IMAGE, "several bins an axis are not supported", at="bin_size"),
    Bad("stride of a global pooling", pool("global_pooling: true stride: 2"), IMAGE, "takes no stride", at="stride"),
    Bad("padding of a global pooling", pool("global_pooling: true pad: 1"), IMAGE, "takes no stride", at="pad"),
    Bad("mask of AVE", pool("pool: AVE kernel_size: 3"), IMAGE, "only MAX", tops=2, at="top"),
    Bad("padded STOCHASTIC", pool("pool: STOCHASTIC kernel_size: 3 pad: 1"), IMAGE, "takes no padding", at="pad"),
    Bad("no channels", pool("kernel_size: 3"), [(2, 0, 7, 9)], "the bottom is empty"),
    Bad("three axes", pool("kernel_size: 3"), [(3, 11, 7)], "wrong number of axes"),
    Bad("axis of Intel Caffe", pool("kernel_size: 3 axis: 2"), IMAGE, "axis is not supported", at="axis"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def run(fields, x, phase="TEST"):
    net = netcompiler.parse(prototxt(pool(fields), [x.shape], 1))
    net = netcompiler.compile(net, phase=phase, optimize=False, device="cpu", dtype=str(x.dtype).removeprefix("torch."))
    return net(x)["t0"]


def test_gradient_goes_to_the_first_of_equal_values():
    for fields in ("kernel_size: 2 stride: 2", "global_pooling: true", "kernel_size: 5 stride: 8 pad: 3"):
        x = torch.zeros(1, 1, 2, 2, requires_grad=True)
        run(fields, x).sum().backward()
        assert x.grad.flatten().tolist()[0] == x.grad.sum() > 0, fields


def test_no_gradient_from_outside():
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    top = run("kernel_size: 1 stride: 3", torch.nn.functional.pad(x, (0, -1, 0, -1)))
    assert top.shape == (1, 1, 2, 2) and top.isfinite().all()
    run("kernel_size: 1 stride: 4", x).sum().backward()
    assert x.grad.sum() == x.grad[0, 0, 0, 0] == 1


def test_stochastic_draws_by_value():
    """Each value is drawn as often as its share of the window's sum; only the drawn one takes the gradient."""
    torch.manual_seed(3)
    window = torch.tensor([[0.0, 1.0], [2.0, 5.0]])
    x = window.repeat(1, 4000, 1, 1).requires_grad_()
    top = run("pool: STOCHASTIC kernel_size: 2 stride: 2", x, "TRAIN")
    assert top.shape == (1, 4000, 1, 1)
    for value in window.flatten():
        share = value / window.sum()
        assert abs((top == value).float().mean() - share) < 4 * (share * (1 - share) / 4000) ** 0.5 + 1e-6
    top.sum().backward()
    assert torch.equal(x.grad, (x == top).float())


def test_stochastic_draws_inside_the_image():
    torch.manual_seed(3)
    x = torch.rand(2, 50, 5, 6) + 1
    top = run("pool: STOCHASTIC kernel_size: 3 stride: 3", x, "TRAIN")
    assert top.shape == (2, 50, 2, 2)
    for i, j in product(range(2), range(2)):
        window = x[:, :, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].flatten(2)
        assert (window == top[:, :, i, j, None]).any(2).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_mask_tells_places_apart(dtype):
    x = torch.zeros(1, 1, 40, 40, dtype=getattr(torch, dtype))
    x[0, 0, 30, 17] = 1
    net = netcompiler.parse(prototxt(pool("kernel_size: 40"), [x.shape], 2))
    net = netcompiler.compile(net, optimize=False, device="cpu", dtype=dtype)
    assert net(x)["t1"].item() == 30 * 40 + 17
