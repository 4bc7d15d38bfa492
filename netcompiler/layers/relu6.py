"""ReLU6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("ReLU6")
@dataclass(frozen=True, slots=True)
class ReLU6(Layer):
    """y = min(max(x, 0) + negative_slope min(x, 0), 6), for each element; the top has the bottom's shape.

    At 6 the gradient is 0, at 0 it is negative_slope.
    Source: MobileNet-YOLO, src/caffe/layers/relu6_layer.cpp.
    """

    category = "activation"

    negative_slope: float = 0.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(msg.relu6_param.negative_slope)

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        x = bottoms[0]
        if not self.negative_slope:
            return F.relu6(x)
        return 6 - F.relu(6 - F.leaky_relu(x, self.negative_slope))
