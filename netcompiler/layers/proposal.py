"""Proposal, and what finders of regions share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError
from ..graph import Array, Shapes, dims
from ..text import Msg
from .base import Layer, exactly, layer, not_empty
from .boxes import by_score, clip, decode, nms
from .roi_pooling import ROI

if TYPE_CHECKING:
    from torch import Tensor

PIXEL = 1  # a box has its last column and row
INFO = 3  # height, width and scale: what is told of an image at least
BACKGROUND_AND_OBJECT = 2


@layer("Proposal")
@dataclass(frozen=True, slots=True)
class Proposal(Layer):
    """Regions that may hold objects: anchor boxes at each place, moved by deltas, the best without those that overlap.

    bottom[0]: 1 x 2A x H x W, probabilities of background (A), then of objects (A)      bottom[1]: deltas, 1 x 4A x H x W
    bottom[2]: rows of the image's height, width, scale (or its scales of height and width)
    top[0]: R x 5: image, x1, y1, x2, y2      top[1], if named: R scores.  R <= post_nms_topn is known only when it runs.
    A = ratios x scales anchors of base_size, feat_stride apart. Boxes moved by dx, dy (in widths and heights) and dw, dh
    (logarithms) are clipped to the image; a box with a side under min_size x scale has score 0, but stays. Of the
    pre_nms_topn best, those go that overlap a better one by more than nms_thresh. No gradient passes.
    happynear/caffe-windows: `scale` is a size in pixels; several images may come, all of the size in the first row.
    Quirk: boxes of equal scores, such as 0, come in the order that the fork's own quicksort leaves them in: see `ordered`.
    Source: luoyetx/mini-caffe, src/layers/proposal_layer.cpp; happynear/caffe-windows and
    openvinotoolkit/training_toolbox_caffe, src/caffe/layers/proposal_layer.cpp.
    """

    category = "shape"
    n_bottom = (3, 3)
    n_top = (1, 2)
    no_gradient = (0, 1, 2)

    ratios: tuple[float, ...]
    scales: tuple[float, ...]
    feat_stride: int = 16
    base_size: int = 16
    min_size: int = 16
    pre_nms_topn: int = 6000
    post_nms_topn: int = 300
    nms_thresh: float = 0.7
    scores: bool = False
    pixels: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.proposal_param
        for name in ("ratio", "scale"):
            if not getattr(p, name) or min(getattr(p, name)) <= 0:
                raise NetError(f"{name} needs positive values", at=p.at(name) or "proposal_param")
        for name in ("feat_stride", "base_size", "pre_nms_topn", "post_nms_topn"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
        return cls(
            tuple(p.ratio),
            tuple(p.scale),
            p.feat_stride,
            p.base_size,
            p.min_size,
            p.pre_nms_topn,
            p.post_nms_topn,
            float(p.nms_thresh),
            len(msg.top) > 1,
            msg.dialect == "happynear",
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        images = checked_maps(bottoms, len(self.ratios) * len(self.scales), INFO)
        if images != 1 and not self.pixels:
            raise NetError("only one image at a time", expected="1 x 2A x H x W", got=dims(bottoms[0]))
        count = images * self.post_nms_topn
        return ((count, ROI), (count,))[: 1 + self.scores]

    def brief(self) -> str:
        sides = f"{len(self.ratios)}x{len(self.scales)} anchors, s{self.feat_stride}"
        return f"{sides}, {self.pre_nms_topn}/{self.post_nms_topn}, iou {self.nms_thresh:g}"

    def anchors(self) -> Array:
        """The boxes around the first place, A x 4: ratio by ratio, scale by scale."""
        ratios, scales = np.array(self.ratios, np.float32)[:, None], np.array(self.scales, np.float32)
        wide = np.sqrt(np.float32(self.base_size**2) / ratios)
        if self.pixels:
            sides = [np.floor(v * scales / self.base_size - 0.5) for v in (wide, wide * ratios)]  # round(.. - 1)
        else:
            wide = np.floor(wide + 0.5)
            sides = [v * scales - 1 for v in (wide, np.floor(wide * ratios + 0.5))]
        return around(0.5 * (self.base_size - 1), sides[0], sides[1])

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        maps, deltas, info = (b.detach() for b in bottoms)
        info = info.to(torch.promote_types(maps.dtype, torch.float32))
        height, width, *scale = info.reshape(-1)[: min(row_of(info.shape), INFO + 1)].unbind()
        least = self.min_size * torch.stack([scale[-1], scale[0]])
        kept = []
        for i in range(len(maps)):
            scores, boxes = moved_anchors(maps[i], deltas[i], self.anchors(), self.feat_stride)
            boxes = clip(boxes, height - PIXEL, width - PIXEL)
            fits = (boxes[:, 2:] - boxes[:, :2] + PIXEL >= least).all(1)
            scores = scores * fits
            order = ordered(scores, self.pre_nms_topn, swaps=len(scale) > 1)
            kept.append(best(i, boxes, scores, order, self.nms_thresh, self.post_nms_topn))
        rois, scores = (torch.cat(part) for part in zip(*kept, strict=True))
        return (rois, scores)[: 1 + self.scores]


def around(centre: float, wide: Array, high: Array) -> Array:
    """Boxes around a point of a diagonal, of sides less 1: A x 4."""
    corners = [centre - 0.5 * wide, centre - 0.5 * high, centre + 0.5 * wide, centre + 0.5 * high]
    return np.stack(corners, -1).reshape(-1, 4)


def checked_maps(bottoms: Shapes, anchors: int, least: int) -> int:
    """The number of images. Raises: NetError unless scores and deltas fit the anchors, and bottom 2 tells the image."""
    exactly(4, bottoms)
    not_empty(bottoms)
    n, c, h, w = bottoms[0]
    if c != BACKGROUND_AND_OBJECT * anchors:
        expected = f"{BACKGROUND_AND_OBJECT * anchors} channels, for {anchors} anchors"
        raise NetError("the scores do not fit the anchors", expected=expected, got=c)
    if bottoms[1] != (n, 4 * anchors, h, w):
        expected = dims((n, 4 * anchors, h, w))
        raise NetError("the deltas do not fit the scores", expected=expected, got=f"{dims(bottoms[1])} at bottom 1")
    if row_of(bottoms[2]) < least:
        expected = "height, width and scale of the image"
        raise NetError("bottom 2 does not tell the image", expected=expected, got=dims(bottoms[2]))
    return n


def row_of(shape: Sequence[int]) -> int:
    """How many values an image has in a blob that tells of images."""
    return prod(shape[1:] if len(shape) > 1 else shape)


def moved_anchors(scores: Tensor, deltas: Tensor, anchors: Array, stride: int) -> tuple[Tensor, Tensor]:
    """Scores (K) and boxes (K x 4) of all anchors of an image, place by place, row by row.

    scores: 2A x H x W, background first.  deltas: 4A x H x W.
    """
    import torch

    exact = torch.promote_types(scores.dtype, torch.float32)
    count, h, w = len(anchors), *scores.shape[1:]
    boxes = at_places(torch.from_numpy(anchors).to(scores.device, exact), h, w, stride)
    moves = deltas.reshape(count, 4, h, w).permute(2, 3, 0, 1).reshape(-1, 4).to(exact)
    return scores[count:].permute(1, 2, 0).reshape(-1), decode(boxes, moves, PIXEL)


def at_places(anchors: Tensor, h: int, w: int, stride: int) -> Tensor:
    """The anchors at each of h x w places, `stride` pixels apart: (h w A) x 4."""
    import torch

    down, right = (torch.arange(size, device=anchors.device, dtype=anchors.dtype) * stride for size in (h, w))
    corner = torch.stack((right.expand(h, w), down[:, None].expand(h, w)), -1)
    return (torch.cat((corner, corner), -1)[:, :, None, :] + anchors).reshape(-1, 4)


def best(
    image: int, boxes: Tensor, scores: Tensor, order: Tensor, threshold: float, after: int
) -> tuple[Tensor, Tensor]:
    """The rows image, x1, y1, x2, y2 of the boxes that stay of those in `order`, and their scores."""
    import torch

    order = order[nms(boxes[order], threshold, one=PIXEL, limit=after)]
    chosen = boxes[order]
    return torch.cat((torch.full_like(chosen[:, :1], image), chosen), 1), scores[order]


def ordered(scores: Tensor, limit: int, swaps: bool) -> Tensor:
    """The places of the `limit` largest scores from the largest down, equals in the order that a quicksort leaves.

    swaps: that of happynear/caffe-windows and OpenVINO, which swaps pairs; else that of mini-caffe, which fills the hole
    that the pivot left. Both take the first of a range as pivot.
    """
    import torch

    order = by_score(scores)
    sorted_scores = scores[order]
    if not bool((sorted_scores[1:] == sorted_scores[:-1])[:limit].any()):
        return order[:limit]
    values, places = scores.tolist(), list(range(len(scores)))
    ranges = [(0, len(values) - 1)]
    while ranges:
        first, last = ranges.pop()
        if first >= last or values[first : last + 1].count(values[first]) == last + 1 - first:
            continue
        middle = (_by_swaps if swaps else _by_holes)(values, places, first, last)
        ranges.append((first, middle - 1))
        if middle + 1 < limit:
            ranges.append((middle + 1, last))
    return torch.tensor(places[:limit], device=scores.device)


def _by_holes(values: list[float], places: list[int], first: int, last: int) -> int:
    """Part a range: those before the returned place are at least the pivot, those behind it at most."""
    pivot, place = values[first], places[first]
    while first < last:
        while first < last and values[last] <= pivot:
            last -= 1
        values[first], places[first] = values[last], places[last]
        while first < last and values[first] >= pivot:
            first += 1
        values[last], places[last] = values[first], places[first]
    values[first], places[first] = pivot, place
    return first


def _by_swaps(values: list[float], places: list[int], first: int, last: int) -> int:
    """The same, in another way."""
    pivot, left, right = values[first], first + 1, last

    def swap(i: int, j: int) -> None:
        values[i], values[j] = values[j], values[i]
        places[i], places[j] = places[j], places[i]

    while left <= right:
        while left <= last and values[left] >= pivot:
            left += 1
        while right > first and values[right] <= pivot:
            right -= 1
        if left <= right:
            swap(left, right)
            left, right = left + 1, right - 1
    swap(first, right)
    return right
