"""AnnotatedData."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from ..graph import Shape, Shapes
from ..text import Msg
from .base import InputLayer, layer
from .data import crop_of, fields_of

TRUTH = (1, 1, 1, 8)  # one box, which Caffe takes for none
YOLO_TRUTHS = 300


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
        p, t = msg.data_param, msg.transform_param
        image = crop_of(t, p)
        for size in list(t.resize_param)[:1]:  # of several MobileNet-YOLO draws one; the first makes the shape
            if image is None and size.height and size.width and size.enum("resize_mode") != "FIT_SMALL_SIZE":
                image = size.height, size.width
        yolo = msg.annotated_data_param.yolo_data_type == 1
        batch = p.batch_size
        data = (batch, 1 if t.force_gray else 3, *image) if image and batch else None
        label: Shape | None = TRUTH
        if yolo:
            label = (batch, 1, YOLO_TRUTHS, 5) if batch else None
        return cls((data, label)[: len(msg.top)], yolo)

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        if self.yolo and 0 in shapes and 1 not in shapes and len(self.shapes) > 1:
            shapes = {**shapes, 1: (shapes[0][0], 1, YOLO_TRUTHS, 5)}
        return replace(self, shapes=tuple(shapes.get(i, old) for i, old in enumerate(self.shapes)))
