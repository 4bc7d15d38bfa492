"""Norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-6


@layer("Norm")
@dataclass(frozen=True, slots=True)
class Norm(Layer):
    """y = x / (|x| + 1e-6), |x| being the length of all channels at one place.

    bottom[0]: N x C x H x W (N x C at least)      top[0]: the same
    The gradient is (|x|^2 g - x (x g)) / (|x|^3 + 1e-6), 0 where x is.
    Source: xiaolonw/caffe-video_triplet, src/caffe/layers/norm_layer.cpp.
    """

    category = "normalisation"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        class Normed(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                ctx.save_for_backward(x)
                return _normed(x)

            @staticmethod
            def backward(ctx: Any, *grads: Tensor) -> Any:
                (g,), (x,) = grads, ctx.saved_tensors
                square = x.square().sum(1, keepdim=True)
                return (square * g - x * (x * g).sum(1, keepdim=True)) / (square * square.sqrt() + EPS)

        x = bottoms[0]
        if torch.compiler.is_compiling():
            return _normed(x)
        top: Tensor = Normed.apply(x)  # type: ignore[no-untyped-call]
        return top


def _normed(x: Tensor) -> Tensor:
    length: Tensor = x.norm(dim=1, keepdim=True)
    return x / (length + EPS)
