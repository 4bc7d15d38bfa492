"""ROIPooling, and what layers over regions of interest share."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes, dims
from ..text import Msg
from .base import Layer, exactly, layer, not_empty, refuse_gradient, traced, window_words
from .boxes import away_from_zero

if TYPE_CHECKING:
    from torch import Tensor

ROI = 5  # image, x1, y1, x2, y2
RELATIVE = -1.0


@layer("ROIPooling")
@dataclass(frozen=True, slots=True)
class ROIPooling(Layer):
    """The largest value of each of pooled_h x pooled_w bins of each region, channel by channel.

    bottom[0]: N x C x H x W      bottom[1]: R x 5 (x 1 x 1), rows of image, x1, y1, x2, y2      top: R x C x pooled_h x
    pooled_w.  A side of w pixels is first widened by pad_ratio (w + 1) on either end. Its ends a and b times
    spatial_scale are rounded, halves away from 0; the region is n = max(b - a + 1, 1) pixels long. Bin i has the pixels
    from a + floor(i n / pooled) up to before a + ceil((i + 1) n / pooled), of those inside the image; a bin with none is 0.
    Of equal values the first takes the gradient. The regions have none.
    Quirk: a pixel beyond b, which a bin has by rounding or where b comes before a, takes no gradient.
    i n / pooled is computed as i times the rounded n / pooled, so that a bin may get one pixel more; Intel Caffe divides
    whole numbers. jolibrain: spatial_scale -1, the default there, is for regions in 0 .. 1, times W and H.
    ringpad (panoramic-object-detection): the image goes round, its last column lies beside its first.
    Source: caffe-fast-rcnn, src/caffe/layers/roi_pooling_layer.cpp, and those of intel/caffe, zhaoweicai/mscnn,
    gdlg/panoramic-object-detection.
    """

    category = "pooling"
    n_bottom = (2, 2)
    no_gradient = (1,)
    ignored = frozenset(
        {"engine", "pooled_size"}
    )  # pooled_size: Intel Caffe's schema has it, none of its layers reads it

    pooled: Shape
    spatial_scale: float = 1
    pad_ratio: float = 0
    ringpad: bool = False
    whole_bins: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.roi_pooling_param
        scale = float(p.spatial_scale)
        if scale < 0 or (msg.dialect == "jolibrain" and not p.has("spatial_scale")):
            scale = RELATIVE
        return cls(pooled_sides(p), scale, float(p.pad_ratio), p.ringpad, msg.dialect == "intel")

    def tops(self, bottoms: Shapes) -> Shapes:
        return ((regions(bottoms), bottoms[0][1], *self.pooled),)

    def brief(self) -> str:
        return region_words(self.pooled, self.spatial_scale, self.pad_ratio)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        image, boxes = rows_of(bottoms[1], x)
        sides = ((1, x.shape[2]), (0, x.shape[3]))
        rows, columns = (self.bins(boxes, *side) for side in sides)
        last_row, last_column = (self.span(boxes, *side)[1] for side in sides)
        top = largest(x, image, rows, columns, None if self.ringpad else (last_row, last_column))
        return refuse_gradient(top, bottoms[1], "ROIPooling has no gradient for its regions")

    def span(self, boxes: Tensor, axis: int, size: int) -> tuple[Tensor, Tensor]:
        """The first and the last pixel of the regions along x (axis 0) or y (1)."""
        first, last = boxes[:, axis], boxes[:, axis + 2]
        pad = (last - first + 1) * self.pad_ratio
        scale = size if self.spatial_scale == RELATIVE else self.spatial_scale
        return away_from_zero((first - pad) * scale), away_from_zero((last + pad) * scale)

    def bins(self, boxes: Tensor, axis: int, size: int) -> tuple[Tensor, Tensor]:
        """Where the bins along x (axis 0) or y (1) start and end (excluded), each R x pooled."""
        import torch

        count = self.pooled[1 - axis]
        start, last = self.span(boxes, axis, size)
        length = (last - start + 1).clamp(min=1)
        steps = torch.arange(count + 1, dtype=boxes.dtype, device=boxes.device)
        if self.whole_bins:
            edges, whole = length.long()[:, None] * steps.long(), count
            low, high = edges[:, :-1] // whole, -(-edges[:, 1:] // whole)
        else:
            edges = (length / count)[:, None] * steps
            low, high = edges[:, :-1].floor().long(), edges[:, 1:].ceil().long()
        low, high = low + start.long()[:, None], high + start.long()[:, None]
        if self.ringpad and axis == 0:
            return low % size, low % size + (high - low).clamp(max=size)
        return low.clamp(0, size), high.clamp(0, size)


def pooled_sides(p: Msg) -> Shape:
    """pooled_h and pooled_w of a layer over regions. Raises: NetError unless both are positive."""
    for name in ("pooled_h", "pooled_w"):
        if getattr(p, name) < 1:
            raise NetError(f"{name} is missing" if not p.has(name) else f"{name} must be positive", at=p.at(name))
    return p.pooled_h, p.pooled_w


def regions(bottoms: Shapes) -> int:
    """How many regions bottom 1 has. Raises: NetError unless it has rows of 5 and bottom 0 is images."""
    exactly(4, bottoms)
    not_empty(bottoms)
    shape = bottoms[1]
    if not shape or prod(shape[1:]) != ROI:
        expected = "R x 5: image, x1, y1, x2, y2 for each region"
        raise NetError("bottom 1 has no rows of 5", expected=expected, got=dims(shape))
    return shape[0]


def region_words(pooled: Shape, scale: float, pad_ratio: float) -> str:
    """How pictures write the bins, the scale and the padding of regions."""
    usual = 0 < scale < 1 and round(1 / scale, 3) == round(1 / scale)
    words = (
        "relative" if scale == RELATIVE else f"1/{1 / scale:.0f}" if usual else f"scale {scale:g}" if scale != 1 else ""
    )
    sides = window_words(pooled, (1,), (0,))
    return ", ".join([*sides, *([words] if words else []), *([f"pad {pad_ratio:g}"] if pad_ratio else [])])


def rows_of(rois: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The image (R whole numbers) and the box (R x 4, float32 at least) of each region.

    Raises: NetError for an image that x has not, except while the graph is traced.
    """
    import torch

    rows = rois.detach().reshape(rois.shape[0], ROI).to(torch.promote_types(x.dtype, torch.float32))
    image = rows[:, 0].long()  # towards 0, as Caffe does
    if not traced(image) and len(image):
        low, high = (int(v) for v in torch.stack(image.aminmax()).tolist())
        if low < 0 or high >= len(x):
            got = low if low < 0 else high
            raise NetError("a region is of an image that there is not", expected=f"0 to {len(x) - 1}", got=got)
    return image, rows[:, 1:]


