"""WindowData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..graph import Shapes
from ..text import Msg
from .base import layer
from .data import PictureLayer, crop_of, fields_of


@layer("WindowData")
@dataclass(frozen=True, slots=True)
class WindowData(PictureLayer):
    """Windows of pictures, warped to one size, with their labels, which the caller feeds here.

    top[0]: batch_size x 3 x crop_size x crop_size      top[1]: batch_size labels
    Caffe takes the channels from its window file; its pictures are always read in colour. A given shape always wins.
    All settings of transform_param and window_data_param are taken, since only reading would use them.
    Source: Caffe, src/caffe/layers/window_data_layer.cpp.
    """

    n_top = (2, 2)
    ignored = fields_of("WindowDataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.window_data_param
        crop = crop_of(msg.transform_param, p)
        return cls.of(msg, p.batch_size, (3, *crop) if crop else None)
