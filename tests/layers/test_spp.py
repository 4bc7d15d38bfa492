import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite
from .test_pooling import naive as pooling


def naive(height, method="MAX"):
    """Level by level, Pooling's own naive version with windows that do not overlap."""

    def spp(x):
        tops = []
        for bins in (2**i for i in range(height)):
            kernel = [int(np.ceil(size / bins)) for size in x.shape[2:]]
            pad = [int(np.ceil((k * bins - size) / 2)) for k, size in zip(kernel, x.shape[2:], strict=True)]
            top, _ = pooling(method, kernel, kernel, pad)(x)
            tops.append(top)
        return tops[0] if height == 1 else np.concatenate([t.reshape(len(x), -1) for t in tops], 1)

    return spp


def spp(fields):
    return f'type: "SPP" spp_param {{ {fields} }}'


ROWS = [
    Row("three levels", spp("pyramid_height: 3"), [(2, 3, 11, 8)], [(2, 3 * 21)], naive(3)),
    Row("mean", spp("pyramid_height: 3 pool: AVE"), [(2, 3, 11, 7)], [(2, 3 * 21)], naive(3, "AVE")),
    Row("one level is not flattened", spp("pyramid_height: 1"), [(2, 3, 5, 7)], [(2, 3, 1, 1)], naive(1)),
    Row("a place each", spp("pyramid_height: 2"), [(2, 3, 2, 2)], [(2, 3 * 5)], naive(2)),
]
BAD = [
    Bad("no level", spp("pyramid_height: 0"), [(2, 3, 5, 7)], "pyramid_height must be positive", at="pyramid_height"),
    Bad("not set", 'type: "SPP"', [(2, 3, 5, 7)], "pyramid_height must be positive"),
    Bad("more bins than places", spp("pyramid_height: 3"), [(2, 3, 3, 5)], "level 2, 4 x 4 bins", at="pyramid_height"),
    Bad("no image", spp("pyramid_height: 2"), [(2, 3, 0, 5)], "the bottom is empty"),
    Bad("two axes", spp("pyramid_height: 1"), [(2, 3)], "wrong number of axes"),
    Bad("padded STOCHASTIC", spp("pyramid_height: 2 pool: STOCHASTIC"), [(2, 3, 5, 6)], "no padding"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_bins_follow_the_image():
    """The bins are made for the image that comes, not for the one that the net was built for."""
    net = netcompiler.compile(netcompiler.parse(prototxt(spp("pyramid_height: 2"), [(1, 3, 8, 8)], 1)), device="cpu")
    x = torch.randn(2, 3, 6, 10)
    np.testing.assert_allclose(net(x)["t0"].numpy(), naive(2)(x.numpy()))


def test_stochastic_draws_in_test_too():
    torch.manual_seed(1)
    text = prototxt(spp("pyramid_height: 1 pool: STOCHASTIC"), [(1, 500, 1, 2)], 1)
    x = torch.tensor([1.0, 3.0]).expand(1, 500, 1, 2)
    top = netcompiler.compile(netcompiler.parse(text), device="cpu")(x)["t0"]
    assert set(top.flatten().tolist()) == {1.0, 3.0} and 2.3 < top.mean() < 2.7
