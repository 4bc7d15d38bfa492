import itertools

import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def times(axis):
    """Loops over every element; `axis` is where the first axis of the factor lies."""

    def scale(x, factor=None, weight=None, bias=None):
        factor = weight if factor is None else factor
        y = np.empty_like(x)
        for place in itertools.product(*map(range, x.shape)):
            part = place[axis : axis + factor.ndim]
            y[place] = x[place] * factor[part] + (0 if bias is None else bias[part])
        return y

    return scale


def limited(least, most):
    return lambda x, factor=None, weight=None: times(1)(x, np.clip(weight if factor is None else factor, least, most))


def scale(fields: str = "") -> str:
    return f'type: "Scale" scale_param {{ {fields} }}'


X, N = (2, 3, 5, 7), 210
ROWS = [
    Row("channels", scale(), [X], [X], times(1), {"weight": (3,)}, N),
    Row("bias", scale("bias_term: true"), [X], [X], times(1), {"weight": (3,), "bias": (3,)}, N),
    Row(
        "two axes",
        scale("axis: 2 num_axes: 2 bias_term: true"),
        [X],
        [X],
        times(2),
        {"weight": (5, 7), "bias": (5, 7)},
        N,
    ),
    Row("to the end", scale("axis: 1 num_axes: -1"), [X], [X], times(1), {"weight": (3, 5, 7)}, N),
    Row("scalar", scale("num_axes: 0 bias_term: true"), [X], [X], times(0), {"weight": (), "bias": ()}, N),
    Row("from the back", scale("axis: -1"), [X], [X], times(3), {"weight": (7,)}, N),
    Row("two bottoms", scale("axis: 0"), [X, (2, 3)], [X], times(0), macs=N),
    Row("two bottoms and bias", scale("bias_term: true"), [X, (3, 5)], [X], times(1), {"bias": (3, 5)}, N),
    Row("second bottom scalar", scale("axis: 9"), [X, ()], [X], times(0), macs=N),
    Row("scalars", scale("bias_term: true"), [(), ()], [()], times(0), {"bias": ()}, 1),
    Row(
        "least (happynear)",
        scale("min_value: 0.25"),
        [X],
        [X],
        limited(0.25, np.inf),
        {"weight": (3,)},
        N,
        gradient=False,
    ),
    Row("most", scale("max_value: -0.25"), [X], [X], limited(-np.inf, -0.25), {"weight": (3,)}, N, gradient=False),
    Row(
        "both, two bottoms",
        scale("min_value: -0.5 max_value: 0.25"),
        [X, (3,)],
        [X],
        limited(-0.5, 0.25),
        macs=N,
        gradient=False,
    ),
    Row("two bottoms alike", scale("axis: 0"), [X, X], [X], times(0), macs=N),
]
BAD = [
    Bad("axis", scale("axis: -5"), [X], "axis is out of range", at="axis"),
    Bad("past the end", scale("axis: 2 num_axes: 3"), [X], "num_axes is out of range", at="num_axes"),
    Bad("past the end by the default", scale("axis: 1"), [(5,)], "axis is out of range", at="axis"),
    Bad("other dims", scale("axis: 2"), [X, (3, 5)], "does not lie along bottom 0", at="axis"),
    Bad("bias filler", scale('bias_filler { type: "constnt" }'), [X], 'did you mean "constant"?', at="type"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


@pytest.mark.parametrize(
    ("fields", "weight", "bias"),
    [
        ("bias_term: true", 1, 0),
        ('filler { type: "constant" }', 0, None),  # a filler that is given has a filler's own default
        ("filler { value: 3 } bias_term: true bias_filler { value: 5 }", 3, 5),
    ],
)
def test_starts_as_the_identity_unless_told(fields, weight, bias):
    net = netcompiler.compile(netcompiler.parse(prototxt(scale(fields), [X], 1)), optimize=False, device="cpu")
    blobs = net.caffe_params()["it"]
    assert [set(blob.tolist()) for blob in blobs] == [{weight}] + ([] if bias is None else [{bias}])


def test_limits_are_kept_and_the_gradient_is_that_of_the_product():
    """NormFace's scale: what trains folds nothing of it into its neighbours, and neither does what is optimized."""
    norm = (
        'layer { name: "n" type: "BatchNorm" bottom: "x" top: "n" batch_norm_param { use_global_stats: true eps: 3 } }'
    )
    text = f'input: "x" input_shape {{ dim: 2 dim: 3 }} {norm} layer {{ name: "s" bottom: "n" top: "y" {scale("%s")} }}'
    weight = np.array([-1.0, 0.5, 2], np.float32)
    blobs = {"n": [np.zeros(3), np.ones(3), np.ones(1)], "s": [weight]}
    x = torch.tensor([[2.0, -4, 6], [1, 1, 1]])
    limits, want = "min_value: 0.25 max_value: 1.5", [0.25, 0.5, 1.5]
    for optimize in (False, True):
        net = netcompiler.compile(netcompiler.parse(text % limits), blobs, optimize=optimize, device="cpu")
        torch.testing.assert_close(net(x)["y"], x / 2 * torch.tensor(want))
    net = netcompiler.compile(netcompiler.parse(text % limits), blobs, phase="TRAIN", optimize=False, device="cpu")
    net(x)["y"].sum().backward()
    assert net.caffe_params()["s"][0].tolist() == want
    np.testing.assert_allclose(net.caffe_grads()["s"][0], [1.5, -1.5, 3.5])
