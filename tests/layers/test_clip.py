import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def clip(fields: str) -> str:
    return f'type: "Clip" clip_param {{ {fields} }}'


ROWS = [
    Row(
        "both ends",
        clip("min: -0.5 max: 0.75"),
        [(2, 3, 5)],
        [(2, 3, 5)],
        lambda x: np.maximum(np.minimum(x, 0.75), -0.5),
    ),
]
BAD = [
    Bad("no max", clip("min: 1"), [(2, 3)], '"max" is missing'),
    Bad("no parameters", 'type: "Clip"', [(2, 3)], "min is missing", at="type"),
    Bad("turned round", clip("min: 2 max: 1"), [(2, 3)], "min is above max", at="min"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_gradient_at_the_ends_is_1():
    msg = netcompiler.parse(prototxt(clip("min: -1 max: 1"), [(5,)], 1))
    x = torch.tensor([-2.0, -1, 0, 1, 2], requires_grad=True)
    netcompiler.compile(msg, optimize=False, device="cpu")(x)["t0"].sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_in_place_the_gradient_is_1_everywhere():
    text = prototxt(clip("min: -1 max: 1"), [(5,)], 1).replace('top: "t0"', 'top: "b0"')
    x = torch.tensor([-2.0, -1, 0, 1, 2e30], requires_grad=True)
    y = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")(x)["b0"]
    y.sum().backward()
    assert y.tolist() == [-1, -1, 0, 1, 1] and x.grad.tolist() == [1] * 5
