import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def naive(axis, transpose=False):
    """Every output by a loop over every input."""

    def product(x, weight, bias=None):
        rows = x.reshape(int(np.prod(x.shape[:axis])), -1)
        w = weight.T if transpose else weight
        y = np.zeros((len(rows), len(w)))
        for i in range(len(rows)):
            for o in range(len(w)):
                y[i, o] = sum(w[o, k] * rows[i, k] for k in range(rows.shape[1])) + (0 if bias is None else bias[o])
        return y.reshape(*x.shape[:axis], len(w))

    return product


def inner(fields):
    return f'type: "InnerProduct" inner_product_param {{ {fields} }}'


BLOBS = {"weight": (5, 30), "bias": (5,)}
ROWS = [
    Row("plain", inner("num_output: 5"), [(3, 2, 3, 5)], [(3, 5)], naive(1), BLOBS, 3 * 5 * 30),
    Row(
        "no bias", inner("num_output: 5 bias_term: false"), [(3, 7)], [(3, 5)], naive(1), {"weight": (5, 7)}, 3 * 5 * 7
    ),
    Row(
        "axis 2",
        inner("num_output: 5 axis: 2"),
        [(3, 2, 7, 1)],
        [(3, 2, 5)],
        naive(2),
        {"weight": (5, 7), "bias": (5,)},
        6 * 5 * 7,
    ),
    Row(
        "axis -1",
        inner("num_output: 2 axis: -1 bias_term: false"),
        [(3, 7)],
        [(3, 2)],
        naive(1),
        {"weight": (2, 7)},
        3 * 2 * 7,
    ),
    Row(
        "four axes",
        inner("num_output: 5 min_top_axes: 4"),
        [(3, 7)],
        [(3, 5, 1, 1)],
        lambda *given, **blobs: naive(1)(*given, **blobs)[..., None, None],
        {"weight": (5, 7), "bias": (5,)},
        3 * 5 * 7,
    ),
    Row(
        "no more than there are",
        inner("num_output: 5 axis: 2 min_top_axes: -1"),
        [(3, 2, 7)],
        [(3, 2, 5)],
        naive(2),
        {"weight": (5, 7), "bias": (5,)},
        6 * 5 * 7,
    ),
    Row("axis 0", inner("num_output: 5 axis: 0"), [(2, 3, 5)], [(5,)], naive(0), BLOBS, 5 * 30),
    Row(
        "transposed weights",
        inner("num_output: 5 transpose: true"),
        [(3, 2, 7)],
        [(3, 5)],
        naive(1, transpose=True),
        {"weight": (14, 5), "bias": (5,)},
        3 * 5 * 14,
    ),
]


def unit(weight):
    return weight / np.sqrt((weight**2).sum(1, keepdims=True) + 1e-6)


ROWS += [
    Row(
        "rows of length 1",
        inner("num_output: 5 normalize: true"),
        [(3, 7)],
        [(3, 5)],
        lambda x, weight, bias: x @ unit(weight).T + bias,
        {"weight": (5, 7), "bias": (5,)},
        105,
        gradient=False,
    )
]
BAD = [
    Bad("no num_output", inner("bias_term: false"), [(3, 7)], "num_output must be positive"),
    Bad("axis", inner("num_output: 5 axis: 2"), [(3, 7)], "axis is out of range", at="axis"),
    Bad("filler", inner('num_output: 5 bias_filler { type: "const" }'), [(3, 7)], "unknown filler", at="type"),
    Bad("two bottoms", inner("num_output: 5"), [(3, 7)] * 2, "wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_rows_of_length_1_are_kept_and_the_gradient_is_that_of_the_product():
    text = prototxt(inner("num_output: 2 bias_term: false normalize: true"), [(3, 4)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    rng = np.random.default_rng(0)
    weight, x, g = rng.standard_normal((2, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 2))
    net.load_caffe_params({"it": [weight]})
    (net(x)["t0"] * torch.tensor(g)).sum().backward()
    np.testing.assert_allclose(net.caffe_params()["it"][0], unit(weight))
    np.testing.assert_allclose(net.caffe_grads()["it"][0], g.T @ x)
