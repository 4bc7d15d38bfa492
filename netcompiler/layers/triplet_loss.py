"""TripletLoss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, at_least, layer, same_shapes

if TYPE_CHECKING:
    from torch import Tensor


@layer("TripletLoss")
@dataclass(frozen=True, slots=True)
class TripletLoss(Layer):
    """loss = 1 / 2N  sum over the items of max(0, |a - p|^2 - |a - n|^2 + margin): alike pairs are to be the nearer ones.

    bottom[0], bottom[1], bottom[2]: a, p and n, N x C x .. each      bottom[3], if there is one: labels, which do not count
    top[0]: the loss, a scalar, float32 at least
    margin, 1 by default, is happynear's field, MyCaffe calls it alpha.
    Source: happynear/caffe-windows, src/caffe/layers/triplet_loss_layer.cpp; MyCaffe, TripletLossLayer.cs.
    """

    category = "loss"
    n_bottom = (3, 4)
    is_loss = True
    anonymous_tops = True
    no_gradient = (3,)
    ignored = frozenset({"engine", "pregen_label_start", "loss_param"})

    margin: float = 1.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.triplet_loss_param
        if p.has("margin") and p.has("alpha"):
            raise NetError("margin and alpha are both given", at=p.at("alpha"), hint="keep one of the two")
        return cls(p.alpha if p.has("alpha") else p.margin)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        same_shapes(bottoms[:3])
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        a, p, n = (b.to(exact).flatten(1) if b.dim() > 1 else b.to(exact)[:, None] for b in bottoms[:3])
        near, far = (a - p).square().sum(1), (a - n).square().sum(1)
        return (near - far + self.margin).relu().sum() / (2 * len(a))
