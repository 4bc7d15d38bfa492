"""ContrastiveLoss."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("ContrastiveLoss")
@dataclass(frozen=True, slots=True)
class ContrastiveLoss(Layer):
    """Pull like pairs together, and push unlike ones apart as far as the margin: with d_n = |a_n - b_n|
        loss = 1 / 2N  sum_n  d_n^2 where the pair is alike, else max(margin - d_n, 0)^2.
    With legacy_version unlike pairs cost max(margin - d_n^2, 0).

    bottom[0], bottom[1]: N x C, the a and b (further axes of 1)      top[0]: a scalar, float32 at least
    bottom[2]: N labels, 0 where a pair is unlike; cut towards 0.
    Caffe's gradient for unlike pairs divides by d_n + 0.0001 in place of d_n; so it is 0 where a and b are equal.
    Source: Caffe, src/caffe/layers/contrastive_loss_layer.cpp; Hadsell et al. 2006.
    """

    category = "loss"
    n_bottom = (3, 3)
    is_loss = True
    anonymous_tops = True
    no_gradient = (2,)

    margin: float = 1.0
    legacy_version: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.contrastive_loss_param
        return cls(p.margin, p.legacy_version)

    def tops(self, bottoms: Shapes) -> Shapes:
        a, b, labels = bottoms
        at_least(1, bottoms)
        if prod(a[2:]) != 1:
            raise NetError("the pairs must be N x C", expected="further axes of 1", got=dims(a))
        if ((*b, 1)[:2], prod(b[2:])) != ((*a, 1)[:2], 1):
            raise NetError("the two sides of the pairs differ in shape", expected=dims(a), got=f"{dims(b)} at bottom 1")
        if prod(labels) != a[0]:
            raise NetError("each pair needs one label", expected=a[0], got=f"{prod(labels)} ({dims(labels)})")
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        a, b, labels = bottoms
        n, exact = a.shape[0], torch.promote_types(a.dtype, torch.float32)
        alike = labels.detach().reshape(n).long() != 0
        pairs = n, prod(a.shape[1:])
        square = (a.reshape(pairs).to(exact) - b.reshape(pairs)).square().sum(1)
        if self.legacy_version:
            return square.where(alike, (self.margin - square).relu()).sum() / (2 * n)
        distance = square.detach().sqrt()
        short = (self.margin - distance).relu()
        loss = square.detach().where(alike, short.square()).sum() / (2 * n)
        slope = (-short / (distance + 1e-4)).masked_fill(alike, 1)
        steered = (slope * square).sum() / (2 * n)  # its gradient is Caffe's
        return loss + (steered - steered.detach())
