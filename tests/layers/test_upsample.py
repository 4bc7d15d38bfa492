import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.windows import Window

from .table import Bad, Row, prototxt, suite


def repeated(scale):
    return lambda x: np.array(
        [[[[v for v in row for _ in range(scale)] for row in c for _ in range(scale)] for c in n] for n in x]
    )


def unpooled(*size):
    def want(x, mask):
        y = np.zeros((*x.shape[:2], size[0] * size[1]))
        for n, c, i, j in np.ndindex(x.shape):
            y[n, c, int(mask[n, c, i, j])] = x[n, c, i, j]
        return y.reshape(*x.shape[:2], *size)

    return want


def places(count):
    """A place for each, none twice."""

    def feed(rng, shape):
        return (
            np.stack([rng.permutation(count)[: shape[2] * shape[3]] for _ in range(shape[0] * shape[1])]).reshape(shape)
            * 1.0
        )

    return feed


def layer(fields):
    return f'type: "Upsample" upsample_param {{ {fields} }}'


SMALL = (2, 3, 2, 3)
ROWS = [
    Row("nearest", layer("scale: 2"), [SMALL], [(2, 3, 4, 6)], repeated(2)),
    Row("nearest, 3", layer("scale: 3"), [SMALL], [(2, 3, 6, 9)], repeated(3)),
    Row("nearest, 1 without a field", 'type: "Upsample"', [SMALL], [SMALL], repeated(1)),
    Row("mask, 2", 'type: "Upsample"', [SMALL] * 2, [(2, 3, 4, 6)], unpooled(4, 6), feed={1: places(24)}),
    Row("mask, sides", layer("scale_h: 3 scale_w: 2"), [SMALL] * 2, [(2, 3, 6, 6)], unpooled(6, 6), feed={1: places(36)}),
    Row("mask, padded", layer("pad_out_h: true pad_out_w: true"), [SMALL] * 2, [(2, 3, 3, 5)], unpooled(3, 5),
        feed={1: places(15)}),
    Row("mask, size", layer("upsample_h: 3 upsample_w: 5 scale: 7"), [SMALL] * 2, [(2, 3, 3, 5)], unpooled(3, 5),
        feed={1: places(15)}),
]  # fmt: skip
BAD = [
    Bad("no mask", layer("scale_h: 2 scale_w: 2"), [SMALL], "scale_h needs the places", at="scale_h"),
    Bad("scale 0", layer("scale: 0"), [SMALL], "scale is too small", at="scale"),
    Bad("scale 1", layer("scale: 1"), [SMALL] * 2, "scale is too small", at="scale"),
    Bad("one side", layer("scale_h: 2"), [SMALL] * 2, "not told in one way", at="scale_h"),
    Bad("twice", layer("scale: 2 scale_h: 2 scale_w: 2"), [SMALL] * 2, "not told in one way"),
    Bad("one size", layer("upsample_h: 4"), [SMALL] * 2, "upsample_h is given alone", at="upsample_h"),
    Bad("size 1", layer("upsample_h: 4 upsample_w: 1"), [SMALL] * 2, "upsample_w is too small", at="upsample_w"),
    Bad("padded 3", layer("scale: 3 pad_out_w: true"), [SMALL] * 2, "pad_out_w is for a scale of 2", at="pad_out_w"),
    Bad("mask of another size", layer(""), [SMALL, (2, 3, 2, 2)], "one place for each value"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def compiled(fields=""):
    text = prototxt(layer(fields), [(1, 1, 2, 2)] * 2, 1)
    return netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")


def test_the_last_stays_and_all_take_the_gradient():
    x = torch.tensor([[[[1.0, 2], [3, 4]]]], requires_grad=True)
    top = compiled()(x, torch.tensor([[[[5.0, 7], [5, 7]]]]))["t0"]
    assert top.flatten().tolist() == [0, 0, 0, 0, 0, 3, 0, 4, *[0] * 8]
    (top * torch.arange(16.0).reshape(1, 1, 4, 4)).sum().backward()
    assert x.grad.flatten().tolist() == [5, 7, 5, 7]


@pytest.mark.parametrize("place", [-1, 16])
def test_a_place_outside(place):
    with pytest.raises(netcompiler.NetError, match="outside the top"):
        compiled()(torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), float(place)))


def test_windows_of_repeated_pixels():
    node = netcompiler.build(netcompiler.parse(prototxt(layer("scale: 2"), [SMALL], 1))).nodes[-1]
    window = Window(((0, 0), (0, 0)), 1)
    assert node.layer.windows(node.bottom_shapes, node.top_shapes, 0, 0) == (window, window)
    assert [window.at(i) for i in range(4)] == [(0, 0), (0, 0), (1, 1), (1, 1)]
