"""ChannelScale."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("ChannelScale")
@dataclass(frozen=True, slots=True)
class ChannelScale(Layer):
    """x s, with one s for all channels of a place.

    bottom[0]: x, N x C x H x W      bottom[1]: s, N first, N H W values in any shape      top[0]: N x C x H x W
    do_forward false: the top is x. do_backward_feature false: the top's gradient goes to x as it is, not times s.
    do_backward_scale false: s takes none.
    MACs: N C H W.
    Source: happynear/caffe-windows, src/caffe/layers/channel_scale_layer.cpp.
    """

    category = "combine"
    n_bottom = (2, 2)

    do_forward: bool = True
    do_backward_feature: bool = True
    do_backward_scale: bool = True

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.channel_scale_param
        return cls(p.do_forward, p.do_backward_feature, p.do_backward_scale)

    def tops(self, bottoms: Shapes) -> Shapes:
        x, s = bottoms
        at_least(2, bottoms)
        count = x[0] * prod(x[2:])
        if s[:1] != x[:1] or prod(s) != count:
            expected = f"{x[0]} first and {count} values, as bottom 0 is {dims(x)}"
            raise NetError("bottom 1 has the wrong shape", expected=expected, got=dims(s))
        return (x,)

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0])

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        same = bottom == 0 or bottoms[1] == (bottoms[0][0], 1, *bottoms[0][2:])
        return Layer.windows(self, bottoms, tops, bottom, top) if same else None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x, s = bottoms[0], bottoms[1].reshape(bottoms[0].shape[0], 1, *bottoms[0].shape[2:])
        value = x * s if self.do_forward else x
        if self.do_forward and self.do_backward_feature and self.do_backward_scale:
            return value
        sought = x * s.detach() if self.do_backward_feature else x
        if self.do_backward_scale:
            sought = sought + x.detach() * s
        return sought + (value - sought).detach()
