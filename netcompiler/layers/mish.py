"""Mish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Mish")
@dataclass(frozen=True, slots=True)
class Mish(Layer):
    """y = x tanh(log(1 + exp x)), for each element; the top has the bottom's shape.

    Source: Misra 2019, Mish: A Self Regularized Non-Monotonic Activation Function; the forks for YOLOv4.
    """

    category = "activation"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.mish(bottoms[0])
