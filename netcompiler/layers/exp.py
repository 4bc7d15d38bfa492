"""Exp and Log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Exp")
@dataclass(frozen=True, slots=True)
class Exp(Layer):
    """y = base ^ (shift + scale x), for each element; the top has the bottom's shape. A base of -1 means e.

    Computed as Caffe does it, base ^ shift * exp(ln(base) scale x).
    Source: Caffe, src/caffe/layers/exp_layer.cpp.
    """

    category = "activation"

    base: float = math.e
    scale: float = 1.0
    shift: float = 0.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.exp_param
        read = cls(_base(p), p.scale, p.shift)
        if not read.shift * math.log(read.base) < MOST:
            raise NetError("base ^ shift is too large", at=p.at("shift"), got=f"{read.base:g} ^ {read.shift:g}")
        return read

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        inner = math.log(self.base) * self.scale
        y = (bottoms[0] if inner == 1 else bottoms[0] * inner).exp()
        return y if self.shift == 0 else y * math.exp(self.shift * math.log(self.base))


@layer("Log")
@dataclass(frozen=True, slots=True)
class Log(Layer):
    """y = log(shift + scale x) to a base, for each element; the top has the bottom's shape. A base of -1 means e.

    Source: Caffe, src/caffe/layers/log_layer.cpp.
    """

    category = "activation"

    base: float = math.e
    scale: float = 1.0
    shift: float = 0.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.log_param
        base = _base(p)
        if base == 1:
            raise NetError("there is no logarithm to base 1", at=p.at("base"))
        return cls(base, p.scale, p.shift)

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        if self.scale != 1:
            x = x * self.scale
        if self.shift:
            x = x + self.shift
        y = x.log()
        return y if self.base == math.e else y * (1 / math.log(self.base))


MOST = math.log(3.4028234e38)  # of the exponents whose power Caffe's float32 can hold


def _base(p: Msg) -> float:
    """The base of an ExpParameter or LogParameter. Raises: NetError for one that has no logarithm."""
    base = float(p.base)
    if base == -1:
        return math.e
    if not 0 < base < math.inf:
        raise NetError(
            "the base must be positive", at=p.at("base"), expected="a positive number, or -1 for e", got=base
        )
    return base
