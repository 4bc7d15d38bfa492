import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite

X = (3, 4, 5)


def selu(scale=1.050700987, alpha=1.67326324):
    return lambda x: scale * np.where(x > 0, x, alpha * (np.exp(x) - 1))


ROWS = [
    Row("default", 'type: "SeLu"', [X], [X], selu()),
    Row("settings", 'type: "SeLu" selu_param { lambda: 0.5 alpha: 2 }', [X], [X], selu(0.5, 2)),
    Row("dropout in TEST", 'type: "SeLuDropout"', [X], [X], lambda x: x),
]
BAD = [
    Bad(
        f"ratio {r}",
        f'type: "SeLuDropout" selu_dropout_param {{ dropout_ratio: {r} }}',
        [X],
        "out of range",
        at="dropout_ratio",
    )
    for r in (0, 1)
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_large_values_have_a_gradient():
    net = netcompiler.compile(netcompiler.parse(prototxt('type: "SeLu"', [(2,)], 1)), optimize=False, device="cpu")
    x = torch.tensor([1000.0, -1000.0], requires_grad=True)
    net(x)["t0"].sum().backward()
    assert x.grad.tolist() == [np.float32(1.050700987), 0]


def test_dropout_keeps_mean_and_variance():
    text = prototxt('type: "SeLuDropout" selu_dropout_param { dropout_ratio: 0.25 }', [(1000, 1000)], 1)
    net = netcompiler.compile(netcompiler.parse(text), phase="TRAIN", optimize=False, device="cpu")
    torch.manual_seed(0)
    x = torch.randn(1000, 1000, requires_grad=True)
    y = net(x)["t0"]
    assert abs(float(y.detach().mean())) < 0.01 and abs(float(y.detach().var()) - 1) < 0.01
    y.sum().backward()
    a = (0.75 * (1 + 1.75809934**2 * 0.25)) ** -0.5
    kept = x.grad != 0
    assert abs(float(kept.float().mean()) - 0.75) < 0.01
    torch.testing.assert_close(x.grad[kept], torch.full_like(x.grad[kept], a))
    dropped = y.detach()[~kept]
    torch.testing.assert_close(dropped, torch.full_like(dropped, a * -1.75809934 * 0.75))
