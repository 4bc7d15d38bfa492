import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def positive(rng, shape):
    return rng.uniform(0.25, 4, shape)


def power(fields: str) -> str:
    return f'type: "Power" power_param {{ {fields} }}'


ROWS = [
    Row("identity", 'type: "Power"', [(2, 3, 5)], [(2, 3, 5)], lambda x: x),
    Row("scale and shift", power("scale: -2 shift: 0.5"), [(2, 3)], [(2, 3)], lambda x: 0.5 - 2 * x),
    Row("square", power("power: 2 scale: 3 shift: -1"), [(2, 3)], [(2, 3)], lambda x: (3 * x - 1) ** 2),
    Row("cube of negative values", power("power: 3"), [(2, 3)], [(2, 3)], lambda x: x * x * x),
    Row("root", power("power: 0.5 shift: 1"), [(2, 3)], [(2, 3)], lambda x: np.sqrt(x + 1), feed={0: positive}),
    Row("inverse", power("power: -1"), [(2, 3)], [(2, 3)], lambda x: 1 / x, feed={0: positive}),
    Row("power 0", power("power: 0 shift: 5"), [(2, 3)], [(2, 3)], lambda x: np.ones((2, 3))),
    Row("scale 0", power("power: 3 scale: 0 shift: -2"), [(2, 3)], [(2, 3)], lambda x: np.full((2, 3), -8.0)),
]
BAD = [Bad("misspelt", power("powr: 2"), [(2, 3)], 'did you mean "power"?', at="powr")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def run(fields, x):
    net = netcompiler.compile(
        netcompiler.parse(prototxt(power(fields), [tuple(x.shape)], 1)), optimize=False, device="cpu"
    )
    return net(x)["t0"]


def test_a_constant_does_not_look_at_the_bottom_and_has_gradient_0():
    x = torch.tensor([float("nan"), float("inf"), 0, 1], requires_grad=True)
    y = run("scale: 0 shift: 2 power: 3", x)
    y.sum().backward()
    assert y.tolist() == [8] * 4
    assert x.grad.tolist() == [0] * 4
    assert run("scale: 0 power: -1", x).tolist() == [float("inf")] * 4
    assert run("scale: 0 shift: -1 power: 0.5", x).isnan().all()


def test_only_the_plain_one_is_an_identity():
    layers = {f: netcompiler.build(netcompiler.parse(prototxt(power(f), [(3,)], 1))).nodes[-1].layer for f in IDENTITY}
    assert {f: layer.is_identity() for f, layer in layers.items()} == IDENTITY


IDENTITY = {"": True, "power: 2": False, "scale: 0.5": False, "shift: 1": False}


def test_the_gradient_at_0_is_the_derivative():
    x = torch.zeros(3, requires_grad=True)
    run("power: 3", x).sum().backward()
    assert x.grad.tolist() == [0] * 3
