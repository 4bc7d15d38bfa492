import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def unpool(fields):
    return f'type: "UnPooling" unpooling_param {{ {fields} }}'


def placed(height, width, stride):
    def want(x, mask=None):
        y = np.zeros((*x.shape[:2], height, width))
        for n, c, i, j in np.ndindex(x.shape):
            at = (
                divmod(int(mask[n, c, i, j]), width)
                if mask is not None
                else (min(i * stride, height - 1), min(j * stride, width - 1))
            )
            y[n, c, at[0], at[1]] = x[n, c, i, j]
        return y

    return want


def spread(height, width, kernel, stride, mean):
    def want(x, *_):
        y = np.zeros((*x.shape[:2], height, width))
        for i, j in np.ndindex(x.shape[2:]):
            part = y[:, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            size = part.shape[2] * part.shape[3]
            part += x[:, :, i, j, None, None] / (size if mean else 1)
        return y

    return want


def places(rng, shape):
    one = [rng.permutation(30)[: shape[2] * shape[3]] for _ in range(shape[0] * shape[1])]
    return np.array(one, float).reshape(shape)


MYCAFFE = "freeze_learning: false max_bottom_count {} mask_param {} "  # more fields of its own than deconvnet's
X = (2, 3, 2, 3)
ROWS = [
    Row(
        "mask",
        unpool("kernel_size: 2 stride: 2 unpool_h: 5 unpool_w: 6"),
        [X, X],
        [(2, 3, 5, 6)],
        placed(5, 6, 2),
        feed={1: places},
    ),
    Row("corners", unpool("kernel_size: 2 stride: 2 unpool_size: 6"), [X], [(2, 3, 6, 6)], placed(6, 6, 2)),
    Row(
        "corners past the end",
        unpool("kernel_size: 2 stride: 3 unpool_size: 5"),
        [X],
        [(2, 3, 5, 5)],
        placed(5, 5, 3),
        gradient=False,
    ),
    Row(
        "mean",
        unpool("unpool: AVE kernel_size: 2 stride: 2 unpool_h: 4 unpool_w: 6"),
        [X],
        [(2, 3, 4, 6)],
        spread(4, 6, 2, 2, True),
    ),
    Row(
        "overlapping, cut",
        unpool("unpool: AVE kernel_size: 3 stride: 2 unpool_h: 4 unpool_w: 6"),
        [X],
        [(2, 3, 4, 6)],
        spread(4, 6, 3, 2, True),
    ),
    Row(
        "larger",
        unpool("pool: AVE kernel_size: 2 stride: 2 unpool_size: 7"),
        [X],
        [(2, 3, 7, 7)],
        spread(7, 7, 2, 2, True),
    ),
    Row("MyCaffe's size", MYCAFFE + unpool("kernel_size: 2 stride: 2"), [X], [(2, 3, 5, 7)], placed(5, 7, 2)),
    Row(
        "MyCaffe's size, overlapping",
        MYCAFFE + unpool("pool: AVE kernel_size: 4 stride: 2"),
        [X],
        [(2, 3, 6, 8)],
        spread(6, 8, 4, 2, True),
    ),
    Row(
        "tile",
        unpool("unpool: TILE kernel_size: 3 stride: 2 unpool_h: 4 unpool_w: 6"),
        [X],
        [(2, 3, 4, 6)],
        spread(4, 6, 3, 2, False),
        gradient=False,
    ),
    Row(
        "repeat",
        unpool("unpool: REP"),
        [(2, 3, 1, 1), (2, 1, 4, 5)],
        [(2, 3, 4, 5)],
        lambda x, _: np.broadcast_to(x, (2, 3, 4, 5)),
    ),
]
BAD = [
    Bad("no size", unpool("kernel_size: 2"), [X], "the size is not told"),
    Bad(
        "two sizes",
        unpool("kernel_size: 2 unpool_size: 4 unpool_h: 4 unpool_w: 4"),
        [X],
        "told twice",
        at="unpool_size",
    ),
    Bad("height alone", unpool("kernel_size: 2 unpool_h: 4"), [X], "go together", at="unpool_h"),
    Bad("padding", unpool("kernel_size: 2 unpool_size: 4 pad: 1"), [X], "takes no padding", at="pad"),
    Bad("kernel", unpool("unpool_size: 4"), [X], "kernel_size is missing"),
    Bad("mask", unpool("kernel_size: 2 unpool_size: 4"), [X, (2, 3, 2, 2)], "the mask has the wrong shape"),
    Bad("repeat", unpool("unpool: REP"), [X, X], "one pixel only"),
    Bad("repeat what", unpool("unpool: REP out_kernel_size: 2"), [X, X], "one pixel only", at="out_kernel_size"),
    Bad("two methods", unpool("unpool: AVE pool: MAX kernel_size: 2 unpool_size: 4"), [X], "both given", at="pool"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_tile_has_the_gradient_of_the_mean():
    text = prototxt(unpool("unpool: TILE kernel_size: 2 stride: 2 unpool_size: 3"), [(1, 1, 2, 2)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    x = torch.randn(1, 1, 2, 2, requires_grad=True)
    net(x)["t0"].sum().backward()
    assert x.grad.flatten().tolist() == [1, 1, 1, 1]


def test_a_place_outside_is_refused():
    text = prototxt(unpool("kernel_size: 2 stride: 2 unpool_size: 4"), [(1, 1, 2, 2)] * 2, 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    try:
        net(torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 16.0))
    except netcompiler.NetError as e:
        assert "0 to 15" in str(e)
    else:
        raise AssertionError
