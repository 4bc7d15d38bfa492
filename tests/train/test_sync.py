"""BatchNorm over all ranks: what one rank makes of its part of a batch, the others being played by the test."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from netcompiler.train import sync


class Others:
    """Stands for torch.distributed on rank `own` of several, which all have their part of one batch."""

    def __init__(self, parts, own):
        self.parts, self.own, self.sums = parts, own, None

    def get_world_size(self):
        return len(self.parts)

    def all_gather(self, every, told):
        for i, part in enumerate(self.parts):
            if i == self.own:
                every[i].copy_(told)
                continue
            flat = part.transpose(0, 1).flatten(1).to(told.dtype)
            spread, middle = torch.var_mean(flat, 1, correction=0) if flat.shape[1] else (torch.zeros(len(flat)),) * 2
            every[i].copy_(torch.cat([middle, spread, torch.tensor([float(flat.shape[1])])]))

    def all_reduce(self, sums):
        self.sums = sums.clone()
        sums.copy_(self.total)


SHAPES = {"images": (3, 5, 4, 6), "rows": (7, 5), "volumes": (2, 5, 2, 3, 2)}


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("split", [(1.0,), (0.5, 0.5), (0.7, 0.0, 0.3)], ids=["one", "two", "an empty one"])
@pytest.mark.parametrize("shape", SHAPES)
def test_as_one_batch(shape, split, affine, monkeypatch):
    """Values, statistics, and the gradients of all, as of one batch in float64."""
    torch.manual_seed(0)
    whole = torch.randn((10, *SHAPES[shape][1:]), dtype=torch.float64) * 3 + 7
    give = torch.randn_like(whole)
    sizes = [round(10 * s) for s in split]
    weight = torch.rand(5, dtype=torch.float64).requires_grad_() if affine else None
    bias = torch.rand(5, dtype=torch.float64).requires_grad_() if affine else None
    x = whole.clone().requires_grad_()
    mean, variance = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    want = F.batch_norm(x, mean, variance, weight, bias, training=True, momentum=1.0, eps=1e-5)
    want.backward(give)
    wanted = [t.grad.clone() for t in (weight, bias) if t is not None]
    for t in (weight, bias):
        if t is not None:
            t.grad = None
    parts, grads = whole.split(sizes), give.split(sizes)
    axes = [i for i in range(whole.dim()) if i != 1]
    place = [1, -1, *[1] * (whole.dim() - 2)]
    scale = (whole.var(axes, correction=0) + 1e-5).rsqrt()
    total = torch.stack([give.sum(axes), (give * (whole - whole.mean(axes).view(place))).sum(axes) * scale])
    for own, (part, grad) in enumerate(zip(parts, grads, strict=True)):
        others = Others(parts, own)
        others.total = total
        monkeypatch.setattr(sync, "dist", others)
        mine = part.clone().requires_grad_()
        y, middle, spread = sync.batch_norm(mine, weight, bias, 1e-5, torch.float64)
        y.backward(grad)
        start = sum(sizes[:own])
        torch.testing.assert_close(y, want[start : start + sizes[own]].detach())
        torch.testing.assert_close(middle[0], mean)
        torch.testing.assert_close(spread[0], variance)  # times m / (m - 1), of all values
        torch.testing.assert_close(mine.grad, x.grad[start : start + sizes[own]])
    for t, grad in zip([t for t in (weight, bias) if t is not None], wanted, strict=True):
        torch.testing.assert_close(t.grad, grad)  # each rank adds its own values' share


def test_one_value_and_small_types(monkeypatch):
    monkeypatch.setattr(sync, "dist", Others([torch.zeros(1, 2)], 0))
    y, mean, variance = sync.batch_norm(torch.tensor([[3.0, 4.0]]), None, None, 1e-5, torch.float32)
    assert not y.any() and mean.tolist() == [[3.0, 4.0]] and variance.tolist() == [[0.0, 0.0]]
    x = torch.randn(8, 2, 3, 3).to(torch.bfloat16)
    monkeypatch.setattr(sync, "dist", Others([x], 0))
    y, *_ = sync.batch_norm(x, None, None, 1e-5, torch.float32)
    assert y.dtype == torch.bfloat16
    np.testing.assert_allclose(y.float().mean((0, 2, 3)), 0, atol=0.02)
