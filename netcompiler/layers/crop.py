"""Crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes, dims
from ..text import Msg
from ..windows import Window, Windows
from .base import Layer, at_least, axis, layer, not_in_place

if TYPE_CHECKING:
    from torch import Tensor


@layer("Crop")
@dataclass(frozen=True, slots=True)
class Crop(Layer):
    """Cut from the first bottom a part as large as the second, in the axes from `axis` on.

    bottom[0]: N x C x H x W      bottom[1]: the size, its values are not read      top[0]: N x C x H' x W'
    top[n, c, h, w] = bottom[n, c, h + offset_h, w + offset_w], with H' and W' of bottom[1]
    offset: one for all cropped axes, or one for each of them; 0 where none is given. bottom[1] gets no gradient.
    Source: Caffe, src/caffe/layers/crop_layer.cpp.
    """

    category = "shape"
    n_bottom = (2, 2)
    no_gradient = (1,)

    axis: int = 2
    offset: Shape = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.crop_param
        return cls(axis(p, "axis", len(bottoms[0])), tuple(p.offset))

    def tops(self, bottoms: Shapes) -> Shapes:
        shape, size = bottoms
        at_least(self.axis + 1, bottoms)
        at_least(len(shape), bottoms, 1)
        cropped = len(shape) - self.axis
        if len(self.offset) not in (0, 1, cropped):
            expected = f"none, 1 or {cropped}, one for each axis from {self.axis} on"
            raise NetError("the wrong number of offset", at="offset", expected=expected, got=len(self.offset))
        for i, start in enumerate(self.offsets(len(shape)), self.axis):
            if start + size[i] > shape[i]:
                expected = f"offset + {size[i]} (bottom 1: {dims(size)}) within {shape[i]} (bottom 0: {dims(shape)})"
                raise NetError(
                    f"the crop goes past the end of axis {i}", at="offset", expected=expected, got=f"offset {start}"
                )
        return ((*shape[: self.axis], *size[self.axis : len(shape)]),)

    def offsets(self, rank: int) -> Shape:
        """Where the crop starts in each axis from `axis` on."""
        return self.offset if len(self.offset) > 1 else (self.offset or (0,)) * (rank - self.axis)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        rank = len(bottoms[bottom])
        starts = dict(enumerate(self.offsets(rank), self.axis))
        return tuple(Window.sliding(1, 1, -starts.get(k, 0)) for k in range(2, rank))

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x, size = bottoms
        for i, start in enumerate(self.offsets(x.dim()), self.axis):
            x = x.narrow(i, start, size.shape[i])
        return x
