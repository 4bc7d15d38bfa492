"""SoftmaxWithLossOHEM."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, at_least, axis, layer, normalization, normalizer, one_label_each, refuse_gradient
from .softmax_with_loss import chosen_logs

if TYPE_CHECKING:
    from torch import Tensor


@layer("SoftmaxWithLossOHEM")
@dataclass(frozen=True, slots=True)
class SoftmaxWithLossOHEM(Layer):
    """SoftmaxWithLoss that also tells the loss of each position, for the choice of hard examples.

    bottom[0]: scores N x C x H x W      bottom[1]: labels, N H W of them in any shape, 0 to C - 1
    top[0]: loss = -1/n sum over positions of log(max(p, FLT_MIN)), p being the labelled class's softmax along `axis`; a
    scalar, float32 at least      top[1], if named: the softmax, N x C x H x W      top[2], if named: each position's
    part of the sum, in the labels' shape; both without gradient
    Positions labelled ignore_label add nothing, and their part is 0. n by `normalization`: FULL N H W; VALID those not
    ignored; BATCH_SIZE N; PRE_FIXED pre_fixed_normalizer; NONE 1; at least 1.
    Quirks of intel/caffe: with three tops it leaves the second as it was; here it is always the softmax, as in caffe-rfcn.
    With ignored labels, in its dialect, the sum is over as many first positions as are not ignored; the gradient is right.
    Source: intel/caffe, src/caffe/layers/softmax_loss_ohem_layer.cpp; caffe-rfcn, softmax_loss_ohem_layer.cu.
    """

    category = "loss"
    n_bottom = (2, 2)
    n_top = (1, 3)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)

    axis: int = 1
    normalization: str | float = "VALID"
    ignore_label: int | None = None
    softmax: bool = False
    per_item: bool = False
    firsts: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.loss_param
        ignored = p.ignore_label if p.has("ignore_label") else None
        along = axis(msg.softmax_param, "axis", len(bottoms[0]))
        firsts = msg.dialect == "intel" and ignored is not None
        return cls(along, normalization(p), ignored, len(msg.top) > 1, len(msg.top) > 2, firsts)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        one_label_each(bottoms, self.axis)
        return ((), *((bottoms[0],) * self.softmax), *((bottoms[1],) * self.per_item))

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch

        scores, along = bottoms[0], self.axis
        logs, chosen, kept = chosen_logs(scores, bottoms[1], along, self.ignore_label)
        outer, inner = prod(scores.shape[:along]), prod(scores.shape[along + 1 :])
        total = chosen.sum()
        if self.firsts and kept is not None:
            parts = chosen.detach().flatten()
            summed = parts * (torch.arange(len(parts), device=parts.device) < kept.sum())
            total = total + (summed.sum() - total.detach())
        loss = -total / normalizer(self.normalization, outer, inner, kept)
        loss = refuse_gradient(loss, bottoms[1], "SoftmaxWithLossOHEM passes no gradient to its labels")
        tops = [loss]
        if self.softmax:
            tops.append(logs.detach().exp().to(scores.dtype))
        if self.per_item:
            tops.append(-chosen.detach().reshape(bottoms[1].shape))
        return tuple(tops) if len(tops) > 1 else loss
