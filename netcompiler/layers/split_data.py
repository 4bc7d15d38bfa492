"""SplitData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, exactly, layer, same_shapes

if TYPE_CHECKING:
    from torch import Tensor


@layer("SplitData")
@dataclass(frozen=True, slots=True)
class SplitData(Layer):
    """The frames of a batch of pairs apart: the first of each pair, the second of each, and both labels in this order.

    bottom[0]: N x C x H x W, N even      bottom[1]: the same      top[0], top[1]: N/2 x C x H x W
    top[2]: bottom[1], the items 0, 2, 4, .. before 1, 3, 5, ..; it has no gradient.  `frame` has no effect.
    Source: tonyyangToBeNo1/colorization_flow_caffe, caffe/src/caffe/layers/split_data_layer.cpp.
    """

    category = "shape"
    n_bottom = (2, 2)
    n_top = (3, 3)
    no_gradient = (1,)
    ignored = frozenset({"engine", "frame"})

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        same_shapes(bottoms)
        n, *rest = bottoms[0]
        if n % 2:
            raise NetError("the batch is odd", expected="pairs of frames", got=f"{n} items")
        half = (n // 2, *rest)
        return half, half, bottoms[1]

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        x, labels = bottoms[0], bottoms[1].detach()
        return x[::2].contiguous(), x[1::2].contiguous(), torch.cat((labels[::2], labels[1::2]))
