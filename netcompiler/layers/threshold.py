"""Threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer, refuse_gradient

if TYPE_CHECKING:
    from torch import Tensor


@layer("Threshold")
@dataclass(frozen=True, slots=True)
class Threshold(Layer):
    """y = 1 where x > threshold, else 0, for each element; the top has the bottom's shape. It has no gradient.

    Source: Caffe, src/caffe/layers/threshold_layer.cpp.
    """

    category = "activation"

    threshold: float = 0.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(msg.threshold_param.threshold)

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        return refuse_gradient((x > self.threshold).to(x.dtype), x, "Threshold passes no gradient")
