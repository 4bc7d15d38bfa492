"""Clip."""

from __future__ import annotations

from dataclasses import dataclass, field
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

    Quirk: in place the gradient is 1 everywhere, as Caffe then looks for what was cut in values that are cut already.
    Source: Caffe, src/caffe/layers/clip_layer.cpp.
    """

    category = "activation"

    min: float
    max: float
    in_place: bool = field(default=False, repr=False)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.clip_param
        for name in ("min", "max"):
            if not p.has(name):
                raise NetError(f"{name} is missing", at="clip_param", expected="clip_param { min: ... max: ... }")
        if not p.min <= p.max:
            raise NetError("min is above max", at=p.at("min"), expected=f"at most {p.max:g}", got=f"{p.min:g}")
        return cls(p.min, p.max, list(msg.bottom) == list(msg.top))

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        y = x.clamp(self.min, self.max)
        return y.detach() + (x - x.detach()) if self.in_place and x.requires_grad else y
