"""SoftmaxWithLossOHEM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import layer
from .softmax_with_loss import SoftmaxLoss

if TYPE_CHECKING:
    from torch import Tensor


@layer("SoftmaxWithLossOHEM")
@dataclass(frozen=True, slots=True)
class SoftmaxWithLossOHEM(SoftmaxLoss):
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

    n_top = (1, 3)

    per_item: bool = False
    firsts: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        shared = cls.common(msg, bottoms)
        return cls(*shared, len(msg.top) > 2, msg.dialect == "intel" and shared[2] is not None)

    def tops(self, bottoms: Shapes) -> Shapes:
        return (*SoftmaxLoss.tops(self, bottoms), *((bottoms[1],) * self.per_item))

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops, chosen = self.found(*bottoms)
        if self.per_item:
            tops.append(-chosen.detach().reshape(bottoms[1].shape))
        return tuple(tops) if len(tops) > 1 else tops[0]

    def total(self, chosen: Tensor, kept: Tensor | None, scores: Tensor, labels: Tensor) -> Tensor:
        import torch

        total = chosen.sum()
        if not self.firsts or kept is None:
            return total
        parts = chosen.detach().flatten()
        summed = parts * (torch.arange(len(parts), device=parts.device) < kept.sum())
        return total + (summed.sum() - total.detach())
