"""PSROIPooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer, refuse_gradient
from .boxes import away_from_zero
from .roi_pooling import region_words, regions, rows_of

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 0.1  # pixels that a region is long at least


@layer("PSROIPooling")
@dataclass(frozen=True, slots=True)
class PSROIPooling(Layer):
    """The mean of each of g x g bins of each region, each bin in a channel of its own (position-sensitive): g group_size.

    bottom[0]: N x (output_dim g^2) x H x W      bottom[1]: R x 5 (x 1 x 1), rows of image, x1, y1, x2, y2
    top: R x output_dim x g x g; bin (i, j) of output d reads channel (d g + i) g + j
    The ends are rounded, halves away from 0: the region goes from round(a) to round(b) + 1, times spatial_scale, and is
    0.1 long at least. Bin i has the pixels from floor(start + i length / g) up to before ceil(start + (i + 1) length / g),
    of those inside the image; a bin with none is 0. The regions have no gradient.
    Source: caffe-rfcn, src/caffe/layers/psroi_pooling_layer.cpp, psroi_pooling_layer.cu.
    """

    category = "pooling"
    n_bottom = (2, 2)
    no_gradient = (1,)

    output_dim: int
    group_size: int
    spatial_scale: float

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.psroi_pooling_param
        for name in ("spatial_scale", "output_dim", "group_size"):
            if not p.has(name):
                raise NetError(f"{name} is missing", at="psroi_pooling_param")
            if getattr(p, name) <= 0:
                raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
        return cls(p.output_dim, p.group_size, float(p.spatial_scale))

    def tops(self, bottoms: Shapes) -> Shapes:
        count, g = regions(bottoms), self.group_size
        if bottoms[0][1] != self.output_dim * g * g:
            expected = f"{self.output_dim * g * g} channels: output_dim x group_size x group_size"
            raise NetError("the channels do not fit", at="output_dim", expected=expected, got=bottoms[0][1])
        return ((count, self.output_dim, g, g),)

    def brief(self) -> str:
        words = region_words((self.group_size, self.group_size), self.spatial_scale, 0)
        return f"{words}, {self.output_dim}"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        x, g = bottoms[0], self.group_size
        n, c, h, w = x.shape
        image, boxes = rows_of(bottoms[1], x)
        (top, bottom), (left, right) = (self.bins(boxes, axis, x.shape[3 - axis]) for axis in (1, 0))
        # The sum over a window is made of four corners of the sums over all that lies above and to the left.
        sums = F.pad(x.to(torch.float64).cumsum(2).cumsum(3), (1, 0, 1, 0)).reshape(-1)
        channel = torch.arange(c, device=x.device).reshape(self.output_dim, g, g)
        plane = (image[:, None, None, None] * c + channel) * (h + 1)  # R x output_dim x g x g

        def corner(row: Tensor, column: Tensor) -> Tensor:
            index = (plane + row[:, None, :, None]) * (w + 1) + column[:, None, None, :]
            return sums.index_select(0, index.reshape(-1)).reshape(index.shape)

        total = corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)
        area = (bottom - top).clamp(min=0)[:, None, :, None] * (right - left).clamp(min=0)[:, None, None, :]
        mean = (total * (area > 0) / area.clamp(min=1)).to(x.dtype)
        return refuse_gradient(mean, bottoms[1], "PSROIPooling has no gradient for its regions")

    def bins(self, boxes: Tensor, axis: int, size: int) -> tuple[Tensor, Tensor]:
        """Where the bins along x (axis 0) or y (1) start and end (excluded), each R x group_size."""
        import torch

        start = away_from_zero(boxes[:, axis]) * self.spatial_scale
        end = (away_from_zero(boxes[:, axis + 2]) + 1) * self.spatial_scale
        length = (end - start).clamp(min=LEAST) / self.group_size
        steps = torch.arange(self.group_size + 1, dtype=boxes.dtype, device=boxes.device)
        edges = steps * length[:, None] + start[:, None]
        return edges[:, :-1].floor().long().clamp(0, size), edges[:, 1:].ceil().long().clamp(0, size)
