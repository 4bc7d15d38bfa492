"""BNLL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("BNLL")
@dataclass(frozen=True, slots=True)
class BNLL(Layer):
    """y = ln(1 + exp(x)), for each element; the top has the bottom's shape. (The binomial normal log likelihood.)

    Source: Caffe, src/caffe/layers/bnll_layer.cpp.
    """

    category = "activation"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.softplus(bottoms[0], threshold=50)  # from there on y = x, also in double precision
