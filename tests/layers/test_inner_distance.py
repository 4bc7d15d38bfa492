import numpy as np

import netcompiler

from .table import Bad, Row, prototxt, suite


def distance(fields):
    return f'type: "InnerDistance" inner_distance_param {{ {fields} }}'


def naive(power=2, scaled=False):
    def want(x, *given, weight=None, bias=None):
        weight = given[0] if given else weight
        bias = given[1] if len(given) > 1 else bias
        rows = weight.reshape(4, -1)
        if scaled:
            rows = rows / np.sqrt((rows**2).sum(1, keepdims=True) + 1e-6)
        x = x.reshape(len(x), -1)
        y = np.array([[(np.abs(a - r) ** power).sum() for r in rows] for a in x])
        return y if bias is None else y + bias.ravel()

    return want


X, W = (5, 2, 3), {"weight": (4, 6), "bias": (4,)}
ROWS = [
    Row("L2", distance("num_output: 4"), [X], [(5, 4)], naive(), W, 120),
    Row(
        "L1",
        distance('num_output: 4 distance_type: "L1" bias_term: false'),
        [X],
        [(5, 4)],
        naive(1),
        {"weight": (4, 6)},
        120,
    ),
    Row(
        "transposed in name",
        distance("num_output: 4 transpose: true"),
        [X],
        [(5, 4)],
        naive(),
        {"weight": (6, 4), "bias": (4,)},
        120,
    ),
    Row("scaled", distance("num_output: 4 normalize: true"), [X], [(5, 4)], naive(2, True), W, 120, gradient=False),
    Row("given", distance("num_output: 4 bias_term: false"), [X, (4, 6)], [(5, 4)], naive(), macs=120),
    Row("given, and nothing said of it", 'type: "InnerDistance"', [X, (4, 6)], [(5, 4)], naive(), macs=120),
    Row("given with a bias, and nothing said", 'type: "InnerDistance"', [X, (4, 6), (4,)], [(5, 4)], naive(), macs=120),
    Row("given with a bias", distance("num_output: 4 normalize: true"), [X, (4, 6), (4,)], [(5, 4)], naive(), macs=120),
]
BAD = [
    Bad("no output", distance(""), [X], "num_output must be positive"),
    Bad("kind", distance('num_output: 4 distance_type: "cos"'), [X], "unknown distance_type", at="distance_type"),
    Bad("weight", distance("num_output: 4 bias_term: false"), [X, (4, 5)], "bottom 1 has the wrong shape"),
    Bad("bias", distance("num_output: 4 bias_term: true"), [X, (4, 6)], "bias_term does not fit"),
    Bad("no bias", distance("bias_term: false"), [X, (4, 6), (4,)], "bias_term does not fit", at="bias_term"),
    Bad("a number for a weight", distance("bias_term: false"), [X, ()], "bottom 1 has too few axes"),
    Bad("centres", distance("num_output: 4 update_center_only: true"), [X], "not supported", at="update_center_only"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_weight_is_kept_scaled():
    text = prototxt(distance("num_output: 4 normalize: true bias_term: false"), [(5, 6)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    net.load_caffe_params({"it": [np.random.default_rng(0).standard_normal((4, 6))]})
    net(np.ones((5, 6)))
    np.testing.assert_allclose((net.caffe_params()["it"][0] ** 2).sum(1), 1, rtol=1e-5)
