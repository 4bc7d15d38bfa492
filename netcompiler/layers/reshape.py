"""Reshape."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes, dims
from ..text import Msg
from ..windows import SAME, Window, Windows
from .base import Layer, at_least, layer, not_in_place

if TYPE_CHECKING:
    from torch import Tensor


@layer("Reshape")
@dataclass(frozen=True, slots=True)
class Reshape(Layer):
    """Give the same elements, in the same order, another shape.

    The num_axes axes from `axis` on (-1: all that follow) give way to the dims of `shape`: 0 copies the bottom's dim
    at the same place, one -1 is found from the count. A negative `axis` counts from behind the last axis: -1 appends.
    bottom[0]: D_0 x D_1 x ...      top[0]: D_0 x .. x D_(axis-1) x shape x D_(axis+num_axes) x ..
    Source: Caffe, src/caffe/layers/reshape_layer.cpp.
    """

    category = "shape"

    views = True

    shape: Shape
    axis: int = 0
    num_axes: int = -1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p, rank = msg.reshape_param, len(bottoms[0])
        shape, first, count = tuple(p.shape.dim), int(p.axis), int(p.num_axes)
        if min(shape, default=0) < -1 or shape.count(-1) > 1:
            expected = "positive dims, 0 for the bottom's own, and at most one -1"
            raise NetError("not a shape to reshape to", at=p.at("shape"), expected=expected, got=dims(shape))
        if not -rank - 1 <= first <= rank:
            got = f"{first}, and the bottom has {rank} axes"
            raise NetError("axis is out of range", at=p.at("axis"), expected=f"{-rank - 1} to {rank}", got=got)
        first += rank + 1 if first < 0 else 0
        if not -1 <= count <= rank - first:
            expected = f"-1, or 0 to {rank - first}, the axes from axis {first} on"
            raise NetError("num_axes is out of range", at=p.at("num_axes"), expected=expected, got=count)
        return cls(shape, first, count)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + max(self.num_axes, 0), bottoms)
        shape = bottoms[0]
        for i, d in enumerate(self.shape):
            if d == 0 and self.axis + i >= len(shape):
                got = f"axis {self.axis + i} of {dims(shape)}"
                raise NetError("there is no dim to copy for a 0", at="shape", expected="an axis of the bottom", got=got)
        top, count = self.replaced(shape), prod(shape)
        if -1 in top:
            known = -prod(top)
            if known == 0 or count % known:
                expected = f"{count}, the count of {dims(shape)}, divisible by the other dims"
                raise NetError("-1 cannot be found from the count", at="shape", expected=expected, got=known)
            top = tuple(count // known if d == -1 else d for d in top)
        if prod(top) != count:
            expected = f"{count}, as {dims(shape)} has"
            raise NetError(
                "the new shape has another count", at="shape", expected=expected, got=f"{prod(top)} ({dims(top)})"
            )
        return (top,)

    def replaced(self, shape: Shape) -> Shape:
        """The new shape, its -1 not yet found."""
        fresh = (shape[self.axis + i] if d == 0 else d for i, d in enumerate(self.shape))
        return (*shape[: self.axis], *fresh, *(shape[self.axis + self.num_axes :] if self.num_axes >= 0 else ()))

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        """An axis stays as it is where it and all behind it have their old sizes and places."""
        old, new = bottoms[0], tops[0]
        return tuple(
            SAME if len(new) == len(old) and new[k:] == old[k:] else Window.whole(old[k]) for k in range(2, len(old))
        )

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        return x.reshape(self.replaced(tuple(x.shape)))
