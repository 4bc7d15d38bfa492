"""Sigmoid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Sigmoid")
@dataclass(frozen=True, slots=True)
class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x)), for each element; the top has the bottom's shape.

    Source: Caffe, src/caffe/layers/sigmoid_layer.cpp.
    """

    category = "activation"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return bottoms[0].sigmoid()
