"""PriorBox and PriorBoxClustered."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, sqrt
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import NOTHING, Windows
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor

Sizes = tuple[float, ...]
SAME_RATIO = 1e-6  # aspect ratios that differ by less are one


@dataclass(frozen=True, slots=True)
class Grid(Layer):
    """Boxes of given sizes around each pixel of a feature map, in parts of the picture's sides, and their variances.

    image and step: (h, w), None: the picture's, and the picture's sides divided by the feature map's.
    """

    category = "shape"
    n_bottom = (1, 2)
    no_gradient = (0, 1)

    widths: Sizes = field(repr=False)
    heights: Sizes = field(repr=False)
    variance: Sizes = (0.1,)
    clip: bool = False
    image: Shape | None = None
    step: tuple[float, float] | None = None
    offset: float = 0.5

    def tops(self, bottoms: Shapes) -> Shapes:
        for i in range(len(bottoms)):
            at_least(4, bottoms, i)
        if self.image is None and len(bottoms) < 2:
            what = "the size of the picture is not known"
            raise NetError(what, expected="the picture as a second bottom, or img_size, or img_h and img_w")
        h, w = bottoms[0][2:4]
        if not h or not w:
            raise NetError("the feature map is empty", expected="a height and a width", got=f"{h} x {w}")
        return ((1, 2, h * w * len(self.widths) * 4),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return NOTHING

    def settings(self) -> dict[str, str]:
        """With the boxes' sizes in pixels."""
        boxes = ", ".join(f"{w:.4g}x{h:.4g}" for w, h in zip(self.widths, self.heights, strict=True))
        return {"boxes": boxes, **Layer.settings(self)}

    def brief(self) -> str:
        return f"{len(self.widths)} boxes a pixel"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0]
        rows, columns = x.shape[2:4]
        height, width = self.image or bottoms[1].shape[2:4]
        step_h, step_w = self.step or (height / rows, width / columns)
        exact: dict[str, Any] = {"dtype": torch.float64, "device": x.device}
        across = (torch.arange(columns, **exact) + self.offset) * step_w
        down = (torch.arange(rows, **exact) + self.offset) * step_h
        centre = torch.stack((across.expand(rows, columns), down[:, None].expand(rows, columns)), 2)[:, :, None]
        half = torch.tensor([self.widths, self.heights], **exact).t() / 2
        sides = torch.tensor([float(width), float(height)], **exact)
        boxes = torch.cat(((centre - half) / sides, (centre + half) / sides), 3)
        if self.clip:
            boxes = boxes.clamp(0, 1)
        variance = torch.tensor(self.variance, **exact).expand(4).expand_as(boxes)
        top = torch.stack((boxes.reshape(-1), variance.reshape(-1)))[None]
        return top.to(torch.promote_types(x.dtype, torch.float32))


def common(p: Msg) -> dict[str, Any]:
    """What both forms read: variance, clip, image, step and offset."""
    variance = tuple(p.variance) or (0.1,)
    if len(variance) not in (1, 4):
        raise NetError("variance has the wrong number of values", at=p.at("variance"), expected="1 or 4")
    for i, v in enumerate(variance):
        if v <= 0:
            raise NetError("variance must be positive", at=p.at("variance", i), got=f"{v:g}")
    sides = _pair(p, "img_size", "img_h", "img_w")
    image = None if sides is None else (int(sides[0]), int(sides[1]))
    found = {"variance": variance, "clip": p.clip, "image": image, "offset": p.offset}
    return {**found, "step": _pair(p, "step", "step_h", "step_w")}


def _pair(p: Msg, both: str, high: str, wide: str) -> tuple[float, float] | None:
    """Height and width, given as one field or as two; None where neither is."""
    sides = [name for name in (high, wide) if p.has(name)]
    if sides and p.has(both):
        raise NetError(f"{both} and {sides[0]} are both given", at=p.at(sides[0]), hint="keep one of the two")
    if not sides and not p.has(both):
        return None
    names = (high, wide) if sides else (both, both)
    for name in names:
        if not getattr(p, name) > 0:
            at = p.at(name if p.has(name) else sides[0])
            raise NetError(f"{name} must be positive", at=at, got=f"{getattr(p, name):g}")
    return getattr(p, names[0]), getattr(p, names[1])


