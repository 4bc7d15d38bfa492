"""Scale."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf, prod
from typing import TYPE_CHECKING, Any

from ..fillers import Filler
from ..graph import Shapes
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, layer, traced
from .bias import operand, placed, spread

if TYPE_CHECKING:
    from torch import Tensor


@layer("Scale")
@dataclass(frozen=True, slots=True)
class Scale(Layer):
    """Multiply by the second bottom, or else by a learned blob, broadcast over the axes that it does not have; then,
    with bias_term, add a learned blob of the same shape.

    bottom[0]: N x C x H x W (any number of axes)      top[0]: the same
    bottom[1]: its axes are those of bottom[0] from `axis` on, as many as it has; none: a scalar.
    blobs: with one bottom, weight: the dims of num_axes axes of bottom[0] from `axis` on (-1: all of them; 0: a
    scalar); starts as 1 where there is no filler.  bias, with bias_term: of the same shape, or that of bottom[1].
    min_value, max_value (happynear): each forward pulls the factor between the two, and a weight where it is kept; the
    gradient is that of what comes out.
    MACs: N C H W; bias not counted.
    Source: Caffe, src/caffe/layers/scale_layer.cpp; the same of happynear/caffe-windows.
    """

    category = "normalisation"
    n_bottom = (1, 2)

    axis: int = 1
    num_axes: int = 1
    bias_term: bool = False
    filler: Filler = Filler(value=1.0)
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Any:
        p = msg.scale_param
        filler = Filler.read(p.filler) if p.has("filler") else Filler(value=1.0)
        read = cls(*placed(p, bottoms), p.bias_term, filler, Filler.read(p.bias_filler))
        limits = {name: getattr(p, name) for name in ("min_value", "max_value") if p.has(name)}
        return LimitedScale(**{f.name: getattr(read, f.name) for f in fields(read)}, **limits) if limits else read

    def tops(self, bottoms: Shapes) -> Shapes:
        operand(self.axis, self.num_axes, bottoms)
        return bottoms[:1]

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        shape = operand(self.axis, self.num_axes, bottoms)
        specs = {} if len(bottoms) == 2 else {"weight": BlobSpec(shape, self.filler)}
        if self.bias_term:
            specs["bias"] = BlobSpec(shape, self.bias_filler)
        return specs

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0])

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        moved = bottom == 1 and self.axis > 0  # its axes lie along later ones of the top
        return None if moved else Layer.windows(self, bottoms, tops, bottom, top)

    def brief(self) -> str:
        return "+ bias" if self.bias_term else ""

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0]
        factor = spread(self.factor(m, bottoms), x, self.axis)
        if self.bias_term:
            return torch.addcmul(spread(m.bias, x, self.axis), x, factor)
        return x * factor

    def factor(self, m: Any, bottoms: tuple[Tensor, ...]) -> Tensor:
        factor: Tensor = bottoms[1] if len(bottoms) == 2 else m.weight
        return factor


@dataclass(frozen=True, slots=True)
class LimitedScale(Scale):
    """Scale with min_value or max_value: a class of its own, since what fuses or folds a Scale must leave it."""

    min_value: float = -inf
    max_value: float = inf

    def factor(self, m: Any, bottoms: tuple[Tensor, ...]) -> Tensor:
        import torch

        factor = Scale.factor(self, m, bottoms)
        with torch.no_grad():
            limited = factor.clamp(min=self.min_value).clamp(max=self.max_value)
            if len(bottoms) == 1 and not (traced(factor) or m.again):
                factor.copy_(limited)
        return factor + (limited - factor).detach()
