"""Resample and Downsample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import Windows
from .base import Layer, exactly, layer, refuse_gradient

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Resized(Layer):
    """What the two share: images of a size that the layer, or a second bottom, tells."""

    category = "shape"
    n_bottom = (1, 2)
    no_gradient: ClassVar[tuple[int, ...]] = (0, 1)

    height: int = 0
    width: int = 0

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        if len(bottoms) > 1:
            exactly(4, bottoms, 1)
        size = self.size(bottoms)
        if min(size) < 1:
            hint = "give height and width, or a second bottom"
            raise NetError("the size is not told", got="x".join(map(str, size)), hint=hint)
        return ((*bottoms[0][:2], *size),)

    def size(self, bottoms: Shapes) -> Shape:
        """H' and W'."""
        return bottoms[1][2:] if len(bottoms) > 1 else (self.height, self.width)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def brief(self) -> str:
        return f"to {self.height}x{self.width}" if self.height else ""


@layer("Resample")
@dataclass(frozen=True, slots=True)
class Resample(Resized):
    """Resize with a filter that is as wide as the pixels of the smaller image.

    bottom[0]: N x C x H x W      bottom[1], if there is one: the size, its values are not read      top[0]: N x C x H' x W'
    Pixel (i, j) of the top lies at (i fy + fx / 2 - 1/2, j fx + fy / 2 - 1/2), with fy = H / H' and fx = W / W' (the two
    halves are that way round in the fork). Its value is the mean of the pixels around, weighted by their distance:
    LINEAR max(0, 1 - |d|); CUBIC Keys' with a = -1/2; where antialias is set and the image gets smaller along an axis, d
    counts pixels of the top's size on both. NEAREST: the pixel at the rounded place. No gradient.
    factor (OpenVINO): H' = H factor, rounded down; W' likewise.
    Source: leonzfa/iResNet, src/caffe/layers/resample_layer.cpp, resample_layer.cu.
    """

    type: str = "LINEAR"
    antialias: bool = True
    factor: float = 0.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.resample_param
        if p.enum("type") == "AREA":
            raise NetError("unknown type", at=p.at("type"), expected="NEAREST, LINEAR or CUBIC", got="AREA")
        if p.has("factor") and (p.has("height") or p.has("width") or len(bottoms) > 1 or not p.factor > 0):
            what = "factor must be positive, and the only size"
            raise NetError(what, at=p.at("factor"), got=f"{p.factor:g}", hint="keep factor, or height and width")
        return cls(p.height, p.width, p.enum("type"), p.antialias, p.factor if p.has("factor") else 0.0)

    def size(self, bottoms: Shapes) -> Shape:
        if not self.factor:
            return Resized.size(self, bottoms)
        return tuple(int(side * self.factor) for side in bottoms[0][2:])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0].detach()
        image = tuple(x.shape[2:])
        size = self.size(tuple(tuple(b.shape) for b in bottoms))
        exact = torch.promote_types(x.dtype, torch.float32)
        factors = [a / b for a, b in zip(image, size, strict=True)]
        places = [
            torch.arange(size[k], device=x.device, dtype=exact) * factors[k] + factors[1 - k] / 2 - 0.5 for k in (0, 1)
        ]
        if self.type == "NEAREST":
            rows, columns = ((p + 0.5).floor().long().clamp(0, image[k] - 1) for k, p in enumerate(places))
            return x.index_select(2, rows).index_select(3, columns)
        smooth = self.antialias and max(factors) > 1
        weights = []
        for k in (0, 1):
            distance = places[k][:, None] - torch.arange(image[k], device=x.device, dtype=exact)
            weights.append(self.weight((distance / (factors[k] if smooth else 1)).abs()))
        total = weights[0].sum(1)[:, None] * weights[1].sum(1)
        y = weights[0] @ x.to(exact) @ weights[1].t()
        return torch.where(total == 0, 0, y / torch.where(total == 0, 1, total)).to(x.dtype)

    def weight(self, d: Tensor) -> Tensor:
        """Of a pixel at that distance."""
        import torch

        if self.type == "LINEAR":
            return (1 - d).clamp(min=0)
        inner, outer = d * d * (1.5 * d - 2.5) + 1, d * (d * (2.5 - 0.5 * d) - 4) + 2
        return torch.where(d <= 1, inner, torch.where(d < 2, outer, 0))


@layer("Downsample")
@dataclass(frozen=True, slots=True)
class Downsample(Resized):
    """Resize such that the corners stay corners, with a filter as wide as the top's pixels; NaN does not count.

    bottom[0]: N x C x H x W      bottom[1], if there is one: the size, its values are not read      top[0]: N x C x H' x W'
    Pixel i of the top lies at i s, s = (H - 1) / (H' - 1), and is the mean of the pixels that are no NaN, weighted by
    max(0, 1 - |distance| / s) on both axes; NaN where NaN weighs more than half of what is none.
    Of the bottom's own size it is the bottom itself. Else it refuses a gradient.
    Source: lmb-freiburg/flownet2, src/caffe/layers/downsample_layer.cpp, downsample_layer.cu.
    """

    no_gradient = (1,)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.downsample_param
        return cls(p.top_height, p.top_width)

    def tops(self, bottoms: Shapes) -> Shapes:
        (top,) = Resized.tops(self, bottoms)
        if top != bottoms[0] and 1 in top[2:]:
            got = "x".join(map(str, top[2:]))
            raise NetError("a side of one pixel has no corners", expected="2 or more", got=got)
        return (top,)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0]
        size = self.size(tuple(tuple(b.shape) for b in bottoms))
        if size == tuple(x.shape[2:]):
            return x
        exact = torch.promote_types(x.dtype, torch.float32)
        sides = []
        for k in (0, 1):
            count = x.shape[2 + k]
            scale = (count - 1) / (size[k] - 1)
            places = torch.arange(size[k], device=x.device, dtype=exact) * scale
            distance = (places[:, None] - torch.arange(count, device=x.device, dtype=exact)).abs()
            sides.append((1 - distance / scale).clamp(min=0) if scale else torch.ones_like(distance))
        values = x.detach().to(exact)
        gone = values.isnan()
        rows, columns = sides[0], sides[1].t()
        weight = rows @ (~gone).to(exact) @ columns
        lost = rows @ gone.to(exact) @ columns
        y = rows @ torch.where(gone, 0, values) @ columns / weight
        top = torch.where(lost / weight > 0.5, torch.nan, y).to(x.dtype)
        return refuse_gradient(top, x, "Downsample passes no gradient")
