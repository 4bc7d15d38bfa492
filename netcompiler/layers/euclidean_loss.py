"""EuclideanLoss."""

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


@layer("EuclideanLoss")
@dataclass(frozen=True, slots=True)
class EuclideanLoss(Layer):
    """loss = 1 / 2N  sum (a - b)^2.

    bottom[0], bottom[1]: N x C x H x W, the a and b; after N only the count must agree
    top[0]: a scalar, float32 at least
    Both bottoms take a gradient.
    Source: Caffe, src/caffe/layers/euclidean_loss_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        a, b = bottoms
        at_least(1, bottoms)
        if b[:1] != a[:1] or prod(b) != prod(a):
            expected = f"{dims(a)}, as bottom 0, or as many values for each of its {a[0]} items"
            raise NetError("the bottoms do not match", expected=expected, got=f"{dims(b)} at bottom 1")
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        a, b = bottoms
        exact = torch.promote_types(a.dtype, torch.float32)
        return (a.to(exact) - b.reshape(a.shape)).square().sum() / (2 * a.shape[0])
