"""ROIAlign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from .base import Layer, layer, refuse_gradient
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
    Source: cascade-rcnn, src/caffe/layers/roi_align_layer.cpp.
    """

    category = "pooling"
    n_bottom = (2, 2)
    no_gradient = (1,)

    pooled: Shape
    spatial_scale: float = 1
    pad_ratio: float = 0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.roi_pooling_param
        if p.spatial_scale <= 0:
            raise NetError("spatial_scale must be positive", at=p.at("spatial_scale"), got=p.spatial_scale)
        return cls(pooled_sides(p), float(p.spatial_scale), float(p.pad_ratio))

    def tops(self, bottoms: Shapes) -> Shapes:
        return ((regions(bottoms), bottoms[0][1], self.pooled[0] + 1, self.pooled[1] + 1),)

    def brief(self) -> str:
        return region_words(self.pooled, self.spatial_scale, self.pad_ratio)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        image, boxes = rows_of(bottoms[1], x)
        rows, fits_rows = self.grid(boxes, 1, x.shape[2])
        columns, fits_columns = self.grid(boxes, 0, x.shape[3])
        top = sampled(x, image, rows, columns) * (fits_rows[:, None, :, None] & fits_columns[:, None, None, :])
        return refuse_gradient(top, bottoms[1], "ROIAlign has no gradient for its regions")

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
