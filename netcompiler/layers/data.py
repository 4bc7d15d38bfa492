"""Data, and what the layers that read pictures share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from .. import schema
from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from .base import InputLayer, layer


def fields_of(*messages: str) -> frozenset[str]:
    """The names of all fields of some messages of the schema."""
    return frozenset(f.name for m in messages for f in schema.message(m).DESCRIPTOR.fields)


@dataclass(frozen=True, slots=True)
class PictureLayer(InputLayer):
    """A layer that reads pictures and their labels in Caffe. Here the caller feeds both, and nothing is opened.

    top[0]: N x C x H x W      top[1]: N labels
    Where the shape of top 0 is given, top 1 follows its N.
    """

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        if 0 in shapes and 1 not in shapes and len(self.shapes) > 1:
            shapes = {**shapes, 1: (shapes[0][0], *(self.shapes[1] or ())[1:])}
        return InputLayer.given(self, shapes)

    @classmethod
    def of(cls, msg: Msg, batch: int, image: Shape | None, label: Shape = ()) -> Self:
        """The layer for batches of an image of C x H x W, and its label; None and a batch of 0 are not known."""
        data = (batch, *image) if image and batch else None
        return cls((data, (batch, *label) if batch else None)[: len(msg.top)])


@layer("Data")
@dataclass(frozen=True, slots=True)
class Data(PictureLayer):
    """Records of an LMDB or LevelDB, pictures and labels, which the caller feeds here.

    top[0]: batch_size x C x crop_size x crop_size      top[1], if named: batch_size labels
    Caffe takes the shape from the first record. Without opening the database, C is 1 with force_gray, 3 with force_color
    or force_encoded_color, else as many as there are mean_values (so one mean_value for colour pictures is taken for
    gray: give the shape then), else 3; without a crop_size (or the forks' crop_h and crop_w) H and W are not known, and
    the shape must be given. A given shape always wins. MyCaffe's images_per_blob: so many pictures one behind the other in
    the channels, and with output_all_labels a label of each, N x images_per_blob.
    All settings of transform_param and data_param are taken, since only reading would use them.
    Source: Caffe, src/caffe/layers/data_layer.cpp, src/caffe/data_transformer.cpp.
    """

    n_top = (1, 2)
    ignored = fields_of("DataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p, t = msg.data_param, msg.transform_param
        crop, channels = crop_of(t, p), _channels(t, p.force_encoded_color) * p.images_per_blob
        label = (p.images_per_blob,) if p.output_all_labels and p.images_per_blob > 1 else ()
        return cls.of(msg, p.batch_size, (channels, *crop) if crop else None, label)


def crop_of(t: Msg, old: Msg) -> Shape | None:
    """Height and width of the crop, by a TransformationParameter or else by `old`, which had crop_size before it."""
    sides = (t.crop_h or t.crop_size, t.crop_w or t.crop_size)
    if 0 not in sides:
        return sides
    return (old.crop_size, old.crop_size) if old.crop_size else None


def forced_color(t: Msg) -> bool | None:
    """Whether encoded records become colour pictures or gray ones by a TransformationParameter; None: as they are.

    Raises: NetError where it asks for both.
    """
    if t.force_gray and t.force_color:
        raise NetError("force_color and force_gray are both given", at=t.at("force_gray"), hint="keep one of the two")
    return True if t.force_color else False if t.force_gray else None


def _channels(t: Msg, encoded_color: bool) -> int:
    color = forced_color(t)
    if color is False:
        return 1
    return 3 if color or encoded_color else len(t.mean_value) or 3
