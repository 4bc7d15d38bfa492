"""Upsample."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Window, Windows
from .base import Layer, at_least, exactly, layer, traced

if TYPE_CHECKING:
    from torch import Tensor


@layer("Upsample")
@dataclass(frozen=True, slots=True)
class Upsample(Layer):
    """Larger pictures. With one bottom each pixel is repeated; with two it goes back to where pooling took it from.

    One bottom, YOLO's: ... x H x W to ... x H scale x W scale; scale is 1 where it is not given.
    Two bottoms, SegNet's and its heirs': bottom[0]: N x C x H x W      bottom[1]: the same, Pooling's second top
    top[0]: N x C x H' x W', 0 but at the places in bottom[1], row W' + column, which hold the values of bottom[0]; of several
    that go to one place the last stays, and all take its gradient. H' x W' is upsample_h x upsample_w where both are given,
    else H scale_h - 1 with pad_out_h x W scale_w - 1 with pad_out_w, scale_h and scale_w being `scale` (2) by default.
    The places have no gradient.
    Source: MobileNet-YOLO and caffe-segnet, src/caffe/layers/upsample_layer.cpp.
    """

    category = "shape"
    n_bottom = (1, 2)
    no_gradient = (1,)

    scale_h: int = 1
    scale_w: int = 1
    pad_out_h: bool = False
    pad_out_w: bool = False
    upsample_h: int = 0
    upsample_w: int = 0
    by_mask: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p, by_mask = msg.upsample_param, len(bottoms) == 2
        sides = ("scale_h", "scale_w")
        if not by_mask:
            for name in (*sides, "pad_out_h", "pad_out_w", "upsample_h", "upsample_w"):
                if p.has(name):
                    what, hint = f"{name} needs the places to go to", 'give Pooling\'s second top as a second "bottom"'
                    raise NetError(what, at=p.at(name), hint=hint)
            if p.has("scale") and not p.scale:
                raise NetError("scale is too small", at=p.at("scale"), expected="at least 1", got=p.scale)
            scale = p.scale if p.has("scale") else 1
            return cls(scale, scale)
        if p.has("upsample_h") and p.has("upsample_w"):
            for name in ("scale", *sides, "pad_out_h", "pad_out_w"):
                p.has(name)  # superseded: looked at, and without effect
            for name in ("upsample_h", "upsample_w"):
                if getattr(p, name) < 2:
                    raise NetError(f"{name} is too small", at=p.at(name), expected="at least 2", got=getattr(p, name))
            return cls(upsample_h=p.upsample_h, upsample_w=p.upsample_w, by_mask=True)
        for one, other in (("upsample_h", "upsample_w"), ("upsample_w", "upsample_h")):
            if p.has(one):
                raise NetError(f"{one} is given alone", at=p.at(one), expected=f"{one} and {other}")
        given = [name for name in sides if p.has(name)]
        if given and (len(given) == 1 or p.has("scale")):
            expected = "scale, or scale_h and scale_w, or upsample_h and upsample_w"
            raise NetError("the scale is not told in one way", at=p.at(given[0]), expected=expected)
        scale_h, scale_w = (p.scale_h, p.scale_w) if given else (p.scale, p.scale)
        for side, scale in (("h", scale_h), ("w", scale_w)):
            name = f"scale_{side}" if given else "scale"
            if scale < 2:
                raise NetError(f"{name} is too small", at=p.at(name), expected="at least 2", got=scale)
            if getattr(p, f"pad_out_{side}") and scale != 2:
                what, at = f"pad_out_{side} is for a scale of 2", p.at(f"pad_out_{side}")
                raise NetError(what, at=at, expected=2, got=scale, hint="tell the size: upsample_h and upsample_w")
        return cls(scale_h, scale_w, p.pad_out_h, p.pad_out_w, by_mask=True)

    def tops(self, bottoms: Shapes) -> Shapes:
        if not self.by_mask:
            at_least(2, bottoms)
            *rest, h, w = bottoms[0]
            return ((*rest, h * self.scale_h, w * self.scale_w),)
        exactly(4, bottoms)
        if bottoms[1] != bottoms[0]:
            expected, got = f"{dims(bottoms[0])}, as bottom 0", dims(bottoms[1])
            raise NetError("there must be one place for each value", expected=expected, got=got)
        n, c, h, w = bottoms[0]
        size = self.upsample_h, self.upsample_w
        if not any(size):
            size = h * self.scale_h - self.pad_out_h, w * self.scale_w - self.pad_out_w
        return ((n, c, *size),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        if self.by_mask or len(bottoms[0]) != 4:
            return None
        return tuple(Window(((0, 0),) * scale, 1) for scale in (self.scale_h, self.scale_w))

    def is_identity(self) -> bool:
        return not self.by_mask and self.scale_h == self.scale_w == 1

    def brief(self) -> str:
        if self.upsample_h:
            return f"to {self.upsample_h}x{self.upsample_w}"
        same = self.scale_h == self.scale_w
        return f"x{self.scale_h}" if same else f"x{self.scale_h}, x{self.scale_w}"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        if self.by_mask:
            return self.unpooled(x, bottoms[1])
        if self.scale_h > 1:
            x = x.repeat_interleave(self.scale_h, -2)
        return x.repeat_interleave(self.scale_w, -1) if self.scale_w > 1 else x

    def unpooled(self, x: Tensor, mask: Tensor) -> Tensor:
        """The values at their places.

        Raises: NetError for a place outside, except while the graph is traced.
        """
        import torch

        shape = self.tops((tuple(x.shape), tuple(mask.shape)))[0]
        count = prod(shape[2:])
        places = mask.detach().flatten(2).long()  # towards 0, as Caffe does
        if not traced(places) and places.numel():
            low, high = (int(v) for v in torch.stack(places.aminmax()).tolist())
            if low < 0 or high >= count:
                got, hint = low if low < 0 else high, "the scale must fit the Pooling layer that gave the places"
                raise NetError("a place lies outside the top", expected=f"0 to {count - 1}", got=got, hint=hint)
        flat = x.flatten(2)
        order = torch.arange(flat.shape[2], device=x.device).expand_as(places)
        empty = torch.full((*shape[:2], count), -1, dtype=torch.long, device=x.device)
        last = empty.scatter_reduce(2, places, order, "amax")
        top = flat.detach().gather(2, last.clamp(min=0)) * (last >= 0)
        if flat.requires_grad:  # x - x is 0, and brings the gradient of its place to each value
            top = top.scatter_add(2, places, flat - flat.detach())
        return top.reshape(shape)
