import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, prototxt, suite

SIDES = [4, 16, 40, 100, 300]
ROWS = np.array([[k % 2, 10, 20, 10 + s - 1, 20 + s - 1] for k, s in enumerate(SIDES)], float)
MORE = np.arange(5 * 6).reshape(5, 2, 3, 1).astype(float)


def route(fields=""):
    return f'type: "ScaleRoute" scale_route_param {{ {fields} }}'


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("low_scale: 16 high_scale: 100", [1, 2]),
        ("low_scale: 100", [3, 4]),
        ("high_scale: 16", [0]),
        ("low_scale: 17 high_scale: 39", [2]),  # none: 40 / sqrt(17 39) is nearer to 1 than sqrt(17 39) / 16
        ("low_scale: 1000", [4]),
        ("high_scale: 2", [0]),
    ],
)
def test_values(fields, kept):
    text = prototxt(route(fields), [ROWS.shape, MORE.shape], 2)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    assert [v.shape for v in net.graph.nodes[-1].tops] == [ROWS.shape, MORE.shape]
    tops = net(torch.from_numpy(ROWS), torch.from_numpy(MORE).requires_grad_())
    np.testing.assert_array_equal(tops["t0"], ROWS[kept])
    np.testing.assert_array_equal(tops["t1"], MORE[kept])
    assert not tops["t1"].requires_grad


BAD = [
    Bad("tops", route(), [(5, 5), (5, 2)], "the wrong number of tops", at="top"),
    Bad("rows", route(), [(5, 4)], "no rows of 5"),
    Bad("others", route(), [(5, 5), (4, 2)], "the bottoms differ", tops=2),
    Bad("order", route("low_scale: 3 high_scale: 2"), [(5, 5)], "low_scale is above high_scale", at="low_scale"),
    Bad("zero", route("low_scale: 0"), [(5, 5)], "a scale must be positive"),
]
_, _, test_bad = suite([], BAD)
