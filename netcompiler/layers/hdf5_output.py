"""HDF5Output."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError, NetWarning
from ..graph import Shapes
from ..text import Msg
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("HDF5Output")
@dataclass(frozen=True, slots=True)
class HDF5Output(Layer):
    """The end of two blobs that Caffe writes to an HDF5 file, as datasets `data` and `label`. No file is written here.

    bottom[0], bottom[1]: N x C x H x W, of one N      no top
    Building a net with it warns (NetWarning); name the blobs in outputs= to have them.
    Source: Caffe, src/caffe/layers/hdf5_output_layer.cpp.
    """

    n_bottom = (2, 2)
    n_top = (0, 0)
    acts = True

    file_name: str

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        name = str(msg.hdf5_output_param.file_name)
        if not name:
            raise NetError("file_name is missing", at="hdf5_output_param")
        blobs = " and ".join(f'"{b}"' for b in msg.bottom)
        told = f'layer "{msg.name}" (HDF5Output): {name} is not written; for its blobs {blobs} name them in outputs='
        warnings.warn(told, NetWarning, stacklevel=2)
        return cls(name)

    def tops(self, bottoms: Shapes) -> Shapes:
        for i in range(2):
            at_least(1, bottoms, i)
        if bottoms[0][0] != bottoms[1][0]:
            raise NetError("the bottoms must have the same first axis", expected=bottoms[0][0], got=bottoms[1][0])
        return ()

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return ()
