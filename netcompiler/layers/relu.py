"""ReLU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("ReLU")
@dataclass(frozen=True, slots=True)
class ReLU(Layer):
    """y = max(x, 0) + negative_slope min(x, 0), for each element; the top has the bottom's shape.

    Intel Caffe's `fuse` says that the convolution before has done the same already, so it has no effect.
    Source: Caffe, src/caffe/layers/relu_layer.cpp.
    """

    category = "activation"
    ignored = frozenset({"engine", "fuse"})

    negative_slope: float = 0.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(msg.relu_param.negative_slope)

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        if self.negative_slope:
            return F.leaky_relu(bottoms[0], self.negative_slope)
        return F.relu(bottoms[0])
