"""ImageSegData, DenseImageData, WindowSegData and ImageLabelmapData: pictures with a label for each pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ..graph import Shape, Shapes
from ..text import Msg
from .base import InputLayer, layer
from .data import crop_of, fields_of
from .image_data import new_size


@dataclass(frozen=True, slots=True)
class LabelledPixels(InputLayer):
    """What the three share. Where the shape of top 0 is given, the others follow it."""

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        if 0 in shapes:
            shapes = {**dict(enumerate(_all_tops(shapes[0])[: len(self.shapes)])), **shapes}
        return InputLayer.given(self, shapes)

    @classmethod
    def of(cls, msg: Msg, batch: int, image: Shape | None) -> Self:
        """The layer for batches of an image of C x H x W; None and a batch of 0 are not known."""
        tops = _all_tops((batch, *image)) if image and batch else (None,) * 3
        return cls(tops[: len(msg.top)])


def _all_tops(data: Shape) -> tuple[Shape, ...]:
    """The shapes of data, label and data_dim."""
    return data, (data[0], 1, *data[2:]), (data[0], 1, 1, 2)


@layer("ImageSegData")
@dataclass(frozen=True, slots=True)
class ImageSegData(LabelledPixels):
    """Picture files and pictures of their labels, named in a list, which the caller feeds here.

    top[0]: batch_size x C x H x W      top[1]: the labels, batch_size x 1 x H x W      top[2]: height and width of each
    picture before it was padded, batch_size x 1 x 1 x 2
    C is 3, or 1 where is_color is false. H x W is crop_size x crop_size, else new_height x new_width, else not known: the
    shape must be given then. A given shape always wins.
    All settings of transform_param and image_data_param are taken, since only reading would use them.
    Source: cdmh/deeplab-public-ver2, HyeonwooNoh/caffe: src/caffe/layers/image_seg_data_layer.cpp.
    """

    n_top = (1, 3)
    ignored = fields_of("ImageDataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.image_data_param
        size = new_size(p)
        known = crop_of(msg.transform_param, p) or size
        return cls.of(msg, p.batch_size, (3 if p.is_color else 1, *known) if known else None)


@layer("WindowSegData")
@dataclass(frozen=True, slots=True)
class WindowSegData(ImageSegData):
    """Windows of pictures and of pictures of their labels, which the caller feeds here.

    top[0], top[1], settings: see ImageSegData
    Source: HyeonwooNoh/caffe, src/caffe/layers/window_seg_data_layer.cpp.
    """


@layer("ImageLabelmapData")
@dataclass(frozen=True, slots=True)
class ImageLabelmapData(ImageSegData):
    """Picture files and pictures of their edges, named in a list, which the caller feeds here (HED).

    top[0], top[1], settings: see ImageSegData
    Source: s9xie/hed, src/caffe/layers/image_labelmap_data_layer.cpp.
    """

    n_top = (2, 2)


@layer("SegData")
@dataclass(frozen=True, slots=True)
class SegData(LabelledPixels):
    """A colour picture file and a picture of its labels, named in a list, which the caller feeds here (PSPNet).

    top[0]: 1 x 3 x H x W      top[1]: the labels, 1 x 1 x H x W
    H x W is crop_size x crop_size, else crop_height x crop_width, else not known: the shape must be given then. A given shape
    always wins. All settings of transform_param and seg_data_param are taken, since only reading would use them.
    Source: yjxiong/caffe, src/caffe/layers/seg_data_layer.cpp.
    """

    n_top = (2, 2)
    ignored = fields_of("SegDataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        t = msg.transform_param
        sides = (t.crop_size, t.crop_size) if t.crop_size else (t.crop_height, t.crop_width)
        return cls.of(msg, 1, (3, *sides) if all(sides) else None)


@layer("DenseImageData")
@dataclass(frozen=True, slots=True)
class DenseImageData(LabelledPixels):
    """Picture files and pictures of their labels, named in a list, which the caller feeds here.

    top[0]: batch_size x C x H x W      top[1]: the labels, batch_size x 1 x H x W
    C is 3, or 1 where is_color is false. H x W is crop_height x crop_width, else crop_size x crop_size, else new_height x
    new_width, else not known: the shape must be given then. A given shape always wins.
    All settings of transform_param and dense_image_data_param are taken, since only reading would use them.
    Source: alexgkendall/caffe-segnet, TimoSaemann/caffe-enet: src/caffe/layers/dense_image_data_layer.cpp.
    """

    n_top = (2, 2)
    ignored = fields_of("DenseImageDataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.dense_image_data_param
        size = new_size(p)
        cut = (p.crop_height, p.crop_width) if p.crop_height and p.crop_width else None
        known = cut or crop_of(msg.transform_param, msg.data_param) or size
        return cls.of(msg, p.batch_size, (3 if p.is_color else 1, *known) if known else None)
