"""MaskPooling and MaskResize, of multi-task network cascades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError
from ..graph import Array, Shape, Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, exactly, layer, not_empty, not_in_place

if TYPE_CHECKING:
    from torch import Tensor


@layer("MaskPooling")
@dataclass(frozen=True, slots=True)
class MaskPooling(Layer):
    """y = x mask, one mask for all channels.

    bottom[0]: x, N x C x H x W      bottom[1]: mask, N x 1 x H x W      top: N x C x H x W
    Source: daijifeng001/caffe-mnc, src/caffe/layers/mask_pooling_layer.cu.
    """

    category = "combine"
    n_bottom = (2, 2)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, _, h, w = bottoms[0]
        if bottoms[1] != (n, 1, h, w):
            raise NetError("the mask does not fit", expected=dims((n, 1, h, w)), got=f"{dims(bottoms[1])} at bottom 1")
        return (bottoms[0],)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return bottoms[0] * bottoms[1]


@layer("MaskResize")
@dataclass(frozen=True, slots=True)
class MaskResize(Layer):
    """Maps of another size: row i is read at i H / H', between rows in proportion, and columns likewise.

    bottom: N x C x H x W      top: N x C x H' x W', H' and W' being output_height and output_width, or factor_height H and
    factor_width W, rounded down, where those are given (SSTD)
    Places beyond the last row by more than a half are 0, others beyond it are its value.
    Quirk: the gradient of row k is gathered from rows floor(k H' / H) and the next only, so that where maps grow some of it
    is lost.
    Source: BestSonny/SSTD, src/caffe/layers/mask_resize_layer.cpp; daijifeng001/caffe-mnc, mask_resize_layer.cu.
    """

    category = "shape"

    size: Shape
    factor: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.mask_resize_param
        for name in ("output_height", "output_width"):
            if getattr(p, name) < 1:
                what = f"{name} must be positive" if p.has(name) else f"{name} is missing"
                raise NetError(what, at=p.at(name) or "mask_resize_param")
        return cls((p.output_height, p.output_width), (float(p.factor_height), float(p.factor_width)))

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        not_empty(bottoms)
        sizes = self.sizes(bottoms[0][2:])
        if min(sizes) < 1:
            raise NetError("the top is empty", at="factor_height", expected="one pixel at least", got=dims(sizes))
        return ((*bottoms[0][:2], *sizes),)

    def sizes(self, image: Shape) -> Shape:
        """H' and W'."""
        pairs = zip(self.size, self.factor, image, strict=True)
        return tuple(int(np.float32(size) * np.float32(f)) if f > 0 else given for given, f, size in pairs)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0]
        image = tuple(x.shape[2:])
        pairs = [shares(old, new) for old, new in zip(image, self.sizes(image), strict=True)]
        (rows, back_rows), (columns, back_columns) = ((torch.from_numpy(a).to(x) for a in pair) for pair in pairs)
        flows = back_rows @ x @ back_columns.T
        return flows + (rows @ x.detach() @ columns.T - flows.detach())


def shares(old: int, new: int) -> tuple[Array, Array]:
    """How much of each old row each new one is made of (new x old); and the same as the gradient knows it."""
    ratio = np.float32(old) / np.float32(new)
    place = np.arange(new, dtype=np.float32) * ratio
    inside = place <= old - 0.5
    place = np.minimum(place, old - 1)
    low = place.astype(int)
    high, part = np.minimum(low + 1, old - 1), place - low
    weights = np.zeros((new, old))
    np.add.at(weights, (np.arange(new), low), (1 - part) * inside)
    np.add.at(weights, (np.arange(new), high), part * inside)
    first = np.floor(np.arange(old, dtype=np.float32) / ratio).astype(int)
    k = np.arange(new)[:, None]
    near = np.abs(np.arange(new, dtype=np.float32)[:, None] * ratio - np.arange(old)) < 1
    return weights, weights * ((k == first) | (k == first + 1)) * near
