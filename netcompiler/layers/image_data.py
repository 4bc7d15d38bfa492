"""ImageData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import layer
from .data import PictureLayer, crop_of, fields_of


@layer("ImageData")
@dataclass(frozen=True, slots=True)
class ImageData(PictureLayer):
    """Picture files named in a list, with their labels, which the caller feeds here.

    top[0]: batch_size x C x H x W      top[1]: batch_size labels
    C is 3, or 1 where is_color is false. H x W is crop_size x crop_size, else new_height x new_width, else not known:
    Caffe takes it from the first picture, here it must be given. A given shape always wins.
    All settings of transform_param and image_data_param are taken, since only reading would use them.
    Source: Caffe, src/caffe/layers/image_data_layer.cpp.
    """

    n_top = (2, 2)
    ignored = fields_of("ImageDataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p, t = msg.image_data_param, msg.transform_param
        size = (p.new_height, p.new_width)
        if (size[0] == 0) != (size[1] == 0):
            at = p.at("new_height" if size[0] else "new_width")
            raise NetError("new_height and new_width go together", at=at, expected="both or none")
        crop = crop_of(t, p)
        if crop and size[0] and (crop[0] > size[0] or crop[1] > size[1]):
            at = t.at("crop_size") if t.has("crop_size") else p.at("crop_size")
            expected, got = f"at most {size[0]} x {size[1]}, new_height x new_width", f"{crop[0]} x {crop[1]}"
            raise NetError("the crop is larger than the picture", at=at, expected=expected, got=got)
        known = crop or (size if size[0] else None)
        return cls.of(msg, p.batch_size, (3 if p.is_color else 1, *known) if known else None)
