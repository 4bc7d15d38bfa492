"""Silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from .base import ANY, Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Silence")
@dataclass(frozen=True, slots=True)
class Silence(Layer):
    """Read blobs and do nothing, so that they are no outputs of the net. Their gradient from here is 0.

    bottom[i]: any shape      no top
    Source: Caffe, src/caffe/layers/silence_layer.cpp.
    """

    n_bottom = (1, ANY)
    n_top = (0, 0)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        return ()

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return ()
