import numpy as np

import netcompiler

from .table import Bad, Row, prototxt, suite


def parameter(dims: str) -> str:
    return f'type: "Parameter" parameter_param {{ shape {{ {dims} }} }}'


ROWS = [
    Row("matrix", parameter("dim: 3 dim: 5"), [], [(3, 5)], lambda weight: weight, {"weight": (3, 5)}),
    Row(
        "filled (happynear)",
        'type: "Parameter" parameter_param { shape { dim: 3 } blob_filler { value: 2 } }',
        [],
        [(3,)],
        lambda weight: weight,
        {"weight": (3,)},
    ),
    Row("scalar", 'type: "Parameter"', [], [()], lambda weight: weight, {"weight": ()}),
]
BAD = [
    Bad("dim 0", parameter("dim: 3 dim: 0"), [], "positive dims", at="shape"),
    Bad("negative dim", parameter("dim: -3"), [], "positive dims", at="shape"),
    Bad("a bottom", parameter("dim: 3"), [(3,)], "the wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_starts_as_0_and_learns():
    net = netcompiler.compile(netcompiler.parse(prototxt(parameter("dim: 3"), [], 1)), optimize=False, device="cpu")
    (2 * net()["t0"]).sum().backward()
    assert net.caffe_params()["it"][0].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(net.caffe_grads()["it"][0], [2, 2, 2])


def test_starts_as_its_filler_says():
    text = 'type: "Parameter" parameter_param { shape { dim: 3 } blob_filler { value: 2 } }'
    net = netcompiler.compile(netcompiler.parse(prototxt(text, [], 1)), optimize=False, device="cpu")
    assert net()["t0"].tolist() == [2, 2, 2]
