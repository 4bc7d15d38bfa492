"""Gather and Scatter, of a fork that trains by MPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from ..windows import NOTHING, Windows
from .base import ANY, Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Passed(Layer):
    """Every top is its bottom, as it is in one process."""

    category = "shape"
    n_bottom = (1, ANY)
    n_top = (1, ANY)
    views = True

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        if len(msg.top) != len(bottoms):
            at = msg.at("top", min(len(msg.top) - 1, len(bottoms)))
            raise NetError(
                "the wrong number of tops", at=at, expected=f"{len(bottoms)}, one per bottom", got=len(msg.top)
            )
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return Layer.windows(self, bottoms, tops, bottom, top) if bottom == top else NOTHING

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return bottoms


@layer("Gather")
@dataclass(frozen=True, slots=True)
class Gather(Passed):
    """In one process the bottoms; of several, the fork puts their batches behind one another.

    bottom[i]: any shape      top[i]: the same
    Source: yjxiong/caffe, src/caffe/layers/gather_layer.cpp.
    """


@layer("Scatter")
@dataclass(frozen=True, slots=True)
class Scatter(Passed):
    """In one process the bottoms; of several, each takes its part of the batch.

    bottom[i]: any shape      top[i]: the same
    Source: yjxiong/caffe, src/caffe/layers/scatter_layer.cpp.
    """
