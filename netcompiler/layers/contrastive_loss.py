"""ContrastiveLoss."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    bottom[2]: N labels, 0 where a pair is unlike; cut towards 0. MyCaffe: or N x 2 or N x 3, alike where all are equal.
    top[1], with output_matches (MyCaffe): N x 1 x 1 x 1, 1 where margin - d_n is 0 or more, or below 0 where unlike; else 0
    Caffe's gradient for unlike pairs divides by d_n + 0.0001 in place of d_n; so it is 0 where a and b are equal.
    Source: Caffe, src/caffe/layers/contrastive_loss_layer.cpp; Hadsell et al. 2006; MyCaffe, ContrastiveLossLayer.
    """

    category = "loss"
    n_bottom = (3, 3)
    n_top = (1, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (2,)

    margin: float = 1.0
    legacy_version: bool = False
    matches: bool = False  # whether top[1] is there
    several: bool = field(default=False, repr=False)  # whether a pair may have several labels

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.contrastive_loss_param
        if len(msg.top) > 1 and not p.output_matches:
            raise NetError("only output_matches has a second top", at=msg.at("top", 1), expected=1, got=len(msg.top))
        p.has("output_matches")
        return cls(p.margin, p.legacy_version, len(msg.top) > 1, msg.dialect == "mycaffe")

    def tops(self, bottoms: Shapes) -> Shapes:
        a, b, labels = bottoms
        at_least(1, bottoms)
        if prod(a[2:]) != 1:
            raise NetError("the pairs must be N x C", expected="further axes of 1", got=dims(a))
        if ((*b, 1)[:2], prod(b[2:])) != ((*a, 1)[:2], 1):
            raise NetError("the two sides of the pairs differ in shape", expected=dims(a), got=f"{dims(b)} at bottom 1")
        counts = (1, 2, 3) if self.several else (1,)
        if prod(labels) not in [a[0] * count for count in counts]:
            raise NetError("each pair needs one label", expected=a[0], got=f"{prod(labels)} ({dims(labels)})")
        return ((), (a[0], 1, 1, 1))[: 1 + self.matches]

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch

        a, b, labels = bottoms
        n, exact = a.shape[0], torch.promote_types(a.dtype, torch.float32)
        labels = labels.detach().reshape(n, labels.numel() // max(n, 1))
        alike = (labels.long() != 0).any(1) if labels.shape[1] <= 1 else (labels == labels[:, :1]).all(1)
        pairs = n, prod(a.shape[1:])
        square = (a.reshape(pairs).to(exact) - b.reshape(pairs)).square().sum(1)
        if self.legacy_version:
            loss = square.where(alike, (self.margin - square).relu()).sum() / (2 * n)
            return self.with_matches(loss, square.detach(), alike)
        distance = square.detach().sqrt()
        short = (self.margin - distance).relu()
        loss = square.detach().where(alike, short.square()).sum() / (2 * n)
        slope = (-short / (distance + 1e-4)).masked_fill(alike, 1)
        steered = (slope * square).sum() / (2 * n)  # its gradient is Caffe's
        return self.with_matches(loss + (steered - steered.detach()), distance, alike)

    def with_matches(self, loss: Tensor, distance: Tensor, alike: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The loss, and behind it which pairs the margin tells right."""
        if not self.matches:
            return loss
        near = self.margin - distance >= 0
        return loss, (near == alike).to(loss).reshape(-1, 1, 1, 1)
