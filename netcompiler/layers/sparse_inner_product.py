"""SparseInnerProduct and SparseData, of jolibrain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..graph import Shapes
from ..text import Msg
from .base import layer
from .data import PictureLayer, fields_of
from .inner_product import InnerProduct


@layer("SparseInnerProduct")
@dataclass(frozen=True, slots=True)
class SparseInnerProduct(InnerProduct):
    """InnerProduct, which in the fork can read rows that are mostly 0; here they come with their zeros.

    bottom, top, blobs: InnerProduct's.
    Source: jolibrain/caffe, src/caffe/layers/sparse_inner_product_layer.cpp.
    """


@layer("SparseData")
@dataclass(frozen=True, slots=True)
class SparseData(PictureLayer):
    """Rows that are mostly 0, and their labels, of an LMDB or LevelDB, which the caller feeds here with their zeros.

    top[0]: batch_size x D      top[1], if named: batch_size labels
    The database tells D. All settings are taken, since only reading would use them.
    Source: jolibrain/caffe, src/caffe/layers/sparse_data_layer.cpp.
    """

    n_top = (1, 2)
    ignored = fields_of("DataParameter", "TransformationParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls.of(msg, msg.data_param.batch_size, None)
