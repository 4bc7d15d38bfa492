"""AbsVal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer, not_in_place

if TYPE_CHECKING:
    from torch import Tensor


@layer("AbsVal")
@dataclass(frozen=True, slots=True)
class AbsVal(Layer):
    """y = |x|, for each element; the top has the bottom's shape. The gradient at 0 is 0. Not in place, as in Caffe.

    Source: Caffe, src/caffe/layers/absval_layer.cpp.
    """

    category = "activation"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return bottoms[0].abs()
