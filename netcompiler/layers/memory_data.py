"""MemoryData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import check_count, layer
from .data import PictureLayer


@layer("MemoryData")
@dataclass(frozen=True, slots=True)
class MemoryData(PictureLayer):
    """Arrays that the caller feeds, in Caffe too.

    top[0]: batch_size x channels x height x width      top[1]: batch_size labels
    MyCaffe: top[1] may be missing, and is batch_size x label_channels x label_height x label_width where these are given.
    transform_param is not looked at: what is fed here is taken as it is.
    Source: Caffe, src/caffe/layers/memory_data_layer.cpp; MyCaffe, MemoryDataLayer.
    """

    n_top = (1, 2)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.memory_data_param
        for name in ("batch_size", "channels", "height", "width"):
            if not getattr(p, name):
                what, at = f"{name} must be positive", p.at(name) or "memory_data_param"
                raise NetError(what, at=at, expected="batch_size, channels, height and width", got=getattr(p, name))
        if msg.dialect != "mycaffe":
            check_count(msg, "top", (2, 2))
        label = tuple(getattr(p, f"label_{name}") for name in ("channels", "height", "width"))
        kind = p.enum("label_type")
        if len(msg.top) > 1 and (kind == "NONE" or (kind == "MULTIPLE" and 0 in label)):
            expected = "label_channels, label_height and label_width" if kind == "MULTIPLE" else "no second top"
            raise NetError(f"label_type {kind} tells no labels", at=p.at("label_type"), expected=expected)
        return cls.of(msg, p.batch_size, (p.channels, p.height, p.width), () if 0 in label else label)
