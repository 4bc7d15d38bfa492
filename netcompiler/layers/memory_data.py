"""MemoryData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import layer
from .data import PictureLayer


@layer("MemoryData")
@dataclass(frozen=True, slots=True)
class MemoryData(PictureLayer):
    """Arrays that the caller feeds, in Caffe too.

    top[0]: batch_size x channels x height x width      top[1]: batch_size labels
    transform_param is not looked at: what is fed here is taken as it is.
    Source: Caffe, src/caffe/layers/memory_data_layer.cpp.
    """

    n_top = (2, 2)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.memory_data_param
        for name in ("batch_size", "channels", "height", "width"):
            if not getattr(p, name):
                what, at = f"{name} must be positive", p.at(name) or "memory_data_param"
                raise NetError(what, at=at, expected="batch_size, channels, height and width", got=getattr(p, name))
        return cls.of(msg, p.batch_size, (p.channels, p.height, p.width))
