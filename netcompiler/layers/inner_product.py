"""InnerProduct."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, at_least, axis, layer, traced, whole_from

if TYPE_CHECKING:
    from torch import Tensor

ROW_EPS = 1e-6


@layer("InnerProduct")
@dataclass(frozen=True, slots=True)
class InnerProduct(Layer):
    """y = W x + b, where x is all that lies at one place of the axes before `axis`.

    bottom: N x C x H x W      top: N x num_output  (for axis 1; the axes from `axis` on become one), with axes of 1 behind it
    up to min_top_axes (MyCaffe)
    blobs: weight num_output x CHW, with transpose CHW x num_output;  bias num_output (none when bias_term is false).
    MACs: N num_output CHW; bias not counted.
    normalize (happynear): each forward divides the weight's rows, as they lie in memory, by sqrt(sum w^2 + 1e-6), where it
    is kept; the gradient is that of the product with what comes out.
    Source: Caffe, src/caffe/layers/inner_product_layer.cpp; the same of happynear/caffe-windows; MyCaffe,
    InnerProductLayer.
    """

    category = "dense"
    counted = True
    ignored = frozenset({"engine", "output_contains_predictions"})

    num_output: int
    axis: int = 1
    bias_term: bool = True
    transpose: bool = False
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()
    normalize: bool = False
    min_top_axes: int = 0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.inner_product_param
        if p.num_output < 1:
            raise NetError("num_output must be positive", at=p.at("num_output"), got=p.num_output)
        first = axis(p, "axis", len(bottoms[0]))
        fillers = Filler.read(p.weight_filler), Filler.read(p.bias_filler)
        return cls(p.num_output, first, p.bias_term, p.transpose, *fillers, p.normalize, p.min_top_axes)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        return ((*bottoms[0][: self.axis], self.num_output, *self.ones()),)

    def ones(self) -> Shape:
        """The axes behind num_output."""
        return (1,) * (self.min_top_axes - self.axis - 1)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        inputs = prod(bottoms[0][self.axis :])
        shape = (inputs, self.num_output) if self.transpose else (self.num_output, inputs)
        specs = {"weight": BlobSpec(shape, self.weight_filler)}
        if self.bias_term:
            specs["bias"] = BlobSpec((self.num_output,), self.bias_filler)
        return specs

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(bottoms[0]) * self.num_output

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return whole_from(self.axis, bottoms[0])

    def brief(self) -> str:
        return str(self.num_output)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        weight = unit_rows(m, m.weight, self.num_output) if self.normalize else m.weight
        weight = weight.t() if self.transpose else weight
        y = F.linear(bottoms[0].flatten(self.axis), weight, m.bias if self.bias_term else None)
        return y.reshape(*y.shape, *self.ones()) if self.ones() else y


def unit_rows(m: Any, weight: Tensor, count: int) -> Tensor:
    """A weight whose `count` rows, as they lie in memory, are scaled to length 1 where it is kept.

    The gradient is that of what comes out. While the graph is traced, nothing is kept.
    """
    import torch

    with torch.no_grad():
        rows = weight.reshape(count, -1)
        scaled = (rows / (rows.square().sum(1, keepdim=True) + ROW_EPS).sqrt()).reshape(weight.shape)
        if not (traced(weight) or m.again):
            weight.copy_(scaled)
    return weight + (scaled - weight).detach()
