"""ImageGtData, DetectionData and EvalData: pictures and boxes of MS-CNN and Cascade R-CNN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from .base import ANY, InputLayer, check_count, layer
from .data import fields_of

COLOURS = 3
BOX = 8  # item, x1, y1, x2, y2, label, ignored, difficult


@dataclass(frozen=True, slots=True)
class LabelledFields(InputLayer):
    """Pictures, one map of labels for each detection head, and boxes. Where top 0 is given, the maps follow it."""

    n_top = (1, ANY)

    strides: tuple[int, ...] = ()
    channels: int = 0

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        first = shapes.get(0)
        if first is not None and len(first) == 4:
            shapes = {**dict(enumerate(self.maps(first), 1)), **shapes}
        return InputLayer.given(self, shapes)

    def maps(self, data: Shape) -> list[Shape]:
        """The shapes of the labels of each head."""
        sides = [(_side(data[2], s), _side(data[3], s)) for s in self.strides]
        return [(data[0], self.channels, *side) for side in sides]

    @classmethod
    def of(cls, msg: Msg, p: Msg, name: str, image: Shape | None, rest: tuple[Shape, ...]) -> Self:
        """The layer for pictures of H x W, with heads `name` apart, and the tops behind their labels."""
        strides = tuple(getattr(p, name))
        for other in ("field_h", "field_w"):
            if len(getattr(p, other)) != len(strides):
                at = p.at(other) or p.at(name) or p.at()
                expected = f"{len(strides)}, one for each {name}"
                raise NetError(f"{other} has the wrong number of values", at=at, expected=expected)
        if 0 in strides:
            raise NetError(f"{name} must be positive", at=p.at(name, strides.index(0)))
        check_count(msg, "top", (1 + len(strides) + len(rest),) * 2)
        found = cls((), strides, 2 + p.coord_num)
        data = (p.batch_size, COLOURS, *image) if image and p.batch_size else None
        maps: list[Shape | None] = [*found.maps(data)] if data else [None] * len(strides)
        return cls((data, *maps, *rest), strides, found.channels)


def _side(size: int, stride: int) -> int:
    """How many fields there are along a side, rounded, halves up."""
    return (2 * size + stride) // (2 * stride)


def sides(p: Msg, *names: str) -> Shape | None:
    """Height and width, of a pair of fields; None unless both are positive."""
    height, width = (getattr(p, name) for name in names)
    return (height, width) if height and width else None


@layer("ImageGtData")
@dataclass(frozen=True, slots=True)
class ImageGtData(LabelledFields):
    """Pictures with labels for the fields of each detection head, which the caller feeds here (MS-CNN).

    top[0]: batch_size x 3 x H x W      top[1 + j], for each downsample_rate r: batch_size x (2 + coord_num) x H/r x W/r: class,
    centre x and y, width, height, largest overlap      then, with output_gt_boxes: G x 7 x 1 x 1, with append_3d_info G x 14;
    with output_projection_matrix: batch_size x 6 x 1 x 1 and batch_size x 16 x 1 x 1
    H x W is crop_height x crop_width, else resize_height x resize_width, else not known: the shape must be given then. G is
    the number of boxes of a batch: the shape rule says 1, and each batch may have another. A given shape always wins.
    MS-CNN cuts H/r, panoramic-object-detection rounds it; with whole quotients both are the same, and here it is rounded.
    All other settings are taken, since only reading would use them.
    Source: gdlg/panoramic-object-detection, zhaoweicai/mscnn: src/caffe/layers/image_gt_data_layer.cpp.
    """

    ignored = fields_of("ImageGtDataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.image_gt_data_param
        if not p.downsample_rate:
            raise NetError("downsample_rate is missing", at="image_gt_data_param", expected="one for each head")
        image = sides(p, "crop_height", "crop_width") or sides(p, "resize_height", "resize_width")
        rest: tuple[Shape, ...] = ()
        if p.output_gt_boxes:
            rest += ((1, 14 if p.append_3d_info else 7, 1, 1),)
        if p.output_projection_matrix:
            rest += ((p.batch_size, 6, 1, 1), (p.batch_size, 16, 1, 1))
        return cls.of(msg, p, "downsample_rate", image, rest)


@layer("DetectionData")
@dataclass(frozen=True, slots=True)
class DetectionData(LabelledFields):
    """Pictures with labels for the fields of each detection head, which the caller feeds here (Cascade R-CNN).

    top[0]: batch_size x 3 x H x W      top[1 + j], for each stride s: batch_size x (2 + coord_num) x H/s x W/s, rounded: class,
    centre x and y, width, height, largest overlap      then, with output_gt_boxes: G x 8 x 1 x 1: item, x1, y1, x2, y2,
    label, ignored, difficult
    H x W is crop_height x crop_width, else crop_long_size x crop_short_size, resize_height x resize_width, long_size x
    short_size, else not known: the shape must be given then. G is the number of boxes of a batch: the shape rule says 1,
    and each batch may have another. A given shape always wins. All other settings are taken, since only reading would use
    them.
    Source: zhaoweicai/cascade-rcnn, src/caffe/layers/detection_data_layer.cpp.
    """

    ignored = fields_of("DetectionDataParameter", "TransformationParameter", "DistortionParameter", "ResizeParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.detection_data_param
        image = sides(p, "crop_height", "crop_width") or sides(p, "crop_long_size", "crop_short_size")
        image = image or sides(p, "resize_height", "resize_width") or sides(p, "long_size", "short_size")
        return cls.of(msg, p, "stride", image, ((1, BOX, 1, 1),) if p.output_gt_boxes else ())


@layer("EvalData")
@dataclass(frozen=True, slots=True)
class EvalData(InputLayer):
    """Pictures and their boxes, which the caller feeds here (Cascade R-CNN).

    top[0]: batch_size x 3 x H x W      top[1]: G x 8 x 1 x 1: item, x1, y1, x2, y2, label, ignored, difficult
    top[2], if named: height and width of each picture, batch_size x 2 x 1 x 1
    H x W is resize_height x resize_width, else long_size x short_size, else not known: the shape must be given then. G is the
    number of boxes of a batch: the shape rule says 1, and each batch may have another. A given shape always wins. All other
    settings are taken, since only reading would use them.
    Source: zhaoweicai/cascade-rcnn, src/caffe/layers/eval_data_layer.cpp.
    """

    n_top = (2, 3)
    ignored = fields_of("EvalDataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.eval_data_param
        image = sides(p, "resize_height", "resize_width") or sides(p, "long_size", "short_size")
        data = (p.batch_size, COLOURS, *image) if image and p.batch_size else None
        size = (p.batch_size, 2, 1, 1) if p.batch_size else None
        return cls((data, (1, BOX, 1, 1), size)[: len(msg.top)])
