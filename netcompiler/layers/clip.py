"""Clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Clip")
@dataclass(frozen=True, slots=True)
class Clip(Layer):
    """y = max(min, min(x, max)), for each element; the top has the bottom's shape. At both ends the gradient is 1.

    Source: Caffe, src/caffe/layers/clip_layer.cpp.
    """

    min: float
    max: float

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.clip_param
        for name in ("min", "max"):
            if not p.has(name):
                raise NetError(f"{name} is missing", at="clip_param", expected="clip_param { min: ... max: ... }")
        if not p.min <= p.max:
            raise NetError("min is above max", at=p.at("min"), expected=f"at most {p.max:g}", got=f"{p.min:g}")
        return cls(p.min, p.max)

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return bottoms[0].clamp(self.min, self.max)
