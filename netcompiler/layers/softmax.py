"""Softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, axis, layer, whole_from

if TYPE_CHECKING:
    from torch import Tensor


@layer("Softmax")
@dataclass(frozen=True, slots=True)
class Softmax(Layer):
    """y_c = exp(x_c) / sum over c' of exp(x_c'), along `axis`; the top has the bottom's shape.

    Source: Caffe, src/caffe/layers/softmax_layer.cpp.
    """

    category = "activation"

    axis: int = 1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(axis(msg.softmax_param, "axis", len(bottoms[0])))

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        return bottoms

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return whole_from(self.axis, bottoms[0], self.axis + 1)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return bottoms[0].softmax(self.axis)
