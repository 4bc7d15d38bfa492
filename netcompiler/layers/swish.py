"""Swish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Swish")
@dataclass(frozen=True, slots=True)
class Swish(Layer):
    """y = x / (1 + exp(-beta x)), for each element; the top has the bottom's shape.

    Source: Caffe, src/caffe/layers/swish_layer.cpp; Ramachandran et al. 2017.
    """

    category = "activation"

    beta: float = 1.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(msg.swish_param.beta)

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        x = bottoms[0]
        return F.silu(x) if self.beta == 1 else x * (x * self.beta).sigmoid()
