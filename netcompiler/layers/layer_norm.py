"""LayerNorm, of MyCaffe."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, layer, whole_from

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-10


def normalized(x: Tensor, epsilon: float) -> Tensor:
    """(x - mean) / sqrt(var + epsilon) over the axes from 2 on, or of a matrix over axis 1."""
    rows = x.flatten(min(x.dim() - 1, 2))
    off = rows - rows.mean(-1, keepdim=True)
    return (off / (off.square().mean(-1, keepdim=True) + epsilon).sqrt()).reshape(x.shape)


@layer("LayerNorm")
@dataclass(frozen=True, slots=True)
class LayerNorm(Layer):
    """y = (x - mean) / sqrt(var + epsilon), both over the axes from 2 on of each item and channel; nothing is learned.

    bottom[0]: N x C x D..      top[0]: the same      A matrix N x D counts as one channel.
    epsilon: 1e-10 where it is not given. enable_cuda_impl has no effect.
    Source: MyCaffe, MyCaffe.layers.gpt/LayerNormLayer.cs.
    """

    category = "normalisation"
    ignored = frozenset({"enable_cuda_impl"})

    epsilon: float = EPSILON

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.layer_norm_param
        epsilon = p.epsilon if p.has("epsilon") else EPSILON
        if epsilon < 0:
            raise NetError("epsilon cannot be negative", at=p.at("epsilon"), got=epsilon)
        return cls(epsilon)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        if not prod(bottoms[0][min(len(bottoms[0]) - 1, 2) :]):
            raise NetError("there is nothing to take the mean of", expected="positive dims", got=dims(bottoms[0]))
        return bottoms

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return whole_from(2, bottoms[0])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return normalized(bottoms[0], self.epsilon)