Pair = tuple["Tensor", "Tensor | None"]  # values, and the places they are of, where those matter


def largest(
    x: Tensor,
    image: Tensor,
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor],
    last: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """The largest value of each channel in windows of x, R x C x P x Q; 0 in empty ones. The first takes the gradient.

    image: R.  rows: start and end (excluded), each R x P; columns: each R x Q.
    last: the last row and column that take a gradient, each R; None: the image goes round, and columns go up to 2 W.
    The maxima over all windows of 2^i x 2^j pixels are made level by level, each from the one before; any window is the
    union of four of those (or fewer) that overlap.
    """
    import torch

    n, c, h, w = x.shape
    p, q = rows[0].shape[1], columns[0].shape[1]
    grid = (len(image), p, q)
    top, bottom = (edge[:, :, None].expand(grid).reshape(-1) for edge in rows)
    left, right = (edge[:, None, :].expand(grid).reshape(-1) for edge in columns)
    images = image[:, None, None].expand(grid).reshape(-1)
    filled = (bottom > top) & (right > left)
    level = [_levels((b - a).clamp(min=1)) for a, b in ((top, bottom), (left, right))]
    needs = x.requires_grad and torch.is_grad_enabled()
    with torch.no_grad():
        whole = x.detach().permute(0, 2, 3, 1)
        wide = w * 2 if last is None else w
        whole = torch.cat((whole, whole), 2) if last is None else whole.contiguous()
        place = torch.arange(h * wide, device=x.device).reshape(1, h, wide, 1).expand(whole.shape) if needs else None
        values, found = _pooled(whole, place, images, (top, bottom, left, right), level, filled)
        if found is None:
            best = values.where(filled[:, None], 0).reshape(*grid, c).permute(0, 3, 1, 2)
            return best.contiguous()
        found = found // wide * w + found % w
        channel = torch.arange(c, device=x.device)
        index = ((images[:, None] * c + channel) * (h * w) + found).where(filled[:, None], 0)
    best = x.reshape(-1).index_select(0, index.reshape(-1)).reshape(-1, c) * filled[:, None]
    if last is not None:
        ends = [end[:, None, None].expand(grid).reshape(-1, 1) for end in last]
        best = best.where((found // w <= ends[0]) & (found % w <= ends[1]), best.detach())
    return best.reshape(*grid, c).permute(0, 3, 1, 2).contiguous()


def _levels(length: Tensor) -> Tensor:
    """The largest k with 2^k <= length."""
    import torch

    return torch.stack([length >= 2**k for k in range(1, 16)]).sum(0)


def _pooled(
    values: Tensor,
    place: Tensor | None,
    images: Tensor,
    window: tuple[Tensor, ...],
    level: list[Tensor],
    filled: Tensor,
) -> Pair:
    """The largest values, and their places, of Q windows over N x H x W x C: each Q x C."""
    top, bottom, left, right = window
    code = level[0] * 16 + level[1]
    whole = traced(values)
    present = None if whole else set(code[filled].tolist())
    best = values.new_zeros(len(images), values.shape[3])
    at = None if place is None else best.long()
    by_rows: Pair = values, place
    for i in range(16):
        if i:
            by_rows = _doubled(by_rows, 2 ** (i - 1), 1)
        both = by_rows
        if not both[0].shape[1]:
            break
        for j in range(16):
            if j:
                both = _doubled(both, 2 ** (j - 1), 2)
            if not both[0].shape[2] or (present is not None and not any(k // 16 == i and k % 16 >= j for k in present)):
                break
            if present is not None and i * 16 + j not in present:
                continue
            here = (code == i * 16 + j) & filled
            some = slice(None) if whole else here.nonzero().squeeze(1)
            ends = bottom[some] - 2**i, right[some] - 2**j
            corners = [(top[some], left[some]), (top[some], ends[1]), (ends[0], left[some]), ends]
            picked = _corner(both, images[some], *corners[0])
            for row, column in corners[1:]:
                picked = _larger(picked, _corner(both, images[some], row, column))
            if whole:
                best = picked[0].where(here[:, None], best)
                at = None if at is None or picked[1] is None else picked[1].where(here[:, None], at)
            else:
                best[some] = picked[0]
                if at is not None and picked[1] is not None:
                    at[some] = picked[1]
    return best, at


def _doubled(level: Pair, step: int, axis: int) -> Pair:
    """The maxima over windows of twice the length along an axis."""
    size = level[0].shape[axis] - step
    if size < 1:
        return level[0].narrow(axis, 0, 0), None if level[1] is None else level[1].narrow(axis, 0, 0)
    parts = [tuple(None if t is None else t.narrow(axis, start, size) for t in level) for start in (0, step)]
    return _larger(parts[0], parts[1])  # type: ignore[arg-type]


def _larger(a: Pair, b: Pair) -> Pair:
    """The larger values; of equals those that stand first in the image."""
    import torch

    if a[1] is None or b[1] is None:
        return torch.maximum(a[0], b[0]), None
    second = (b[0] > a[0]) | ((b[0] == a[0]) & (b[1] < a[1]))
    return b[0].where(second, a[0]), b[1].where(second, a[1])


def _corner(level: Pair, images: Tensor, row: Tensor, column: Tensor) -> Pair:
    """What stands at some rows and columns of a level: each Q x C."""
    n, h, w, c = level[0].shape
    index = (images * h + row.clamp(0, h - 1)) * w + column.clamp(0, w - 1)
    values, place = (None if t is None else t.reshape(-1, c).index_select(0, index) for t in level)
    assert values is not None
    return values, place
