"""AnnotatedData, LaneData and BoxData."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from .base import ANY, InputLayer, layer
from .data import crop_of, fields_of

TRUTH = (1, 1, 1, 8)  # one box, which Caffe takes for none
YOLO_TRUTHS = 300
LANES = (5, 64, 3)  # lanes, their points, and x, y, number
CELL = 7  # numbers of a cell of YOLO's grid


@layer("AnnotatedData")
@dataclass(frozen=True, slots=True)
class AnnotatedData(InputLayer):
    """Pictures and the boxes of what is in them, of an LMDB or LevelDB, which the caller feeds here.

    top[0]: batch_size x 3 (1 with force_gray) x H x W, by crop_size (or crop_h, crop_w), else by resize_param
    top[1], if named: 1 x 1 x G x 8: item, label, instance, x1, y1, x2, y2, difficult; for yolo_data_type 1 batch_size x 1
    x 300 x 5: class, centre x and y, width, height
    G is the number of boxes of a batch: the shape rule says 1, and each batch may have another. Where H and W are not told,
    or hang on the picture (resize_mode FIT_SMALL_SIZE), the shape must be given. A given shape always wins.
    All other settings are taken, since only reading would use them.
    Source: SSD, src/caffe/layers/annotated_data_layer.cpp, src/caffe/data_transformer.cpp; MobileNet-YOLO, the same.
    """

    n_top = (1, 2)
    ignored = fields_of("DataParameter", "TransformationParameter", "AnnotatedDataParameter", "ResizeParameter")

    yolo: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        batch = msg.data_param.batch_size
        data = pictures(msg)
        yolo = msg.annotated_data_param.yolo_data_type == 1
        label: Shape | None = TRUTH
        if yolo:
            label = (batch, 1, YOLO_TRUTHS, 5) if batch else None
        return cls((data, label)[: len(msg.top)], yolo)

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        if self.yolo and 0 in shapes and 1 not in shapes and len(self.shapes) > 1:
            shapes = {**shapes, 1: (shapes[0][0], 1, YOLO_TRUTHS, 5)}
        return replace(self, shapes=tuple(shapes.get(i, old) for i, old in enumerate(self.shapes)))


def pictures(msg: Msg) -> Shape | None:
    """N x C x H x W of the pictures that a layer reads; None where the net does not tell it."""
    p, t = msg.data_param, msg.transform_param
    image = crop_of(t, p)
    for size in list(t.resize_param)[:1]:  # of several MobileNet-YOLO draws one; the first makes the shape
        if image is None and size.height and size.width and size.enum("resize_mode") != "FIT_SMALL_SIZE":
            image = size.height, size.width
    return (p.batch_size, 1 if t.force_gray else 3, *image) if image and p.batch_size else None


@layer("LaneData")
@dataclass(frozen=True, slots=True)
class LaneData(InputLayer):
    """Pictures of roads and their lanes, of an LMDB or LevelDB, which the caller feeds here.

    top[0]: batch_size x C x H x W, as AnnotatedData's      top[1], if named: lanes, batch_size x 5 x 64 x 3: x, y, lane
    top[2], if named: the lanes' pixels, batch_size x 1 x seg_resize_height x seg_resize_width, else of a seg_scales-th of
    the sides
    A given shape always wins. All other settings are taken, since only reading would use them.
    Source: MobileNet-YOLO, src/caffe/layers/lane_data_layer.cpp.
    """

    n_top = (1, 3)
    ignored = AnnotatedData.ignored

    part: int = 8
    sides: Shape | None = None

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.annotated_data_param
        sides = (p.seg_resize_height, p.seg_resize_width)
        found = cls((), max(p.seg_scales, 1), sides if 0 not in sides else None)
        data = pictures(msg)
        tops = (data, *found.labels(data)) if data else (None,) * 3
        return replace(found, shapes=tops[: len(msg.top)])

    def labels(self, data: Shape) -> tuple[Shape, Shape]:
        """The shapes of the labels."""
        return (data[0], *LANES), (data[0], 1, *(self.sides or (s // self.part for s in data[2:])))

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        if len(shapes.get(0, ())) == 4:
            follow = dict(enumerate(self.labels(shapes[0])[: len(self.shapes) - 1], 1))
            shapes = {**follow, **shapes}
        return InputLayer.given(self, shapes)


@layer("BoxData")
@dataclass(frozen=True, slots=True)
class BoxData(InputLayer):
    """Pictures and a grid of what is in them for each side, of an LMDB or LevelDB, which the caller feeds here (YOLO).

    top[0]: batch_size x C x H x W, as AnnotatedData's      top[1 + i]: batch_size x 7 side[i]^2: for each cell of the grid
    whether it is difficult, then whether it has an object, then its class, then x, y, width, height
    There is one side, 7, where none is given. A given shape always wins. All other settings are taken, since only reading
    would use them.
    Source: yeahkun/caffe-yolo, src/caffe/layers/box_data_layer.cpp.
    """

    n_top = (1, ANY)
    ignored = fields_of("DataParameter", "TransformationParameter", "ResizeParameter")

    side: Shape = (7,)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        sides = tuple(msg.data_param.side) or (7,)
        if len(msg.top) not in (1, 1 + len(sides)):
            expected = f"{1 + len(sides)}, one for each side"
            raise NetError("the wrong number of tops", at=msg.at("top"), expected=expected, got=len(msg.top))
        data, batch = pictures(msg), msg.data_param.batch_size
        grids = ((batch, CELL * s * s) if batch else None for s in sides)
        return cls((data, *grids)[: len(msg.top)], sides)

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        if 0 in shapes:
            grids = {i: (shapes[0][0], CELL * s * s) for i, s in enumerate(self.side, 1) if i < len(self.shapes)}
            shapes = {**grids, **shapes}
        return InputLayer.given(self, shapes)
