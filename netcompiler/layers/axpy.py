"""Axpy."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Window, Windows
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Axpy")
@dataclass(frozen=True, slots=True)
class Axpy(Layer):
    """a x + y, with an a for each channel of each item: the scaling of SENet's squeeze and excitation.

    bottom[0]: a, N x C or N x C x 1 x 1      bottom[1], bottom[2]: x and y, N x C x H x W      top[0]: N x C x H x W
    All three take a gradient.
    MACs: N C H W.
    Source: hujie-frank/SENet, src/caffe/layers/axpy_layer.cpp.
    """

    category = "combine"
    n_bottom = (3, 3)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        a, x, y = bottoms
        at_least(2, bottoms, 1)
        if a[:2] != x[:2] or prod(a[2:]) != 1:
            raise NetError("bottom 0 has the wrong shape", expected=f"{dims(x[:2])}, as bottom 1", got=dims(a))
        if y != x:
            raise NetError("bottom 2 has the wrong shape", expected=f"{dims(x)}, as bottom 1", got=dims(y))
        return (x,)

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0])

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        if bottom:
            return Layer.windows(self, bottoms, tops, bottom, top)
        return tuple(Window.whole(1) for _ in bottoms[0][2:])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        a, x, y = bottoms
        return a.reshape(*x.shape[:2], *(1,) * (x.dim() - 2)) * x + y
