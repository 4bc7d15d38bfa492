"""Permute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import Windows
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Permute")
@dataclass(frozen=True, slots=True)
class Permute(Layer):
    """The same values with the axes in another order: axis i of the top is axis order[i] of the bottom.

    bottom[0]: any shape      top[0]: its dims in the new order
    Axes that `order` does not name follow behind, in their old order.
    Source: SSD, src/caffe/layers/permute_layer.cpp.
    """

    category = "shape"

    order: Shape

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p, rank = msg.permute_param, len(bottoms[0])
        order = list(p.order)
        for i, along in enumerate(order):
            if along >= rank:
                got = f"{along}, and the bottom has {rank} axes"
                raise NetError("there is no such axis", at=p.at("order", i), expected=f"0 to {rank - 1}", got=got)
            if along in order[:i]:
                raise NetError(f"axis {along} is named twice", at=p.at("order", i))
        return cls((*order, *(i for i in range(rank) if i not in order)))

    def tops(self, bottoms: Shapes) -> Shapes:
        if len(bottoms[0]) != len(self.order):
            raise NetError("the number of axes has changed", at="order", expected=len(self.order), got=len(bottoms[0]))
        return (tuple(bottoms[0][i] for i in self.order),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        in_place = self.order[2:] == tuple(range(2, len(self.order)))
        return Layer.windows(self, bottoms, tops, bottom, top) if in_place else None

    def is_identity(self) -> bool:
        return self.order == tuple(range(len(self.order)))

    def brief(self) -> str:
        return " ".join(map(str, self.order))

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return bottoms[0].permute(self.order).contiguous()
