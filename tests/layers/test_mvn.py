import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def naive(variance=True, across=False, eps=1e-9):
    def mvn(x):
        x = x.reshape(*x.shape, *(1,) * (4 - x.ndim))
        y = np.zeros_like(x)
        for b in range(len(x)):
            for c in [slice(None)] if across else range(x.shape[1]):
                part = x[b, c]
                y[b, c] = part - part.mean()
                if variance:
                    y[b, c] /= np.sqrt(((part - part.mean()) ** 2).mean()) + eps
        return y

    return mvn


def mvn(fields):
    return f'type: "MVN" mvn_param {{ {fields} }}'


IMAGE = [(2, 3, 5, 7)]
ROWS = [
    Row("plain", 'type: "MVN"', IMAGE, IMAGE, naive()),
    Row("mean only", mvn("normalize_variance: false"), IMAGE, IMAGE, naive(variance=False)),
    Row("across channels", mvn("across_channels: true"), IMAGE, IMAGE, naive(across=True)),
    Row("eps adds to the deviation", mvn("eps: 0.5"), IMAGE, IMAGE, naive(eps=0.5), gradient=False),
    Row(
        "two axes become four",
        mvn("across_channels: true normalize_variance: false"),
        [(2, 3)],
        [(2, 3, 1, 1)],
        naive(variance=False, across=True),
    ),
]
BAD = [Bad("five axes", 'type: "MVN"', [(2, 3, 1, 5, 7)], "too many axes")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


@pytest.mark.parametrize("eps", [0.5, 1e-9])
def test_gradient_is_caffes(eps):
    """dx = (dy - mean(dy) - y mean(y dy)) / (s + eps): eps counts in the divisor only."""
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    x[1, 2] = 4.0  # of no variance: Caffe's gradient is finite
    x.requires_grad_()
    net = netcompiler.compile(
        netcompiler.parse(prototxt(mvn(f"eps: {eps}"), IMAGE, 1)), optimize=False, device="cpu", dtype="float64"
    )
    y = net(x)["t0"]
    dy = torch.randn_like(y)
    y.backward(dy)

    def mean(t):
        return t.mean((2, 3), keepdim=True)

    s = x.detach().var((2, 3), correction=0, keepdim=True).sqrt()
    y = y.detach()
    want = (dy - mean(dy) - y * mean(y * dy)) / (s + np.float64(np.float32(eps)))
    torch.testing.assert_close(x.grad, want)
