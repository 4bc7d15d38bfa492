"""ROIWarping."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from .base import Layer, layer, traced
from .boxes import away_from_zero
from .roi_align import sampled
from .roi_pooling import ROI, pooled_sides, region_words, regions, rows_of

if TYPE_CHECKING:
    from torch import Tensor


@layer("ROIWarping")
@dataclass(frozen=True, slots=True)
class ROIWarping(Layer):
    """The largest of several bilinear values in each of pooled_h x pooled_w bins of each region; the region learns, too.

    bottom[0]: N x C x H x W      bottom[1]: R x 5 (x 1 x 1), rows of image, x1, y1, x2, y2
    top: R x C x pooled_h x pooled_w
    The ends times spatial_scale are rounded, halves away from 0; the region is n = max(b - a, 0) long. Bin i is read at
    a + (i + k / s) n / pooled, k = 0 .. s, s = ceil(n / pooled), pixel centres being whole numbers; with n = 0 at a alone.
    Points more than half a pixel outside the image do not count, and a bin without any is 0. The first of equal values
    takes the gradient.
    The gradient that bottom[1] is given stands for the region's centre and size, not for its ends: 0, then the sums of
    dy times the slope along x, along y, times (j - 1/2) of the slope along x, times (i - 1/2) of that along y, i and j
    being the point's place in the region, n + 1 long there; slopes beside the last row or column are 0. MNC's own Python
    layers make gradients of boxes of it.
    Quirk: whether the last point of a bin counts hangs on rounding, as k / s is summed up step by step in float32.
    Source: daijifeng001/caffe-mnc, src/caffe/layers/roi_warping_layer.cu (it has no CPU form).
    """

    category = "pooling"
    n_bottom = (2, 2)

    pooled: Shape
    spatial_scale: float = 1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.roi_warping_param
        if p.spatial_scale <= 0:
            raise NetError("spatial_scale must be positive", at=p.at("spatial_scale"), got=p.spatial_scale)
        return cls(pooled_sides(p), float(p.spatial_scale))

    def tops(self, bottoms: Shapes) -> Shapes:
        return ((regions(bottoms), bottoms[0][1], *self.pooled),)

    def brief(self) -> str:
        return region_words(self.pooled, self.spatial_scale, 0)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0]
        image, boxes = rows_of(bottoms[1], x)
        with torch.no_grad():
            (rows, row_counts), (columns, column_counts) = (
                self.points(boxes, axis, x.shape[3 - axis]) for axis in (1, 0)
            )
            best = x.new_full((len(image), x.shape[1], *self.pooled), -torch.inf)
            row, column = torch.full_like(best, -1, dtype=boxes.dtype), torch.full_like(best, -1, dtype=boxes.dtype)
            for y, y_counts in zip(rows, row_counts, strict=True):
                for z, z_counts in zip(columns, column_counts, strict=True):
                    value = sampled(x.detach(), image, y, z)
                    better = (value > best) & (y_counts[:, None, :, None] & z_counts[:, None, None, :])
                    best = value.where(better, best)
                    row, column = y[:, None, :, None].where(better, row), z[:, None, None, :].where(better, column)
        found = best > -torch.inf
        top = self.chosen(x, image, row, column) * found
        learn: Tensor = _regions_learn().apply(top, bottoms[1], x.detach(), image, boxes, row, column, found, self)
        return learn

    def points(self, boxes: Tensor, axis: int, size: int) -> tuple[list[Tensor], list[Tensor]]:
        """For k = 0, 1, ..: the coordinate of each bin's k-th point along x (axis 0) or y (1), and whether it counts."""
        import torch

        count = self.pooled[1 - axis]
        start = away_from_zero(boxes[:, axis] * self.spatial_scale)
        length = (away_from_zero(boxes[:, axis + 2] * self.spatial_scale) - start).clamp(min=0)
        points = (length / count).ceil()
        step = (1 / points)[:, None]
        most = (size + count) // count + 1 if traced(boxes) or not len(boxes) else int(points.max()) + 1
        bins = torch.arange(count, dtype=boxes.dtype, device=boxes.device).expand(len(boxes), count)
        place, found, counts = bins, [], []
        for _ in range(most):
            at = start[:, None] + place * (length / count)[:, None]
            counts.append((place <= bins + 1) & (at >= -0.5) & (at <= size - 0.5))
            found.append(at.clamp(0, size - 1).nan_to_num(0, 0, 0))
            place = place + step
        return found, counts

    def chosen(self, x: Tensor, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The bilinear value of each channel at one point of its own for each bin: R x C x P x Q."""
        return sum(w * v for w, v in corners(x, image, row, column))  # type: ignore[return-value]


def corners(x: Tensor, image: Tensor, row: Tensor, column: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The weight and the value of the four pixels around points (R x C x P x Q), row by row."""
    import torch

    c, h, w = x.shape[1:]
    row, column = row.clamp(0, h - 1), column.clamp(0, w - 1)
    above, left = row.floor(), column.floor()
    low, near = (row - above).to(x.dtype), (column - left).to(x.dtype)
    plane = (image[:, None] * c + torch.arange(c, device=x.device))[:, :, None, None] * (h * w)
    found = []
    for k, high in ((0, 1 - low), (1, low)):
        for j, wide in ((0, 1 - near), (1, near)):
            place = plane + (above.long() + k).clamp(max=h - 1) * w + (left.long() + j).clamp(max=w - 1)
            found.append((high * wide, x.reshape(-1).index_select(0, place.reshape(-1)).reshape(place.shape)))
    return found


@cache
def _regions_learn() -> Any:
    """The torch.autograd.Function that gives a top and the regions their gradients."""
    import torch

    class Learn(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, top: Tensor, rois: Tensor, *rest: Any) -> Tensor:
            ctx.save_for_backward(*rest[:-1])
            ctx.layer, ctx.like = rest[-1], rois
            return top.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
            nothing = (None,) * 7
            if not ctx.needs_input_grad[1]:
                return (grads[0], None, *nothing)
            x, image, boxes, row, column, found = ctx.saved_tensors
            h, w = x.shape[2:]
            (_, a), (_, b), (_, c), (_, d) = corners(x, image, row, column)
            low, near = row - row.floor(), column - column.floor()
            inside = found & (row.floor() + 1 <= h - 1) & (column.floor() + 1 <= w - 1)
            along_x = ((b - a) * (1 - low) + (d - c) * low) * inside
            along_y = ((c - a) * (1 - near) + (d - b) * near) * inside
            parts = []
            for axis, slope, point in ((0, along_x, column), (1, along_y, row)):
                start = away_from_zero(boxes[:, axis] * ctx.layer.spatial_scale)
                end = away_from_zero(boxes[:, axis + 2] * ctx.layer.spatial_scale)
                length = (end - start + 1).clamp(min=1)
                place = (point - start[:, None, None, None]) / length[:, None, None, None]
                parts.append((slope, slope * (place - 0.5)))
            order = parts[0][0], parts[1][0], parts[0][1], parts[1][1]
            sums = [(grads[0] * part).sum((1, 2, 3)) for part in order]
            rois = torch.stack([torch.zeros_like(sums[0]), *sums], 1)
            assert rois.shape[1] == ROI
            return (grads[0], rois.reshape(ctx.like.shape).to(ctx.like.dtype), *nothing)

    return Learn
