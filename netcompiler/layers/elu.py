"""ELU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("ELU")
@dataclass(frozen=True, slots=True)
class ELU(Layer):
    """y = x where x > 0, else alpha (exp(x) - 1), for each element; the top has the bottom's shape.

    NVCaffe's `lambda` is a factor on both.
    Source: Caffe, src/caffe/layers/elu_layer.cpp; Clevert et al. 2015, eq. 15.
    """

    category = "activation"

    alpha: float = 1.0
    factor: float = 1.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.elu_param
        return cls(p.alpha, getattr(p, "lambda"))

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        y = F.elu(bottoms[0], self.alpha)
        return y if self.factor == 1 else y * self.factor
