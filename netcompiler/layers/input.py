"""Input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import InputLayer, layer


@layer("Input")
@dataclass(frozen=True, slots=True)
class Input(InputLayer):
    """Blobs that the caller feeds.

    top[i]: shape[i] of input_param; one shape serves all tops. Without any, the caller must give them.
    Source: Caffe, src/caffe/layers/input_layer.cpp.
    """

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        shapes = [tuple(s.dim) for s in msg.input_param.shape]
        if not shapes:
            return cls((None,) * len(msg.top))
        if len(shapes) not in (1, len(msg.top)):
            expected = f"none, 1 or {len(msg.top)}, one per top"
            at = msg.input_param.at("shape")
            raise NetError("the wrong number of shapes", at=at, expected=expected, got=len(shapes))
        return cls(tuple(shapes) * (len(msg.top) if len(shapes) == 1 else 1))
