"""HDF5Output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from .. import rows
from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, traced

if TYPE_CHECKING:
    from torch import Tensor

MOST_AXES = 4


@layer("HDF5Output")
@dataclass(frozen=True, slots=True)
class HDF5Output(Layer):
    """The end of two blobs that are written to an HDF5 file, as datasets `data` and `label`.

    bottom[0], bottom[1]: N x C x H x W, of one N; at most 4 axes, and those that there are not count 1      no top
    Each forward writes its batch as a whole file, in place of the one before. `netcompile test` and the tests of a Solver
    write all batches of a test into one. (Caffe empties the file when the net is made, and stops at a second forward.)
    Nothing is written while a net is drawn, checked, exported or timed.
    Source: Caffe, src/caffe/layers/hdf5_output_layer.cpp, src/caffe/util/hdf5.cpp.
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
        return cls(name)

    def tops(self, bottoms: Shapes) -> Shapes:
        for i, shape in enumerate(bottoms):
            at_least(1, bottoms, i)
            if len(shape) > MOST_AXES:
                what, got = f"bottom {i} has too many axes", f"{len(shape)} ({dims(shape)})"
                raise NetError(what, expected=f"at most {MOST_AXES}, as Caffe's", got=got)
        if bottoms[0][0] != bottoms[1][0]:
            raise NetError("the bottoms must have the same first axis", expected=bottoms[0][0], got=bottoms[1][0])
        return ()

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        if not traced(bottoms[0]):
            exact = [b.detach().to("cpu", torch.promote_types(b.dtype, torch.float32)) for b in bottoms]
            rows.put(self.file_name, *(b.contiguous().numpy() for b in exact))
        return ()
