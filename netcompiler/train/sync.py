"""Batch normalisation over the batches of all ranks: one mean and one variance for all, forward and backward."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, exact: Any) -> tuple[Tensor, ...]:
    """y, and over the values of all ranks the mean, and the variance times m / (m - 1) (1 where m is 1); 1 x C each.

    y = (x - mean) / sqrt(variance + eps) weight + bias. The gradient is that of all ranks' losses together, so that, once
    the ranks' gradients are averaged, it is that of one process with all their batches.
    """
    channels = x.shape[1]
    ones, zeros = (
        torch.ones(channels, dtype=exact, device=x.device),
        torch.zeros(channels, dtype=exact, device=x.device),
    )
    y, mean, variance, count = _Norm.apply(x, ones if weight is None else weight, zeros if bias is None else bias, eps)  # type: ignore[no-untyped-call]
    return y, mean[None], (variance * (count / (count - 1).clamp(min=1)))[None]


class _Norm(torch.autograd.Function):
    """x, weight, bias, eps -> y, mean, variance, count; the last three take no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        channels, own = x.shape[1], x.numel() // max(x.shape[1], 1)
        axes = [i for i in range(x.dim()) if i != 1]
        wide = x.to(weight.dtype)
        spread, middle = torch.var_mean(wide, axes, correction=0) if own else (torch.zeros_like(weight),) * 2
        told = torch.cat([middle, spread, middle.new_full((1,), own)])
        every = [torch.empty_like(told) for _ in range(dist.get_world_size())]
        dist.all_gather(every, told)
        table = torch.stack(every)
        means, spreads, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (counts * (spreads + (means - mean) ** 2)).sum(0) / count
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), count)
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        axes = [i for i in range(x.dim()) if i != 1]
        place = [1, -1, *[1] * (x.dim() - 2)]
        dy, centred = grads[0].to(weight.dtype), x.to(weight.dtype) - mean.view(place)
        sums = torch.stack([dy.sum(axes), (dy * centred).sum(axes) * scale])
        to_bias, to_weight = sums.clone()
        dist.all_reduce(sums)
        share = sums / count
        dx = dy - share[0].view(place) - centred * (scale * share[1]).view(place)
        return (dx * (weight * scale).view(place)).to(x.dtype), to_weight, to_bias, None
