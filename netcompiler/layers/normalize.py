"""Normalize, and Normalization2, which MyCaffe calls it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import SAME, Windows
from .base import BlobSpec, Layer, at_least, layer, whole_from

if TYPE_CHECKING:
    from torch import Tensor

MOST_AXES = 4
EPS = 1e-6  # happynear's
LEAST = 1e-10  # SSD's


@layer("Normalize")
@dataclass(frozen=True, slots=True)
class Normalize(Layer):
    """The values of all channels at one place, divided by their norm.

    SSD's: y = weight x / sqrt(sum of x^2 + eps), the sum over the channels of a pixel, or with across_spatial, which is
    the default, over the whole item.
    bottom[0]: N x C x H x W (2 axes or more)      top[0]: the same
    blobs: weight: C, or with channel_shared, which is the default, a scalar; starts as 1 where there is no scale_filler.
    Quirk: dx is weight times the gradient of the division alone, as if weight came before it; with a weight for each
    channel that is not the true one. fix_scale (ParseNet): weight takes no gradient.

    happynear's, told by normalize_param, a second top, or the dialect: y = x / norm, for normalize_type L2 the norm
    sqrt(sum of x^2 + 1e-6) over the channels of a pixel, for L1 sum of |x| + 1e-6. No blob.
    bottom[0]: up to 4 axes      top[0]: N x C x H x W, the axes that there are not being 1      top[1]: N x 1 x H x W, the norm
    Gradient comes back through top[1] only with bp_norm. fix_gradient has no effect, in Caffe neither.
    MACs: N C H W.
    Source: SSD, src/caffe/layers/normalize_layer.cpp; happynear/caffe-windows, the same file.
    """

    category = "normalisation"
    n_top = (1, 2)

    across_spatial: bool = False
    channel_shared: bool = False
    eps: float = 1e-10
    scale: bool = True  # SSD's
    filler: Filler = Filler(value=1.0)
    normalize_type: str = "L2"
    norm: bool = False
    bp_norm: bool = field(default=False, repr=False)
    fix_scale: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        if msg.has("norm_param") and msg.has("normalize_param"):
            what = "norm_param is SSD's, and normalize_param happynear's"
            raise NetError(what, at=msg.at("normalize_param"), hint="keep one of the two")
        others = msg.has("normalize_param") or len(msg.top) > 1 or msg.dialect == "happynear"
        if others and not msg.has("norm_param"):
            p = msg.normalize_param
            p.has("fix_gradient")  # looked at, and without effect
            kind = str(p.normalize_type)
            if kind not in ("L1", "L2"):
                raise NetError("unknown normalize_type", at=p.at("normalize_type"), expected="L1 or L2", got=kind)
            return cls(False, False, EPS, False, normalize_type=kind, norm=len(msg.top) > 1, bp_norm=p.bp_norm)
        if len(msg.top) > 1:
            what = "SSD's Normalize, which norm_param is for, has one top"
            raise NetError(what, at=msg.at("top", 1), expected=1, got=len(msg.top))
        p = msg.norm_param
        filler = Filler.read(p.scale_filler) if p.has("scale_filler") else Filler(value=1.0)
        fixed = p.has("fix_scale") and p.fix_scale
        return cls(p.across_spatial, p.channel_shared, p.eps, filler=filler, fix_scale=fixed)

    def tops(self, bottoms: Shapes) -> Shapes:
        shape = bottoms[0]
        if self.scale:
            at_least(2, bottoms)
            return (shape,)
        if len(shape) > MOST_AXES:
            raise NetError("bottom 0 has too many axes", expected=f"at most {MOST_AXES}", got=dims(shape))
        n, c, h, w = shape + (1,) * (MOST_AXES - len(shape))
        return ((n, c, h, w), (n, 1, h, w))[: 1 + self.norm]

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        if not self.scale:
            return {}
        return {"weight": BlobSpec(() if self.channel_shared else (bottoms[0][1],), self.filler)}

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0])

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        image = bottoms[0][2:]
        return whole_from(2, bottoms[0]) if self.across_spatial else (SAME,) * len(image)

    def settings(self) -> dict[str, str]:
        """Without what only tells the two forms apart."""
        hidden = {"scale", "norm", *(() if self.scale else ("eps",))}
        return {k: v for k, v in Layer.settings(self).items() if k not in hidden}

    def brief(self) -> str:
        if not self.scale:
            return self.normalize_type
        return "whole item" if self.across_spatial else ""

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = bottoms[0]
        if self.scale:
            weight = m.weight.detach() if self.fix_scale else m.weight
            weight = weight if self.channel_shared else weight.reshape(-1, *(1,) * (x.dim() - 2))
            bent = x.requires_grad and not self.channel_shared
            if bent:  # x - x is 0, and brings the gradient
                x = x.detach() + (x - x.detach()) * weight.detach()
            axes = tuple(range(1, x.dim())) if self.across_spatial else 1
            y = x / (x.square().sum(axes, keepdim=True) + self.eps).sqrt()
            top: Tensor = y.detach() * weight + (y - y.detach()) if bent else y * weight
            return top
        x = x.reshape(*x.shape, *(1,) * (MOST_AXES - x.dim()))
        if self.normalize_type == "L1":
            norm = x.abs().sum(1, keepdim=True) + EPS
        else:
            norm = (x.square().sum(1, keepdim=True) + EPS).sqrt()
        return (x / norm, norm if self.bp_norm else norm.detach()) if self.norm else x / norm


@layer("Normalization2")
@dataclass(frozen=True, slots=True)
class Normalization2(Normalize):
    """SSD's Normalize under MyCaffe's name.

    bottom[0], top[0], blobs, MACs: see Normalize
    Source: MyCaffe, Normalization2Layer.
    """

    n_top = (1, 1)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.normalization2_param
        filler = Filler.read(p.scale_filler) if p.has("scale_filler") else Filler(value=1.0)
        across, shared = (getattr(p, n) if p.has(n) else True for n in ("across_spatial", "channel_shared"))
        return cls(across, shared, p.eps if p.has("eps") else LEAST, filler=filler)
