"""Parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shape, Shapes, dims
from ..text import Msg
from .base import BlobSpec, Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Parameter")
@dataclass(frozen=True, slots=True)
class Parameter(Layer):
    """A learned blob as a top of its own, for other layers to read.

    no bottom      top[0]: `shape` of parameter_param; without one, a scalar
    blobs: weight, of that shape; 0 at the start, or as blob_filler (happynear) says.
    Source: Caffe, include/caffe/layers/parameter_layer.hpp, and happynear/caffe-windows's.
    """

    category = "data"
    n_bottom = (0, 0)

    shape: Shape = ()
    blob_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.parameter_param
        shape = tuple(p.shape.dim)
        if min(shape, default=1) < 1:
            raise NetError("a blob needs positive dims", at=p.at("shape"), got=dims(shape))
        return cls(shape, Filler.read(p.blob_filler))

    def tops(self, bottoms: Shapes) -> Shapes:
        return (self.shape,)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        return {"weight": BlobSpec(self.shape, self.blob_filler)}

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        weight: Tensor = m.weight
        return weight
