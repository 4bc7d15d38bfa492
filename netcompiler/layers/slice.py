"""Slice."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import SAME, Window, Windows
from .base import ANY, Layer, at_least, layer, not_in_place
from .concat import axis_or

if TYPE_CHECKING:
    from torch import Tensor


@layer("Slice")
@dataclass(frozen=True, slots=True)
class Slice(Layer):
    """Cut a blob into parts along one axis: at each slice_point or, without any, into `count` equal parts.

    bottom[0]: N x C x H x W      top[i]: N x C_i x H x W, where the C_i add up to C
    Source: Caffe, src/caffe/layers/slice_layer.cpp.
    """

    category = "combine"
    n_top = (1, ANY)

    count: int
    axis: int = 1
    slice_point: Shape = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p, count = msg.slice_param, len(msg.top)
        points = tuple(p.slice_point)
        if points and len(points) != count - 1:
            expected = f"none, or {count - 1}, one less than tops"
            raise NetError(
                "the wrong number of slice_point", at=p.at("slice_point"), expected=expected, got=len(points)
            )
        for i, (last, point) in enumerate(pairwise((0, *points))):
            if point <= last:
                expected, at = f"more than {last}", p.at("slice_point", i)
                raise NetError("slice_point must grow from one to the next", at=at, expected=expected, got=point)
        return cls(count, axis_or(p, "slice_dim", len(bottoms[0]), msg.dialect), points)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        shape = bottoms[0]
        before, after = shape[: self.axis], shape[self.axis + 1 :]
        return tuple((*before, size, *after) for size in self.sizes(shape[self.axis]))

    def sizes(self, size: int) -> list[int]:
        """What each top takes of an axis of this size."""
        if not self.slice_point:
            if size % self.count:
                expected = f"axis {self.axis} divisible by {self.count}, the number of tops"
                raise NetError("the parts are not equal", expected=expected, got=size, hint="give slice_point")
            return [size // self.count] * self.count
        if self.slice_point[-1] >= size:
            expected = f"less than {size}, the size of axis {self.axis}"
            raise NetError(
                "a slice_point is past the end", at="slice_point", expected=expected, got=self.slice_point[-1]
            )
        return [end - start for start, end in pairwise((0, *self.slice_point, size))]

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        before = sum(self.sizes(bottoms[0][self.axis])[:top])
        moved = Window.sliding(1, 1, -before)
        return tuple(moved if k == self.axis else SAME for k in range(2, len(bottoms[0])))

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0]
        return torch.split(x, self.sizes(x.shape[self.axis]), self.axis)
