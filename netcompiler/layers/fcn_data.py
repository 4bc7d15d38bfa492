"""The data layers in Python of the fully convolutional networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from ..graph import Shape, Shapes
from ..text import Msg
from .base import InputLayer
from .python import native


@native(
    ("voc_layers", "VOCSegDataLayer"),
    ("voc_layers", "SBDDSegDataLayer"),
    ("layers", "VOCSegDataLayer"),
    ("layers", "SBDDSegDataLayer"),
    ("nyud_layers", "NYUDSegDataLayer"),
    ("siftflow_layers", "SIFTFlowSegDataLayer"),
    ("pascalcontext_layers", "PASCALContextSegDataLayer"),
)
@dataclass(frozen=True, slots=True)
class SegDataLayer(InputLayer):
    """Images and the classes of their pixels, one image at a time, which the caller feeds here.

    top[i]: an image, 1 x C x H x W, or, where it is named label, sem or geo, classes, 1 x 1 x H x W
    The net tells no sizes: the shape of the first top must be given. Where it is, the others follow its H and W: classes
    and those named depth with one channel, others with three. The settings say where the data are; nothing is opened.
    Source: fcn.berkeleyvision.org, voc_layers.py, nyud_layers.py, siftflow_layers.py, pascalcontext_layers.py.
    """

    kind: ClassVar[str]
    n_top = (1, 4)

    names: tuple[str, ...] = ()
    shapes: tuple[Shape | None, ...] = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        names = re.findall(r"tops\W*\[([^]]*)\]", str(msg.python_param.param_str))
        tops = re.findall(r"\w+", names[0]) if names else list(msg.top)
        return cls(names=tuple(tops), shapes=(None,) * len(msg.top))

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        first = shapes.get(0)
        if first is not None and len(first) == 4:
            one = ("label", "sem", "geo", "depth")
            follow = {i: (first[0], 1 if name in one else 3, *first[2:]) for i, name in enumerate(self.names)}
            shapes = {**{i: s for i, s in follow.items() if i < len(self.shapes)}, **shapes}
        return InputLayer.given(self, shapes)
