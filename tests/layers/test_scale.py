import itertools

import numpy as np
import pytest

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
