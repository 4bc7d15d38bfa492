"""CPMData, of OpenPose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from .base import InputLayer, layer
from .data import fields_of

CHANNELS = 4  # the picture and a map of the person's middle


@layer("CPMData")
@dataclass(frozen=True, slots=True)
class CPMData(InputLayer):
    """Pictures of people and maps of their parts, of an LMDB or LevelDB, which the caller feeds here.

    top[0]: batch_size x 4 x crop_size_y x crop_size_x: a picture, and a map of the person's middle
    top[1], if named: batch_size x 2 (num_parts + 1) x H / stride x W / stride, cut: where maps count, then the maps
    The database tells how many channels top 0 has, OpenPose's 6 with a map of who counts; a given shape always wins, and
    top 1 follows it. All other settings are taken, since only reading would use them.
    Source: CMU-Perceptual-Computing-Lab/caffe_train, src/caffe/layers/cpm_data_layer.cpp.
    """

    n_top = (1, 2)
    ignored = fields_of("DataParameter", "CPMTransformationParameter", "TransformationParameter")

    stride: int = 4
    num_parts: int = 14

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p, batch = msg.cpm_transform_param, msg.data_param.batch_size
        if not p.stride:
            raise NetError("stride must be positive", at=p.at("stride"), got=p.stride)
        data = (batch, CHANNELS, p.crop_size_y, p.crop_size_x)
        found = cls((), p.stride, p.num_parts)
        tops = (data, found.maps(data)) if batch else (None, None)
        return cls(tops[: len(msg.top)], p.stride, p.num_parts)

    def maps(self, data: Shape) -> Shape:
        """The shape of the labels."""
        return (data[0], 2 * (self.num_parts + 1), *(s // self.stride for s in data[2:]))

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        if len(shapes.get(0, ())) == 4 and len(self.shapes) > 1:
            shapes = {1: self.maps(shapes[0]), **shapes}
        return InputLayer.given(self, shapes)
