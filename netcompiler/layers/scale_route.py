"""ScaleRoute."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import ANY, Layer, at_least, layer, not_in_place
from .boxes import areas
from .roi_pooling import ROI

if TYPE_CHECKING:
    from torch import Tensor

MIDDLE = 256.0  # the scale sought where neither end is given


@layer("ScaleRoute")
@dataclass(frozen=True, slots=True)
class ScaleRoute(Layer):
    """Keep the regions of some sizes, and what else is told of them.

    bottom[0]: R x 5 regions: image, x1, y1, x2, y2      bottom[i]: R x C_i x H_i x W_i      top[i]: those kept of bottom[i]
    Kept are those with low_scale <= sqrt(area) < high_scale, pixels at the ends counted; if there is none, the one whose
    scale is nearest, by its logarithm, to sqrt(low high), or the one of the two that is given, or 256. How many are kept is
    known only when it runs: the shape rule says R. No gradient passes.
    Source: cascade-rcnn, src/caffe/layers/scale_route_layer.cpp.
    """

    category = "shape"
    n_bottom = (1, ANY)
    n_top = (1, ANY)
    no_gradient = tuple(range(64))

    low_scale: float = 0
    high_scale: float = inf
    middle: float = MIDDLE

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        if len(msg.top) != len(bottoms):
            got = len(msg.top)
            raise NetError(
                "the wrong number of tops", at=msg.at("top"), expected=f"{len(bottoms)}, as bottoms", got=got
            )
        p = msg.scale_route_param
        low, high = float(p.low_scale), float(p.high_scale)
        given = [value for name, value in (("low_scale", low), ("high_scale", high)) if p.has(name)]
        if given and min(given) <= 0:
            raise NetError("a scale must be positive", at="scale_route_param", got=min(given))
        if len(given) == 2 and low > high:
            raise NetError("low_scale is above high_scale", at=p.at("low_scale"), expected=f"at most {high:g}", got=low)
        middle = {0: MIDDLE, 1: (given or [0])[0], 2: sqrt(low * high)}[len(given)]
        return cls(low if p.has("low_scale") else 0, high if p.has("high_scale") else inf, middle)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        if bottoms[0][1] != ROI:
            raise NetError("bottom 0 has no rows of 5", expected="image, x1, y1, x2, y2", got=dims(bottoms[0]))
        for i, shape in enumerate(bottoms):
            if shape[:1] != bottoms[0][:1]:
                got = f"{dims(shape)} at bottom {i}"
                raise NetError("the bottoms differ", expected=f"{bottoms[0][0]} rows, as bottom 0", got=got)
        return tuple(bottoms)

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        boxes = bottoms[0].detach().flatten(1)[:, 1:]
        whole = (boxes[:, 2:] >= boxes[:, :2]).all(1)
        scale = (areas(boxes, 1) * whole).sqrt()
        kept = ((scale >= self.low_scale) & (scale < self.high_scale)).nonzero().squeeze(1)
        if not len(kept) and len(boxes):
            kept = (scale / self.middle).log2().abs().argmin()[None]
        return tuple(b.detach().index_select(0, kept) for b in bottoms)
