"""L1Loss."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, exactly, layer, same_shapes

if TYPE_CHECKING:
    from torch import Tensor

PAIR = 2  # bottoms


@layer("L1Loss")
@dataclass(frozen=True, slots=True)
class L1Loss(Layer):
    """loss = 1/n sum |d|.

    bottom[0]: a, N x C x H x W      bottom[1]: b, as many values      top[0]: a scalar, float32 at least
    NVCaffe's (also IDN's): d = a - b, n = N; both bottoms take a gradient.
    iResNet's and FlowNet2's, told by l1_loss_param, by a number of bottoms that is not 2, or by the dialect: d = a with one
    bottom; bottom[2]: a mask, N x C x H x W. Places where d is NaN, or the mask 0 or NaN, do not count.
        n is the number of places that count, divided by C; the loss is 0 where there are none.
        l2_per_location: the sum over the places of an image of sqrt(sum over the channels of d^2 + epsilon), with
        l2_prescale_by_channels of d^2 / C. plateau: |d| below it (the length, with l2_per_location) counts as 0.
        Quirks of its gradient: n is N H W there, or with normalize_by_num_entries that of the d that are no NaN, whatever
        the mask. That of |d| at 0 is -1. max_error, above 0: none where |d| is larger; and the plateau's places then have
        that at 0. With a mask none at all where n is more than `ratio` of all N C H W.
    Source: NVIDIA/caffe, src/caffe/layers/l1_loss_layer.cpp; leonzfa/iResNet, src/caffe/layers/l1loss_layer.cu.
    """

    category = "loss"
    n_bottom = (1, 3)
    is_loss = True
    anonymous_tops = True
    no_gradient = (2,)

    masked: bool = False  # iResNet's
    l2_per_location: bool = False
    l2_prescale_by_channels: bool = False
    normalize_by_num_entries: bool = False
    epsilon: float = 1e-2
    plateau: float = 0.0
    max_error: float = 0.0
    ratio: float = 1.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        if not msg.has("l1_loss_param") and len(bottoms) == PAIR and msg.dialect != "iresnet":
            return cls()
        p = msg.l1_loss_param
        switches = p.l2_per_location, p.l2_prescale_by_channels, p.normalize_by_num_entries
        return cls(True, *switches, p.epsilon, p.plateau, p.max_error, p.ratio)

    def tops(self, bottoms: Shapes) -> Shapes:
        if self.masked:
            exactly(4, bottoms)
            same_shapes(bottoms)
            return ((),)
        at_least(1, bottoms)
        a, b = bottoms
        if a[:1] != b[:1] or prod(a) != prod(b):
            expected = f"{dims(a)}, as bottom 0, or as many values for each of its {a[0]} items"
            raise NetError("the bottoms do not match", expected=expected, got=f"{dims(b)} at bottom 1")
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        a = bottoms[0]
        d = a.to(torch.promote_types(a.dtype, torch.float32))
        if len(bottoms) > 1:
            d = d - bottoms[1].reshape(a.shape)
        return self.where_valid(d, *bottoms[2:]) if self.masked else d.abs().sum() / len(a)

    def where_valid(self, d: Tensor, *masks: Tensor) -> Tensor:
        """iResNet's: the value of one expression, with the gradient of another that is made of the same."""
        import torch

        fixed, channels = d.detach(), d.shape[1]
        valid = ~fixed.isnan()
        entries = valid.sum() / channels if self.normalize_by_num_entries else d.new_tensor(d.numel() / channels)
        for mask in masks:
            valid = valid & (mask.detach() != 0) & ~mask.detach().isnan()
        n = valid.sum() / channels
        near = valid & (fixed.abs() <= self.max_error) if self.max_error > 0 else valid
        # What a place adds, and where it has a gradient.
        if self.l2_per_location:
            clean = torch.where(valid, fixed, 0)
            part = 1 / channels if self.l2_prescale_by_channels else 1.0
            squares = clean.square().sum(1, keepdim=True) * part
            far = squares >= self.plateau**2 if self.plateau > 0 else torch.ones_like(squares, dtype=torch.bool)
            roots = (squares * far + self.epsilon).sqrt()
            value, slope = roots.sum(), clean * part * far / roots
        else:
            apart = valid & (fixed.abs() >= self.plateau) if self.plateau > 0 else valid
            clean = torch.where(apart, fixed, 0)
            value, slope = clean.abs().sum(), torch.where(clean > 0, 1.0, -1.0).to(d.dtype)
            near = near if self.max_error > 0 else apart
        slope = torch.where(near, slope, 0)
        if masks:
            slope = slope * (n / d.numel() <= self.ratio)
        sought = (torch.where(near, d, 0) * slope).sum() / entries.clamp(min=1 / channels)
        loss = torch.where(n > 0, value / n.clamp(min=1 / channels), 0)
        return sought + (loss - sought).detach()
