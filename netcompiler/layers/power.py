"""Power."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Power")
@dataclass(frozen=True, slots=True)
class Power(Layer):
    """y = (shift + scale x) ^ power, for each element; the top has the bottom's shape.

    Where power or scale is 0, y does not depend on x, not even on a NaN: it is shift ^ power, and 1 for power 0.
    The gradient is the derivative. Caffe divides y by shift + scale x there, which makes a NaN of a gradient at 0; this
    one fault is not kept.
    Source: Caffe, src/caffe/layers/power_layer.cpp.
    """

    category = "activation"

    power: float = 1.0
    scale: float = 1.0
    shift: float = 0.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.power_param
        return cls(p.power, p.scale, p.shift)

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def is_identity(self) -> bool:
        return (self.power, self.scale, self.shift) == (1, 1, 0)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0]
        if self.power * self.scale == 0:
            never = torch.zeros_like(x, dtype=torch.bool)  # so that x takes a gradient, of 0
            return x.where(never, torch.full_like(x, self.shift).pow(self.power))
        if self.scale != 1:
            x = x * self.scale
        if self.shift:
            x = x + self.shift
        return x if self.power == 1 else x.pow(self.power)
