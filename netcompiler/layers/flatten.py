"""Flatten."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, axis, layer, not_in_place, whole_from

if TYPE_CHECKING:
    from torch import Tensor


@layer("Flatten")
@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """Merge the axes from `axis` to `end_axis` (-1: the last) into one.

    bottom[0]: N x C x H x W (any number of axes)      top[0]: N x (C H W)
    Quirk: an end_axis just before `axis` merges nothing and puts a new axis of 1 there.
    Source: Caffe, src/caffe/layers/flatten_layer.cpp.
    """

    category = "shape"

    views = True

    axis: int = 1
    end_axis: int = -1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p, rank = msg.flatten_param, len(bottoms[0])
        first, last = axis(p, "axis", rank), axis(p, "end_axis", rank)
        if last < first - 1:
            raise NetError("end_axis is before axis", at=p.at("end_axis"), expected=f"at least {first}", got=last)
        return cls(first, -1 if last == rank - 1 else last)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(max(self.axis, self.end_axis) + 1, bottoms)
        shape = bottoms[0]
        last = self.end_axis % len(shape)
        return ((*shape[: self.axis], prod(shape[self.axis : last + 1]), *shape[last + 1 :]),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return whole_from(self.axis, bottoms[0])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        if self.axis > self.end_axis % x.dim():
            return x.unsqueeze(self.axis)
        return x.flatten(self.axis, self.end_axis)
