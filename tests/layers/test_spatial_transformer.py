import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def transformer(fields=""):
    return f'type: "SpatialTransformer" st_param {{ {fields} }}'


def sampled(height, width, fixed=None):
    def want(x, theta):
        n, _, h, w = x.shape
        y = np.zeros((*x.shape[:2], height, width))
        for b in range(n):
            entries = list(theta[b].ravel())
            matrix = np.array([fixed[k] if fixed and k in fixed else entries.pop(0) for k in range(6)]).reshape(2, 3)
            for i, j in np.ndindex(height, width):
                p, q = matrix @ [2 * i / height - 1, 2 * j / width - 1, 1]
                r, c = (p + 1) * h / 2, (q + 1) * w / 2
                for a, d in np.ndindex(h, w):
                    y[b, :, i, j] += x[b, :, a, d] * max(0, 1 - abs(r - a)) * max(0, 1 - abs(c - d))
        return y

    return want


def near_identity(rng, shape):
    base = np.array([1, 0, 0, 0, 1, 0])[: shape[1]] if shape[1] == 6 else 0.1
    return (base + 0.3 * rng.standard_normal(shape[:2])).reshape(shape)


X = (2, 3, 5, 4)
FEED = {1: near_identity}
ROWS = [
    Row("same size", transformer(), [X, (2, 6)], [X], sampled(5, 4), feed=FEED),
    Row("size", transformer("output_H: 3 output_W: 7"), [X, (2, 6)], [(2, 3, 3, 7)], sampled(3, 7), feed=FEED),
    Row("theta as an image", transformer(), [X, (2, 6, 1, 1)], [X], sampled(5, 4), feed=FEED),
    Row(
        "fixed entries",
        transformer("theta_1_1: 0.9 theta_2_2: 1.1 theta_1_2: 0 theta_2_1: 0.2"),
        [X, (2, 2)],
        [X],
        sampled(5, 4, {0: 0.9, 4: 1.1, 1: 0.0, 3: 0.2}),
        feed=FEED,
    ),
]
BAD = [
    Bad("kind", transformer('transform_type: "tps"'), [X, (2, 6)], "unknown transform_type", at="transform_type"),
    Bad("sampler", transformer('sampler_type: "cubic"'), [X, (2, 6)], "unknown sampler_type", at="sampler_type"),
    Bad("theta", transformer("theta_1_1: 1"), [X, (2, 6)], "theta has the wrong shape"),
    Bad("batch", transformer(), [X, (3, 6)], "theta has the wrong shape"),
    Bad("size", transformer("output_H: 0"), [X, (2, 6)], "output_H must be positive", at="output_H"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


@pytest.mark.parametrize("computed", [True, False])
def test_gradient_at_whole_places(computed):
    """Of the identity: x lies on a pixel, towards which the one before counts."""
    text = prototxt(transformer(f"to_compute_dU: {str(computed).lower()}"), [(1, 1, 4, 4), (1, 6)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    theta = torch.tensor([[1.0, 0, 0, 0, 1, 0]], dtype=torch.float64, requires_grad=True)
    net(x, theta)["t0"].sum().backward()
    grid = torch.arange(4, dtype=torch.float64) / 2 - 1
    shift = 2 * x.detach()[0, 0]  # d top / d p, with only the pixel itself near
    want = [shift * grid[:, None], shift * grid, shift] * 2
    torch.testing.assert_close(theta.grad[0], torch.stack([w.sum() for w in want]))
    assert (x.grad is not None and bool((x.grad == 1).all())) == computed
