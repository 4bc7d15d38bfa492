"""Reduction."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, prod
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, axis, layer, not_in_place, whole_from

if TYPE_CHECKING:
    from torch import Tensor


@layer("Reduction")
@dataclass(frozen=True, slots=True)
class Reduction(Layer):
    """Reduce the axes from `axis` on to one number, times coeff.

    SUM: the sum.  ASUM: of absolute values.  SUMSQ: of squares.  MEAN: the mean.
    bottom[0]: N x C x H x W      top[0]: the axes before `axis`; none, a scalar, where it is 0
    The gradient of ASUM is 0 where x is 0.
    Source: Caffe, src/caffe/layers/reduction_layer.cpp.
    """

    category = "shape"

    operation: str = "SUM"
    axis: int = 0
    coeff: float = 1.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.reduction_param
        return cls(p.enum("operation"), axis(p, "axis", len(bottoms[0])), p.coeff)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        return (bottoms[0][: self.axis],)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return whole_from(self.axis, bottoms[0])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x, coeff = bottoms[0], self.coeff
        axes = tuple(range(self.axis, x.dim()))
        if self.operation == "MEAN":
            coeff = coeff / (prod(x.shape[self.axis :]) or nan)
        if self.operation == "ASUM":
            x = x.abs()
        if self.operation == "SUMSQ":
            x = x * x
        return x.sum(axes) * coeff