@layer("PriorBox")
@dataclass(frozen=True, slots=True)
class PriorBox(Grid):
    """The boxes that SSD's predictions are corrections of: of some sizes and shapes, around each pixel of a feature map.

    bottom[0]: N x C x H x W, the feature map      bottom[1]: N x C' x H' x W', the picture; only the shapes count
    top[0]: 1 x 2 x 4 P H W: corners x1, y1, x2, y2 in parts of the picture, and their variances, for each of the P boxes
    around each pixel (row first). Centre: (column + offset) step_w, (row + offset) step_h.
    For each min_size: the square of that side; with max_size the one of side sqrt(min max); then for each aspect_ratio r,
    min sqrt(r) wide and min / sqrt(r) high, with flip followed by 1 / r. A ratio of 1, and one that was there, is left out.
    The picture's size is img_h x img_w or img_size where given; step the picture's side over the feature map's where none
    is given. clip: corners into 0 .. 1. variance: one for all or four, 0.1. No gradient; float32 at least.
    Quirk: min_size and max_size are cut to whole numbers.
    Source: SSD, src/caffe/layers/prior_box_layer.cpp.
    """

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.prior_box_param
        small, large = list(p.min_size), list(p.max_size)
        if not small:
            raise NetError("min_size is missing", at="prior_box_param", expected="prior_box_param { min_size: .. }")
        for i, size in enumerate(small):
            if not 0 < size < inf:
                raise NetError("min_size must be positive", at=p.at("min_size", i), got=f"{size:g}")
        if large and len(large) != len(small):
            expected = f"none, or one for each of the {len(small)} min_size"
            raise NetError("the wrong number of max_size", at=p.at("max_size"), expected=expected, got=len(large))
        for i, size in enumerate(large):
            if not small[i] < size < inf:
                what, expected = "max_size must be above min_size", f"above {small[i]:g}"
                raise NetError(what, at=p.at("max_size", i), expected=expected, got=f"{size:g}")
        ratios = _ratios(p)
        shapes: list[tuple[float, float]] = []
        for i, size in enumerate(map(int, small)):
            shapes.append((size, size))
            if large:
                shapes.append((sqrt(size * int(large[i])),) * 2)
            shapes += [(size * sqrt(r), size / sqrt(r)) for r in ratios]
        widths, heights = zip(*shapes, strict=True)
        return cls(widths, heights, **common(p))


def _ratios(p: Msg) -> list[float]:
    """The aspect ratios beside 1."""
    ratios, flip = [1.0], p.flip
    for i, ratio in enumerate(p.aspect_ratio):
        if not 0 < ratio < inf:
            raise NetError("aspect_ratio must be positive", at=p.at("aspect_ratio", i), got=f"{ratio:g}")
        if all(abs(ratio - r) >= SAME_RATIO for r in ratios):
            ratios += [ratio, 1 / ratio] if flip else [ratio]
    return [r for r in ratios if abs(r - 1) >= SAME_RATIO]


@layer("PriorBoxClustered")
@dataclass(frozen=True, slots=True)
class PriorBoxClustered(Grid):
    """PriorBox with a list of widths and a list of heights, in pixels, in place of sizes and shapes.

    bottom[0]: N x C x H x W, the feature map      bottom[1]: N x C' x H' x W', the picture; only the shapes count
    top[0]: 1 x 2 x 4 P H W, as PriorBox's: P boxes around each pixel, the i-th width[i] x height[i].
    Source: OpenVINO, PriorBoxClustered-1.
    """

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.prior_box_param
        widths, heights = tuple(p.width), tuple(p.height)
        p.has("flip")  # looked at, and without effect: there are no aspect ratios
        for name, sizes, others in (("width", widths, heights), ("height", heights, widths)):
            if len(sizes) < max(len(others), 1):
                expected = f"{max(len(others), 1)}, one for each box"
                at = p.at(name) or "prior_box_param"
                raise NetError(f"the wrong number of {name}", at=at, expected=expected, got=len(sizes))
            for i, size in enumerate(sizes):
                if size <= 0:
                    raise NetError(f"{name} must be positive", at=p.at(name, i), got=f"{size:g}")
        return cls(widths, heights, **common(p))
