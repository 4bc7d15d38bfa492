from itertools import product

import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def prelu(x, weight):
    y = x.copy()
    for place in product(*map(range, x.shape)):
        slope = weight[place[1]] if weight.ndim else weight
        y[place] = x[place] if x[place] > 0 else slope * x[place]
    return y


SHARED = 'type: "PReLU" prelu_param { channel_shared: true }'
ROWS = [
    Row("by channel", 'type: "PReLU"', [(2, 3, 5, 7)], [(2, 3, 5, 7)], prelu, {"weight": (3,)}, 2 * 3 * 5 * 7),
    Row("two axes", 'type: "PReLU"', [(2, 3)], [(2, 3)], prelu, {"weight": (3,)}, 6),
    Row("one channel", 'type: "PReLU"', [(2, 1, 5)], [(2, 1, 5)], prelu, {"weight": (1,)}, 10),
    Row("shared", SHARED, [(2, 3, 5)], [(2, 3, 5)], prelu, {"weight": ()}, 30),
]
FILLER = 'type: "PReLU" prelu_param { filler { type: "xaver" } }'
BAD = [
    Bad("one axis", 'type: "PReLU"', [(3,)], "too few axes"),
    Bad("filler", FILLER, [(2, 3)], '"xavier"?', at="type"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def weight(layer):
    net = netcompiler.compile(netcompiler.parse(prototxt(layer, [(2, 3)], 1)), optimize=False, device="cpu")
    return net.caffe_params()["it"][0]


def test_slopes_start_at_a_quarter_or_as_the_filler_says():
    np.testing.assert_array_equal(weight('type: "PReLU"'), [0.25] * 3)
    np.testing.assert_array_equal(weight('type: "PReLU" prelu_param { filler { value: 0 } }'), [0] * 3)


def test_at_0_the_gradient_is_the_slope():
    net = netcompiler.compile(netcompiler.parse(prototxt(SHARED, [(2, 3)], 1)), optimize=False, device="cpu")
    x = torch.zeros(2, 3, requires_grad=True)
    net(x)["t0"].sum().backward()
    assert (x.grad == 0.25).all()
