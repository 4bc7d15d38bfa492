"""HingeLoss."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, at_least, layer, refuse_gradient, whole_numbers
from .multinomial_logistic_loss import one_label_per_item

if TYPE_CHECKING:
    from torch import Tensor


@layer("HingeLoss")
@dataclass(frozen=True, slots=True)
class HingeLoss(Layer):
    """One class against the others: loss = 1 / N  sum_nk max(0, 1 - s_nk x_nk)^p, with s_nk = 1 where k is the label of
    item n, else -1; p is 1 for the norm L1, and 2 for L2.

    bottom[0]: N x K, the scores (further axes are flattened into K)      top[0]: a scalar, float32 at least
    bottom[1]: N labels, 0 .. K - 1
    Source: Caffe, src/caffe/layers/hinge_loss_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)

    norm: str = "L1"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(msg.hinge_loss_param.enum("norm"))

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        one_label_per_item(bottoms)
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        n = bottoms[0].shape[0]
        x = bottoms[0].reshape(n, prod(bottoms[0].shape[1:])).to(torch.promote_types(bottoms[0].dtype, torch.float32))
        labels, _ = whole_numbers(bottoms[1].reshape(n, 1), x.shape[1])
        short = (1 + x.scatter(1, labels, -x.gather(1, labels))).relu()
        loss = (short if self.norm == "L1" else short.square()).sum() / n
        return refuse_gradient(loss, bottoms[1], "HingeLoss passes no gradient to its labels")
