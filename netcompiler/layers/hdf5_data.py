"""HDF5Data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import InputLayer, layer
from .data import fields_of


@layer("HDF5Data")
@dataclass(frozen=True, slots=True)
class HDF5Data(InputLayer):
    """Datasets of HDF5 files, one for each top by its name, which the caller feeds here.

    top[i]: batch_size x the rest of the dataset's shape, which only the files tell: the shapes must be given.
    transform_param is refused, as in Caffe.
    Source: Caffe, src/caffe/layers/hdf5_data_layer.cpp.
    """

    ignored = fields_of("HDF5DataParameter")

    batch_size: int = 0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        refuse_transform(msg)
        return cls((None,) * len(msg.top), msg.hdf5_data_param.batch_size)


def refuse_transform(msg: Msg) -> None:
    """Raises: NetError for a layer with a transform_param."""
    if msg.has("transform_param"):
        raise NetError("HDF5Data does not transform data", at=msg.at("transform_param"), hint="remove the field")
