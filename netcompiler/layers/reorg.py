"""Reorg."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, exactly, layer, not_in_place

if TYPE_CHECKING:
    from torch import Tensor


@layer("Reorg")
@dataclass(frozen=True, slots=True)
class Reorg(Layer):
    """Pictures of fewer pixels and more channels, as darknet mixes them: YOLO's passthrough. s is the stride.

    bottom[0]: N x C x H x W      top[0]: N x C s^2 x H/s x W/s;   reverse: N x C / s^2 x H s x W s
    Reverse: pixel (h s + i, w s + j) of channel c is pixel (h, w) of channel (i s + j) C / s^2 + c, a depth-to-space.
    Quirk: forward is not the inverse of that. It reads the bottom's memory as a picture of C / s^2 x H s x W s, and does to
    that what the inverse would; so each channel of the top holds pieces of several places.
    Source: darknet, src/blas.c; MobileNet-YOLO, src/caffe/layers/reorg_layer.cpp, whose gradient is always 0 where this
    one is the true one.
    """

    category = "shape"

    stride: int
    reverse: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.reorg_param
        if not p.stride:
            raise NetError("stride is missing", at=p.at("stride") or "reorg_param", expected="stride: 2, for example")
        return cls(p.stride, p.reverse)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, c, h, w = bottoms[0]
        s = self.stride
        if c % (s * s):
            expected = f"channels that {s} x {s} = {s * s} divides"
            raise NetError("the channels do not fit the stride", at="stride", expected=expected, got=c)
        if self.reverse:
            return ((n, c // (s * s), h * s, w * s),)
        if h % s or w % s:
            raise NetError(
                "the image does not fit the stride", at="stride", expected=f"sides that {s} divides", got=dims((h, w))
            )
        return ((n, c * s * s, h // s, w // s),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x, s = bottoms[0], self.stride
        n, c, h, w = x.shape
        fewer = c // (s * s)
        if self.reverse:
            y = x.reshape(n, s, s, fewer, h, w).permute(0, 3, 4, 1, 5, 2)
            return y.reshape(n, fewer, h * s, w * s)
        y = x.reshape(n, fewer, h, s, w, s).permute(0, 3, 5, 1, 2, 4)
        return y.reshape(n, c * s * s, h // s, w // s)
