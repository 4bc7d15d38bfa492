import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def scale(fields=""):
    return f'type: "ChannelScale" channel_scale_param {{ {fields} }}'


X, S = (2, 3, 4, 5), (2, 1, 4, 5)
ROWS = [
    Row("plain", scale(), [X, S], [X], lambda x, s: x * s, macs=120),
    Row("another shape", scale(), [X, (2, 20)], [X], lambda x, s: x * s.reshape(S), macs=120),
    Row("no image", scale(), [(3, 4), (3,)], [(3, 4)], lambda x, s: x * s[:, None], macs=12),
    Row("off", scale("do_forward: false"), [X, S], [X], lambda x, s: x, macs=120, gradient=False),
]
BAD = [
    Bad("count", scale(), [X, (2, 1, 4, 4)], "bottom 1 has the wrong shape"),
    Bad("batch", scale(), [X, (4, 1, 2, 5)], "bottom 1 has the wrong shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("feature", [True, False])
@pytest.mark.parametrize("by", [True, False])
def test_switches(forward, feature, by):
    fields = f"do_forward: {forward} do_backward_feature: {feature} do_backward_scale: {by}".lower()
    net = netcompiler.compile(netcompiler.parse(prototxt(scale(fields), [X, S], 1)), optimize=False, device="cpu")
    x, s, g = torch.randn(X, requires_grad=True), torch.randn(S, requires_grad=True), torch.randn(X)
    y = net(x, s)["t0"]
    torch.testing.assert_close(y.detach(), (x * s if forward else x).detach())
    (y * g).sum().backward()
    torch.testing.assert_close(x.grad, (g * s if feature else g).detach())
    want = (g * x).sum(1, keepdim=True).detach()
    np.testing.assert_allclose(s.grad if by else 0, want if by else s.grad or 0, rtol=1e-4, atol=1e-5)
