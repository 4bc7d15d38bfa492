"""SigmoidCrossEntropyLoss."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, normalization, normalizer, refuse_gradient

if TYPE_CHECKING:
    from torch import Tensor


@layer("SigmoidCrossEntropyLoss")
@dataclass(frozen=True, slots=True)
class SigmoidCrossEntropyLoss(Layer):
    """loss = -1 / Z  sum  t ln(s) + (1 - t) ln(1 - s), with s = 1 / (1 + exp(-x)).

    bottom[0]: N x C x H x W, the x      bottom[1]: as many targets t, in N items
    top[0]: a scalar, float32 at least
    Positions whose target, cut towards 0, is ignore_label add nothing: with ignore_label 0 also those of 0.7.
    Z by normalization: N for BATCH_SIZE, which it is where nothing is set (unlike the softmax losses); all positions for
    FULL, those that count for VALID; 1 for NONE; never below 1.
    Source: Caffe, src/caffe/layers/sigmoid_cross_entropy_loss_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)

    normalization: str | float = "BATCH_SIZE"
    ignore_label: int | None = None

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.loss_param
        return cls(normalization(p, "BATCH_SIZE"), p.ignore_label if p.has("ignore_label") else None)

    def tops(self, bottoms: Shapes) -> Shapes:
        x, t = bottoms
        at_least(1, bottoms)
        if t[:1] != x[:1] or prod(t) != prod(x):
            expected = f"{dims(x)}, as bottom 0, or as many values in {x[0]} items"
            raise NetError("the targets do not match the scores", expected=expected, got=f"{dims(t)} at bottom 1")
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        x = bottoms[0].to(torch.promote_types(bottoms[0].dtype, torch.float32))
        target = bottoms[1].detach().reshape(x.shape).to(x.dtype)
        kept = None if self.ignore_label is None else target.trunc() != self.ignore_label
        losses = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        if kept is not None:
            losses = losses.where(kept, 0)
        n = x.shape[0]
        loss = losses.sum() / normalizer(self.normalization, n, x[:1].numel(), kept)
        return refuse_gradient(loss, bottoms[1], "SigmoidCrossEntropyLoss passes no gradient to its targets")
