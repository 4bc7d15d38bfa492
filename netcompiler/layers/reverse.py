"""Reverse, Flip, Mirror and Transpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import SAME, Window, Windows
from .base import Layer, axis, exactly, layer

if TYPE_CHECKING:
    from torch import Tensor


def _turned(size: int) -> Window:
    """The windows along an axis that runs the other way."""
    return Window(tuple((i, i) for i in reversed(range(size))), None)


@layer("Reverse")
@dataclass(frozen=True, slots=True)
class Reverse(Layer):
    """The bottom with one axis the other way round.

    bottom[0]: any shape      top[0]: the same
    Source: tianzhi0549/CTPN, caffe/src/caffe/layers/reverse_layer.cpp.
    """

    category = "shape"

    axis: int = 0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(axis(msg.reverse_param, "axis", len(bottoms[0])))

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        shape = bottoms[0]
        return tuple(_turned(shape[k]) if k == self.axis else SAME for k in range(2, len(shape)))

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return bottoms[0].flip(self.axis)


@layer("Flip")
@dataclass(frozen=True, slots=True)
class Flip(Layer):
    """Mirror images left to right (flip_width), upside down (flip_height), or both.

    bottom[0]: N x C x H x W      top[0]: the same
    Source: happynear/caffe-windows, src/caffe/layers/flip_layer.cpp.
    """

    category = "shape"

    flip_width: bool = True
    flip_height: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.flip_param
        return cls(p.flip_width, p.flip_height)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        return bottoms

    def is_identity(self) -> bool:
        return not (self.flip_width or self.flip_height)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        turned = (self.flip_height, self.flip_width)
        return tuple(_turned(size) if on else SAME for size, on in zip(bottoms[0][2:], turned, strict=True))

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        axes = [k for k, on in ((2, self.flip_height), (3, self.flip_width)) if on]
        return bottoms[0].flip(axes)


@layer("Mirror")
@dataclass(frozen=True, slots=True)
class Mirror(Flip):
    """Mirror images left to right.

    bottom[0]: N x C x H x W      top[0]: the same
    Source: leonzfa/iResNet, src/caffe/layers/mirror_layer.cu.
    """

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()


@layer("Transpose")
@dataclass(frozen=True, slots=True)
class Transpose(Layer):
    """The bottom with its axes in another order: axis i of the top is axis dim[i] of the bottom.

    bottom[0]: any shape      top[0]: the bottom's dims in that order
    Source: tianzhi0549/CTPN, caffe/src/caffe/layers/transpose_layer.cpp.
    """

    category = "shape"

    dim: Shape = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(tuple(msg.transpose_param.dim))

    def tops(self, bottoms: Shapes) -> Shapes:
        rank = len(bottoms[0])
        if sorted(self.dim) != list(range(rank)):
            expected, got = f"each of 0 to {rank - 1} once", ", ".join(map(str, self.dim)) or "nothing"
            raise NetError("dim must name every axis of the bottom once", at="dim", expected=expected, got=got)
        return (tuple(bottoms[0][k] for k in self.dim),)

    def is_identity(self) -> bool:
        return list(self.dim) == list(range(len(self.dim)))

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        rank = len(self.dim)
        kept = all(self.dim[k] == k for k in range(2, rank))
        return (SAME,) * (rank - 2) if kept else None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return bottoms[0].permute(self.dim)
