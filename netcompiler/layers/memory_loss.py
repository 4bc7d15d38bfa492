"""MemoryLoss, of MyCaffe."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, at_least, layer, normalization, normalizer

if TYPE_CHECKING:
    from torch import Tensor


@layer("MemoryLoss")
@dataclass(frozen=True, slots=True)
class MemoryLoss(Layer):
    """A loss that the program that runs the net computes: loss = get_loss(*bottoms) / n.

    bottom[0], bottom[1]: N x C x H x W, the second if there is one      top[0]: a scalar
    get_loss is an attribute that the caller sets on the layer's module, a function of the bottoms that gives a tensor of
    one number; the gradient is that of what it computes. n by `normalization`: FULL and VALID N H W; BATCH_SIZE N; NONE 1,
    as where the two bottoms' items differ in size.
    Source: MyCaffe, MyCaffe/layers/MemoryLossLayer.cs.
    """

    category = "loss"
    n_bottom = (1, 2)
    is_loss = True
    anonymous_tops = True

    normalization: str | float = "VALID"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.loss_param
        p.has("ignore_label")  # looked at, and without effect
        return cls(normalization(p))

    def tops(self, bottoms: Shapes) -> Shapes:
        for i in range(len(bottoms)):
            at_least(2, bottoms, i)
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        get_loss = getattr(m, "get_loss", None)
        if get_loss is None:
            hint = "set get_loss on the layer's module: a function of its bottoms"
            raise NetError("nobody tells how to compute this loss", hint=hint)
        first = bottoms[0].shape
        alike = len({prod(b.shape[1:]) for b in bottoms}) == 1
        count = normalizer(self.normalization, first[0], prod(first[2:]), None) if alike else 1
        loss: Tensor = get_loss(*bottoms) / count
        return loss.reshape(())
