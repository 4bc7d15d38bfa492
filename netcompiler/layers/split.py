"""Split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import ANY, Layer, layer, not_in_place

if TYPE_CHECKING:
    from torch import Tensor


@layer("Split")
@dataclass(frozen=True, slots=True)
class Split(Layer):
    """Give one blob several names; the gradients of the tops add up.

    bottom[0]: N x C x H x W      top[i]: the same
    Caffe puts it wherever a blob has several readers; a graph needs none, and a net may still say it.
    Source: Caffe, src/caffe/layers/split_layer.cpp.
    """

    category = "combine"
    n_top = (1, ANY)
    views = True

    count: int

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        return cls(len(msg.top))

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms * self.count

    def is_identity(self) -> bool:
        return True

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return bottoms * self.count
