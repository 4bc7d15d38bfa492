"""The data layers in Python of LRCN, which read frames of videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from ..graph import Shape, Shapes
from ..text import Msg
from .base import InputLayer
from .python import native

FRAMES = 16  # of a clip
CLIPS = {"Train": 24, "Test": 3}  # at once
IMAGE = (3, 227, 227)


@native(*(("sequence_input_layer", f"videoRead{use}_{kind}") for use in CLIPS for kind in ("RGB", "flow")))
@dataclass(frozen=True, slots=True)
class FrameData(InputLayer):
    """Frames of clips, what each shows, and where clips begin, which the caller feeds here.

    top[0]: the frames, T B x 3 x 227 x 227, the first of each of B clips first      top[1]: T B labels
    top[2]: T B marks, 0 for the first frame of a clip, else 1
    T is 16, B 24 to train and 3 to test. Where the shape of top 0 is given, the others follow it.
    Source: LisaAnne/lisa-caffe-public, examples/LRCN_activity_recognition/sequence_input_layer.py.
    """

    kind: ClassVar[str]
    n_top = (3, 3)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        count = FRAMES * next(clips for use, clips in CLIPS.items() if use in msg.python_param.layer)
        return cls(((count, *IMAGE), (count,), (count,)))

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        if 0 in shapes:
            shapes = {1: shapes[0][:1], 2: shapes[0][:1], **shapes}
        return InputLayer.given(self, shapes)
