"""Tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, axis, layer, not_in_place, whole_from

if TYPE_CHECKING:
    from torch import Tensor


@layer("Tile")
@dataclass(frozen=True, slots=True)
class Tile(Layer):
    """Repeat the whole blob along one axis, `tiles` times.

    bottom[0]: N x C x H x W      top[0]: N x (tiles C) x H x W;  top[n, c] = bottom[n, c mod C]
    Source: Caffe, src/caffe/layers/tile_layer.cpp.
    """

    category = "shape"

    tiles: int
    axis: int = 1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.tile_param
        if p.tiles < 1:
            got = p.tiles if p.has("tiles") else "none"
            raise NetError("tiles must be positive", at=p.at("tiles"), expected="at least 1", got=got)
        return cls(p.tiles, axis(p, "axis", len(bottoms[0])))

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        shape = bottoms[0]
        return ((*shape[: self.axis], shape[self.axis] * self.tiles, *shape[self.axis + 1 :]),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return whole_from(self.axis, bottoms[0], self.axis + 1)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        return x.repeat(*(self.tiles if i == self.axis else 1 for i in range(x.dim())))
