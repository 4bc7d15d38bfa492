"""Interp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import NOTHING, Window, Windows
from .base import Layer, exactly, layer, not_empty

if TYPE_CHECKING:
    from torch import Tensor


@layer("Interp")
@dataclass(frozen=True, slots=True)
class Interp(Layer):
    """Resize by linear interpolation such that the corners stay corners.

    bottom[0]: N x C x H x W      bottom[1], if there is one: the size, its values are not read      top[0]: N x C x H' x W'
    The bottom is cropped first: pad_beg and pad_end, not above 0, take off so many pixels before and after, on both axes.
    use_blob_size, where it is given, says whether there is a bottom[1].
    H' of a cropped H: of bottom[1]; (H - 1) / shrink_factor + 1; (H - 1) zoom_factor + 1; height; or first shrunk, then
    zoomed, where both are given and height and width are not. A factor alone wins over height and width.
    Pixel i of the top lies at i (H - 1) / (H' - 1), at 0 where H' is 1.
    mode NEAREST (jolibrain): the pixel that is nearest, of two the further. Quirk, kept, of its CPU code: of another size
    than the bottom's, only channel 0 of item 0 is written, and the rest is 0; the gradient is that of all of them.
    Source: hszhao/PSPNet, src/caffe/layers/interp_layer.cpp, src/caffe/util/interp.cpp.
    """

    category = "shape"
    n_bottom = (1, 2)
    no_gradient = (1,)

    height: int | None = None
    width: int | None = None
    zoom_factor: int | None = None
    shrink_factor: int | None = None
    pad_beg: int = 0
    pad_end: int = 0
    mode: str = "LINEAR"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.interp_param
        if p.has("use_blob_size") and p.use_blob_size != (len(bottoms) > 1):
            at, expected = p.at("use_blob_size"), "true with two bottoms, the second being the size, and only there"
            raise NetError("use_blob_size does not fit the bottoms", at=at, expected=expected, got=len(bottoms))
        for name in ("pad_beg", "pad_end"):
            if getattr(p, name) > 0:
                what = f"{name} can only crop"
                raise NetError(what, at=p.at(name), expected="0 or below", got=getattr(p, name))
        sizes: dict[str, Any] = {
            n: getattr(p, n) if p.has(n) else None for n in ("height", "width", "zoom_factor", "shrink_factor")
        }
        given = [n for n, v in sizes.items() if v is not None]
        for name in given:
            if sizes[name] < 1 and len(bottoms) == 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=sizes[name])
        alone: list[str] = [n for n in ("zoom_factor", "shrink_factor") if n in given]
        if len(bottoms) > 1 or len(alone) == 1:
            used = alone if len(bottoms) == 1 else []
        elif "height" in given and "width" in given:
            used = ["height", "width"]
        elif alone:
            used = alone
        else:
            expected = "height and width, zoom_factor, shrink_factor, or a second bottom"
            raise NetError("the size is not told", at=p.at(given[0]) if given else msg.at(), expected=expected)
        return cls(**{n: sizes[n] for n in used}, pad_beg=p.pad_beg, pad_end=p.pad_end, mode=p.enum("mode"))

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        not_empty(bottoms)
        if len(bottoms) > 1:
            exactly(4, bottoms, 1)
            not_empty(bottoms[1:], 2)
        image = tuple(size + self.pad_beg + self.pad_end for size in bottoms[0][2:])
        for size, cropped in zip(bottoms[0][2:], image, strict=True):
            if cropped < 1:
                got = f"{self.pad_beg} and {self.pad_end}, of {size}"
                raise NetError("the crop leaves nothing", at="pad_beg" if self.pad_beg else "pad_end", got=got)
        target = bottoms[1][2:] if len(bottoms) > 1 else self.sizes(image)
        return ((*bottoms[0][:2], *target),)

    def sizes(self, image: Shape) -> Shape:
        """H' and W' of a cropped image, without a second bottom."""
        if self.height is not None and self.width is not None:
            return self.height, self.width
        shrunk = ((size - 1) // (self.shrink_factor or 1) + 1 for size in image)
        return tuple((size - 1) * (self.zoom_factor or 1) + 1 for size in shrunk)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        if bottom:
            return NOTHING
        found = []
        for size, target in zip(bottoms[0][2:], tops[0][2:], strict=True):
            cropped = size + self.pad_beg + self.pad_end
            extents = []
            for i in range(target):
                at = i * (cropped - 1) / max(target - 1, 1)
                first = int(at - 1e-4) if self.mode == "LINEAR" else int(at + 0.5 - 1e-4)  # rounding counts to both
                last = int(at + 1 + 1e-4) if self.mode == "LINEAR" else int(at + 0.5 + 1e-4)
                extents.append((max(first, 0) - self.pad_beg, min(last, cropped - 1) - self.pad_beg))
            found.append(Window(tuple(extents), None))
        return tuple(found)

    def brief(self) -> str:
        if self.height is not None:
            return f"to {self.height}x{self.width}"
        parts = (("x", self.zoom_factor), ("/", self.shrink_factor))
        return " ".join(f"{sign}{factor}" for sign, factor in parts if factor is not None)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        x = bottoms[0]
        if self.pad_beg or self.pad_end:
            x = x[:, :, -self.pad_beg : x.shape[2] + self.pad_end, -self.pad_beg : x.shape[3] + self.pad_end]
        image = tuple(x.shape[2:])
        size = tuple(bottoms[1].shape[2:]) if len(bottoms) > 1 else self.sizes(image)
        if size == image:
            return x
        if self.mode == "LINEAR":
            return F.interpolate(x, size, mode="bilinear", align_corners=True)
        rows, columns = (_nearest(x, size[k], image[k]) for k in (0, 1))
        y = x.index_select(2, rows).index_select(3, columns)
        written = y.new_zeros(y.shape[:2])
        written[0, 0] = 1
        return y + (y * written[:, :, None, None] - y).detach()


def _nearest(x: Tensor, target: int, size: int) -> Tensor:
    """The pixels, out of `size`, that the pixels of a top are copies of; in float32, as the fork computes them."""
    import torch

    steps = torch.arange(target, device=x.device, dtype=torch.float32)
    ratio = torch.tensor(size - 1, dtype=torch.float32, device=x.device) / max(target - 1, 1)
    return (steps * ratio + 0.5).floor().long().clamp(max=size - 1)
