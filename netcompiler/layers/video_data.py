"""VideoData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..graph import Shapes
from ..text import Msg
from .base import layer
from .data import PictureLayer, crop_of, fields_of
from .image_data import new_size

SEGMENTS = ("num_segments", "modality", "name_pattern", "frame_prefix", "grayscale")  # fields that only TSN's has
CAMERA = ("video_type", "video_file", "device_id", "skip_frames")  # likewise SSD's
FLOW = 2  # channels of a frame


@layer("VideoData")
@dataclass(frozen=True, slots=True)
class VideoData(PictureLayer):
    """Pieces of films and their labels, which the caller feeds here.

    top[0]: batch_size x ...      top[1], if named: batch_size labels
    Of four forks, told by the fields. C is 3, or 1 where is_color is false, for all of them; L is new_length.
    C3D: image_data_param;  video-caffe: video_data_param. C x L x H x W.
    TSN: num_segments and the like, or the dialect. num_segments L C x H x W, with 2 in place of C for FLOW, 1 for grayscale.
    SSD: video_type and the like, or data_param. C x H x W; H x W by transform_param's resize_param.
    H x W is crop_size x crop_size, else new_height x new_width, else not known: the shape must be given then. A given shape
    always wins. All other settings are taken, since only reading would use them.
    Source: facebookarchive/C3D, chuckcho/video-caffe, yjxiong/caffe, weiliu89/caffe: src/caffe/layers/video_data_layer.cpp.
    """

    n_top = (1, 2)
    ignored = fields_of(
        "DataParameter", "ImageDataParameter", "VideoDataParameter", "TransformationParameter", "ResizeParameter"
    )

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        v, t = msg.video_data_param, msg.transform_param
        if any(v.has(name) for name in CAMERA) or (msg.has("data_param") and not v.has("source")):
            image = crop_of(t, msg.data_param)
            for size in list(t.resize_param)[:1]:
                if image is None and size.height and size.width:
                    image = size.height, size.width
            batch = msg.data_param.batch_size or v.batch_size
            return cls.of(msg, batch, (1 if t.force_gray else 3, *image) if image else None)
        old = msg.has("image_data_param") and not msg.has("video_data_param")
        p = msg.image_data_param if old else v
        resized = new_size(p)
        known = crop_of(t, msg.image_data_param) or resized
        colours = 3 if p.is_color else 1
        if any(v.has(name) for name in SEGMENTS) or (not old and msg.dialect == "pspnet"):
            if v.enum("modality") == "FLOW":
                colours = FLOW
            elif v.grayscale:
                colours = 1
            return cls.of(msg, v.batch_size, (v.num_segments * v.new_length * colours, *known) if known else None)
        return cls.of(msg, p.batch_size, (colours, p.new_length, *known) if known else None)
