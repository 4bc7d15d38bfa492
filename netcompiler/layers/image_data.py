"""ImageData, and what happynear and a colorization fork made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from .base import InputLayer, layer
from .data import PictureLayer, crop_of, fields_of


def new_size(p: Msg) -> Shape | None:
    """new_height and new_width; None where they are not given. Raises: NetError for one of them alone."""
    size = (p.new_height, p.new_width)
    if (size[0] == 0) != (size[1] == 0):
        at = p.at("new_height" if size[0] else "new_width")
        raise NetError("new_height and new_width go together", at=at, expected="both or none")
    return size if size[0] else None


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
        size = new_size(p)
        crop = crop_of(t, p)
        if crop and size and (crop[0] > size[0] or crop[1] > size[1]):
            at = t.at("crop_size") if t.has("crop_size") else p.at("crop_size")
            expected, got = f"at most {size[0]} x {size[1]}, new_height x new_width", f"{crop[0]} x {crop[1]}"
            raise NetError("the crop is larger than the picture", at=at, expected=expected, got=got)
        known = crop or size
        return cls.of(msg, p.batch_size, (3 if p.is_color else 1, *known) if known else None)


@layer("ImageDataModify")
@dataclass(frozen=True, slots=True)
class ImageDataModify(PictureLayer):
    """Picture files named in the lists that a list names, without labels, which the caller feeds here.

    top[0]: batch_size x C x H x W
    C and H x W as ImageData's, of image_data_modify_param. A given shape always wins. All settings are taken, those of
    image_data_param too, since only reading would use them.
    Source: tonyyangToBeNo1/colorization_flow_caffe, caffe/src/caffe/layers/image_data_modify_layer.cpp.
    """

    n_top = (1, 1)
    ignored = fields_of("ImageDataModifyParameter", "ImageDataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.image_data_modify_param
        known = crop_of(msg.transform_param, p) or new_size(p)
        return cls.of(msg, p.batch_size, (3 if p.is_color else 1, *known) if known else None)


@layer("MultiLabelImageData")
@dataclass(frozen=True, slots=True)
class MultiLabelImageData(PictureLayer):
    """Picture files named in a list, with several labels each, which the caller feeds here.

    top[0]: batch_size x C x H x W, as ImageData's      top[1]: batch_size x L labels
    The list tells L, so that the shape of top 1 must be given. All settings are taken, since only reading would use them.
    Source: happynear/caffe-windows, src/caffe/layers/multi_label_image_data_layer.cpp.
    """

    n_top = (2, 2)
    ignored = fields_of("ImageDataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.image_data_param
        known = crop_of(msg.transform_param, p) or new_size(p)
        data = (p.batch_size, 3 if p.is_color else 1, *known) if known and p.batch_size else None
        return cls((data, None))

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        return InputLayer.given(self, shapes)
