import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def insanity(fields=""):
    return f'type: "Insanity" insanity_param {{ {fields} }}'


def leaky(a):
    return lambda x: np.where(x > 0, x, x / a)


X = (3, 4, 5)
ROWS = [
    Row("negative", 'type: "NegReLU"', [X], [X], lambda x: np.minimum(x, 0)),
    Row("slope", 'type: "NegReLU" relu_param { negative_slope: 0.5 }', [X], [X], lambda x: np.where(x < 0, x, x / 2)),
    Row("insanity", insanity(), [X], [X], leaky(5 / np.log(2))),
    Row("bounds", insanity("lb: 2 ub: 8"), [X], [X], leaky(6 / np.log(4))),
]
BAD = [
    Bad("order", insanity("lb: 8 ub: 2"), [X], "ub must be above lb", at="ub"),
    Bad("zero", insanity("lb: 0"), [X], "lb must not be 0", at="lb"),
    Bad("one magnitude", insanity("lb: -2 ub: 2"), [X], "one magnitude", at="lb"),
    Bad("rank", insanity(), [(3,)], "too few axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_negrelu_at_zero_passes_the_slope():
    text = prototxt('type: "NegReLU" relu_param { negative_slope: 0.25 }', [(3,)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    x = torch.tensor([-1.0, 0, 1], requires_grad=True)
    net(x)["t0"].sum().backward()
    assert x.grad.tolist() == [1, 0.25, 0.25]


def test_insanity_draws_in_train():
    net = netcompiler.compile(netcompiler.parse(prototxt(insanity(), [(200, 500)], 1)), phase="TRAIN", device="cpu")
    torch.manual_seed(0)
    drawn = -1 / net(-torch.ones(200, 500))["t0"]
    assert 5 <= float(drawn.min()) < 5.01 and 9.99 < float(drawn.max()) <= 10.001
    assert abs(float(drawn.mean()) - 7.5) < 0.02
