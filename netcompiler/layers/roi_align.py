"""ROIAlign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from .base import Layer, layer, refuse_gradient, traced
from .roi_pooling import pooled_sides, region_words, regions, rows_of

if TYPE_CHECKING:
    from torch import Tensor


@layer("ROIAlign")
@dataclass(frozen=True, slots=True)
class ROIAlign(Layer):
    """Each region's values at (pooled_h + 1) x (pooled_w + 1) points of a grid, from its first to its last edge.

    bottom[0]: N x C x H x W      bottom[1]: R x 5 (x 1 x 1), rows of image, x1, y1, x2, y2
    top: R x C x (pooled_h + 1) x (pooled_w + 1)
    A side of w pixels is first widened by pad_ratio (w + 1) on either end; then a and b times spatial_scale, less 0.5, are
    the first and last coordinate, pixel centres being whole numbers. Values between pixels are bilinear; a point more than
    half a pixel outside the image is 0, and so is a region with b <= a. The regions have no gradient.
    A MAX or AVE pooling of kernel 2 and stride 1 behind it makes pooled_h x pooled_w values.
    With roi_align_param it is detectron's: a and b times spatial_scale are the sides, at least 1 apart, between them are
    pooled_w bins of equal size, and of each the mean of the values at sampling_ratio places, evenly spread, along either
    axis; -1: at as many as its size, rounded up. A place more than a pixel outside is 0.
    top: R x C x pooled_h x pooled_w
    Source: cascade-rcnn, src/caffe/layers/roi_align_layer.cpp; Cambricon/caffe, the same.
    """

    category = "pooling"
    n_bottom = (2, 2)
    no_gradient = (1,)

    pooled: Shape
    spatial_scale: float = 1
    pad_ratio: float = 0
    sampling_ratio: int | None = None  # None: cascade-rcnn's; 0: as many as fit

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        averaged = msg.has("roi_align_param")
        if averaged and msg.has("roi_pooling_param"):
            what = "roi_align_param and roi_pooling_param are both given"
            raise NetError(what, at=msg.at("roi_align_param"), hint="keep one of the two")
        p = msg.roi_align_param if averaged else msg.roi_pooling_param
        if p.spatial_scale <= 0:
            raise NetError("spatial_scale must be positive", at=p.at("spatial_scale"), got=p.spatial_scale)
        if averaged:
            return cls(pooled_sides(p), float(p.spatial_scale), sampling_ratio=max(p.sampling_ratio, 0))
        return cls(pooled_sides(p), float(p.spatial_scale), float(p.pad_ratio))

    def tops(self, bottoms: Shapes) -> Shapes:
        edges = self.sampling_ratio is None
        return ((regions(bottoms), bottoms[0][1], self.pooled[0] + edges, self.pooled[1] + edges),)

    def brief(self) -> str:
        return region_words(self.pooled, self.spatial_scale, self.pad_ratio)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        image, boxes = rows_of(bottoms[1], x)
        if self.sampling_ratio is not None:
            top = self.averages(x, image, boxes)
            return refuse_gradient(top, bottoms[1], "ROIAlign has no gradient for its regions")
        rows, fits_rows = self.grid(boxes, 1, x.shape[2])
        columns, fits_columns = self.grid(boxes, 0, x.shape[3])
        top = sampled(x, image, rows, columns) * (fits_rows[:, None, :, None] & fits_columns[:, None, None, :])
        return refuse_gradient(top, bottoms[1], "ROIAlign has no gradient for its regions")

    def averages(self, x: Tensor, image: Tensor, boxes: Tensor) -> Tensor:
        """detectron's values, R x C x pooled_h x pooled_w."""
        import torch

        rows, columns = self.shares(boxes, 1, x.shape[2]).to(x.dtype), self.shares(boxes, 0, x.shape[3]).to(x.dtype)
        if traced(x):
            return torch.einsum("rchw,rph,rqw->rcpq", x[image], rows, columns)
        top = x.new_zeros((len(boxes), x.shape[1], *self.pooled))
        for i in range(len(x)):
            own = (image == i).nonzero()[:, 0]
            along = torch.einsum("chw,rqw->rchq", x[i], columns[own])
            top = top.index_copy(0, own, torch.einsum("rchq,rph->rcpq", along, rows[own]))
        return top

    def shares(self, boxes: Tensor, axis: int, size: int) -> Tensor:
        """How much each pixel along x (axis 0) or y (1) counts for each bin: R x pooled x size."""
        import torch

        count = self.pooled[1 - axis]
        first, last = boxes[:, axis] * self.spatial_scale, boxes[:, axis + 2] * self.spatial_scale
        step = (last - first).clamp(min=1) / count
        places = torch.full_like(step, self.sampling_ratio) if self.sampling_ratio else step.ceil()
        most = self.sampling_ratio or (int(places.max()) if len(places) else 1)
        k = torch.arange(most, dtype=step.dtype, device=step.device)
        bins = torch.arange(count, dtype=step.dtype, device=step.device)
        inner = (k + 0.5) * step[:, None] / places[:, None]
        at = first[:, None, None] + bins[:, None] * step[:, None, None] + inner[:, None, :]
        used = (k < places[:, None])[:, None, :] & (at >= -1) & (at <= size)
        at = at.clamp(0, size - 1)
        low = at.floor()
        part = at - low
        weight = used / places[:, None, None]
        shares = torch.zeros((*at.shape[:2], size), dtype=step.dtype, device=step.device)
        shares.scatter_add_(2, low.long(), (1 - part) * weight)
        return shares.scatter_add_(2, (low.long() + 1).clamp(max=size - 1), part * weight)

    def grid(self, boxes: Tensor, axis: int, size: int) -> tuple[Tensor, Tensor]:
        """The coordinates of the grid along x (axis 0) or y (1), R x (pooled + 1), and which of them count."""
        import torch

        count = self.pooled[1 - axis]
        first, last = boxes[:, axis], boxes[:, axis + 2]
        pad = (last - first + 1) * self.pad_ratio
        start = (first - pad) * self.spatial_scale - 0.5
        length = (last + pad) * self.spatial_scale - 0.5 - start
        steps = torch.arange(count + 1, dtype=boxes.dtype, device=boxes.device)
        found = start[:, None] + steps * (length / count)[:, None]
        return found, (length > 0)[:, None] & (found >= -0.5) & (found <= size - 0.5)


def sampled(x: Tensor, image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values of N x C x H x W at a grid for each of R regions: R x C x P x Q. Points outside are pulled in.

    image: R.  rows: R x P, columns: R x Q, coordinates with pixel centres at whole numbers.
    """
    n, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(-1, c)
    grid = (len(image), rows.shape[1], columns.shape[1])
    row, column = rows.clamp(0, h - 1), columns.clamp(0, w - 1)
    above, left = row.floor(), column.floor()
    low, near = (row - above).to(x.dtype), (column - left).to(x.dtype)
    total = None
    for k, high in ((0, 1 - low), (1, low)):
        for j, wide in ((0, 1 - near), (1, near)):
            line = (above.long() + k).clamp(max=h - 1)[:, :, None]
            place = (image[:, None, None] * h + line) * w + (left.long() + j).clamp(max=w - 1)[:, None, :]
            value = pixels.index_select(0, place.reshape(-1)).reshape(*grid, c)
            part = value * (high[:, :, None] * wide[:, None, :])[..., None]
            total = part if total is None else total + part
    assert total is not None
    return total.permute(0, 3, 1, 2)
