"""ShuffleChannel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("ShuffleChannel")
@dataclass(frozen=True, slots=True)
class ShuffleChannel(Layer):
    """Interleave the channels of `group` groups: channel j of group i becomes channel j group + i.

    bottom[0]: N x C x H x W      top[0]: the same
    Source: farmingyard/ShuffleNet, shuffle_channel_layer.cpp; Zhang et al. 2017 (ShuffleNet), section 3.1.
    """

    category = "shape"

    group: int = 1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.shuffle_channel_param
        if p.group < 1:
            raise NetError("group must be positive", at=p.at("group"), got=p.group)
        return cls(p.group)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        if bottoms[0][1] % self.group:
            what = "group must divide the channels"
            raise NetError(what, at="group", expected=f"a divisor of {bottoms[0][1]}", got=self.group)
        return bottoms

    def is_identity(self) -> bool:
        return self.group == 1

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        n, c = x.shape[:2]
        return x.reshape(n, self.group, c // self.group, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
