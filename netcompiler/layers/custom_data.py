"""CustomData, of FlowNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..graph import Shapes
from ..text import Msg
from .base import ANY, InputLayer, check_count, layer
from .data import fields_of


@layer("CustomData")
@dataclass(frozen=True, slots=True)
class CustomData(InputLayer):
    """Slices of the channels of an LMDB's records, such as two pictures and their flow, which the caller feeds here.

    top[i]: batch_size x C_i x H x W, the channels up to slice_point[i]      the last one, if there is one more: labels
    Only the database tells the shapes, so they must be given. All settings are taken, since only reading would use them.
    Source: lmb-freiburg/flownet2, src/caffe/layers/custom_data_layer.cpp.
    """

    n_top = (1, ANY)
    ignored = fields_of("DataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        slices = 1 + len(msg.data_param.slice_point)
        if slices > 1:
            check_count(msg, "top", (slices, slices + 1))
        return cls((None,) * len(msg.top))
