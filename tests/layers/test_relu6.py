import numpy as np
import torch

import netcompiler

from .table import Row, prototxt, suite


def wide(rng, shape):
    return rng.uniform(-8, 16, shape)


def relu6(slope):
    return lambda x: np.minimum(np.maximum(x, 0) + slope * np.minimum(x, 0), 6)


ROWS = [
    Row("plain", 'type: "ReLU6"', [(2, 3, 5, 7)], [(2, 3, 5, 7)], relu6(0), feed={0: wide}),
    Row(
        "slope",
        'type: "ReLU6" relu6_param { negative_slope: 0.25 }',
        [(3, 11)],
        [(3, 11)],
        relu6(0.25),
        feed={0: wide},
    ),
]
test_row, test_gradient, test_bad = suite(ROWS)


def test_gradient_at_the_bends():
    for slope in (0.0, 0.25):
        text = prototxt(f'type: "ReLU6" relu6_param {{ negative_slope: {slope} }}', [(6,)], 1)
        net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
        x = torch.tensor([-1.0, 0, 1, 5.5, 6, 7], requires_grad=True)
        net(x)["t0"].sum().backward()
        assert x.grad.tolist() == [slope, slope, 1, 1, 0, 0]
