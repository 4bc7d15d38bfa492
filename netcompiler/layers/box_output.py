"""BoxOutput and BoxGroupOutput."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import ANY, Layer, exactly, layer
from .boxes import by_score, nms
from .decode_bbox import PLAIN, Four, normalised

if TYPE_CHECKING:
    from torch import Tensor

OVER = {"IOMU": "smaller", "IOFU": "first"}  # by nms_type; "union" for all others
ALONE = (0.0, 1.0, 1.0, 10.0, 10.0)  # the region that comes out where there is none
CELL, STEP = 7, 4  # panoramic-object-detection: sides are 7 x a power of 2, places multiples of 4


@dataclass(frozen=True, slots=True)
class Boxes(Layer):
    """Boxes of several detection heads, the best without those that overlap: what the two layers below share."""

    category = "shape"
    n_bottom = (1, ANY)
    n_top = (1, 2)
    no_gradient = tuple(range(64))

    fields: tuple[tuple[tuple[float, float], ...], ...] = ()  # by head: width and height of each field
    strides: tuple[float, ...] = ()
    fg_thr: float = 0
    iou_thr: float = 0.5
    nms_type: str = "IOU"
    field_whr: float = 2
    field_xyr: float = 2
    max_nms_num: int = 0
    max_post_nms_num: int = 0
    min_size: float = 15
    mean: Four = PLAIN[0]
    std: Four = PLAIN[1]
    scores: bool = False

    def brief(self) -> str:
        limits = f", {self.max_nms_num}/{self.max_post_nms_num}" if self.max_nms_num else ""
        return f"{len(self.strides)} heads{limits}, {self.nms_type} {self.iou_thr:g}"

    def shapes(self, images: int, sets: int = 1) -> Shapes:
        """The tops, for the most boxes where that is known, else for one."""
        count = images * self.max_post_nms_num or 1
        return ((count, 4 * sets + 1, 1, 1), (count, 4 * sets + 2, 1, 1))[: 1 + self.scores]

    def decoded(self, deltas: Tensor, wide: Any, high: Any, stride: float) -> tuple[Tensor, Tensor]:
        """Centres and sizes, ... x 2 x H x W each, of deltas ... x 4 x H x W over fields of some width and height."""
        import torch

        h, w = deltas.shape[-2:]
        like: dict[str, Any] = {"dtype": deltas.dtype, "device": deltas.device}
        plain = deltas * torch.tensor(self.std, **like)[:, None, None] + torch.tensor(self.mean, **like)[:, None, None]
        most, grown = 1 / self.field_xyr, log(self.field_whr)
        field = torch.stack([torch.as_tensor(v, **like) for v in (wide, high)], -1)[..., None, None]
        move = plain[..., :2, :, :].clamp(-most, most) * field
        size = plain[..., 2:, :, :].clamp(-grown, grown).exp() * field
        down, right = ((torch.arange(n, **like) + 0.5) * stride for n in (h, w))
        return move + torch.stack((right.expand(h, w), down[:, None].expand(h, w))), size

    def chosen(self, found: list[tuple[Tensor, Tensor]], one: float, over: str | None = None) -> tuple[Tensor, ...]:
        """The tops, of each image's boxes (K x 4 sets) and scores (K), best first."""
        import torch

        tops = []
        for i, (boxes, scores) in enumerate(found):
            order = by_score(scores, self.max_nms_num or None)
            order = order[
                nms(
                    boxes[order, :4],
                    self.iou_thr,
                    one=one,
                    over=over or OVER.get(self.nms_type, "union"),
                    meeting=True,
                    limit=self.max_post_nms_num or None,
                )
            ]
            image = torch.full_like(scores[order, None], i)
            tops.append(torch.cat((image, boxes[order], scores[order, None]), 1))
        rows = torch.cat(tops)
        if not len(rows):
            alone = (ALONE[0], *ALONE[1:] * (rows.shape[1] // 4))
            nothing = (rows.new_tensor(alone)[None], rows.new_zeros(1, rows.shape[1]))
            return tuple(t[:, :, None, None] for t in nothing[: 1 + self.scores])
        return tuple(t[:, :, None, None] for t in (rows[:, :-1], rows)[: 1 + self.scores])


@layer("BoxOutput")
@dataclass(frozen=True, slots=True)
class BoxOutput(Boxes):
    """Regions that may hold objects, of several detection heads, the best without those that overlap (MS-CNN).

    bottom[j]: head j, N x (K + 4) x H_j x W_j: scores of K classes, background first, and dx, dy, dw, dh
    top[0]: R x 5 x 1 x 1, rows of image, x1, y1, x2, y2      top[1], if named: R x 6 x 1 x 1, the score behind them
    Head j has the field field_w[j] x field_h[j] at pixels downsample_rate[j] apart. d std + mean, within +-1 / field_xyr,
    moves the centre in fields, and within +-log(field_whr) multiplies the sides by exp(d). Boxes end at the image; those
    with a side below min_size go, and those whose best object's score less the background's is below fg_thr. Of the
    max_nms_num best (0: all), those go that overlap a better one by more than iou_thr; max_post_nms_num stay (0: all).
    nms_type IOU divides by the union, IOMU by the smaller area, IOFU by the better box's. Without any box one comes out,
    1, 1, 10, 10 of image 0, with score and all 0 in top[1]. R is known only when it runs: the shape rule says the most,
    or 1. No gradient passes.
    panoramic-object-detection (num_param_set or ringpad written): several sets of deltas, the first of which counts in the
    overlaps; sides are rounded up to 7 times a power of 2, places down to multiples of 4; ringpad: x has no ends.
    Source: zhaoweicai/mscnn and gdlg/panoramic-object-detection, src/caffe/layers/box_output_layer.cpp.
    """

    num_param_set: int = 1
    ringpad: bool = False
    snaps: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.box_output_param
        for name in ("field_w", "field_h", "downsample_rate"):
            if len(getattr(p, name)) != len(bottoms):
                expected = f"{len(bottoms)}, one per bottom"
                at = p.at(name) or "box_output_param"
                raise NetError(
                    f"{name} has the wrong number of values", at=at, expected=expected, got=len(getattr(p, name))
                )
        if p.num_param_set < 1:
            raise NetError("num_param_set must be positive", at=p.at("num_param_set"), got=p.num_param_set)
        pairs = zip(p.field_w, p.field_h, strict=True)
        return cls(
            **common(p, msg),
            fields=tuple(((float(w), float(h)),) for w, h in pairs),
            strides=tuple(map(float, p.downsample_rate)),
            num_param_set=p.num_param_set,
            ringpad=p.ringpad,
            snaps=p.has("num_param_set") or p.has("ringpad"),
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        for i, shape in enumerate(bottoms):
            exactly(4, bottoms, i)
            if shape[:2] != bottoms[0][:2]:
                expected = f"{bottoms[0][0]} images and {bottoms[0][1]} channels, as bottom 0"
                raise NetError("the heads differ", expected=expected, got=f"{dims(shape)} at bottom {i}")
        least = 4 * self.num_param_set + 2
        if bottoms[0][1] < least:
            raise NetError("too few channels", expected=f"at least {least}: two scores, and deltas", got=bottoms[0][1])
        return self.shapes(bottoms[0][0], self.num_param_set)

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        heads = [b.detach().to(torch.promote_types(b.dtype, torch.float32)) for b in bottoms]
        boxes, scores = zip(*map(self.head, heads, self.fields, self.strides), strict=True)
        all_boxes, all_scores = torch.cat(boxes, 1), torch.cat(scores, 1)
        sides = all_boxes[..., 2:4] - all_boxes[..., :2]
        good = (all_scores >= self.fg_thr) & (sides >= self.min_size).all(-1)
        # Of equal scores the fork takes the last first.
        found = [(b[k].flip(0), s[k].flip(0)) for b, s, k in zip(all_boxes, all_scores, good, strict=True)]
        over = "second" if self.snaps and self.nms_type == "IOFU" else None
        return self.chosen(found, 0, over)

    def head(self, x: Tensor, fields: tuple[tuple[float, float], ...], stride: float) -> tuple[Tensor, Tensor]:
        """The boxes (N x H W x 4 sets) and scores (N x H W) of a head."""
        import torch

        n, c, h, w = x.shape
        classes = c - 4 * self.num_param_set
        score = x[:, 1:classes].amax(1) - x[:, 0]
        deltas = x[:, classes:].reshape(n, self.num_param_set, 4, h, w)
        centre, size = self.decoded(deltas, *fields[0], stride)
        if self.snaps:
            cells = ((size + (CELL - 1)) / CELL).trunc()
            size = CELL * 2 ** cells.log2().ceil()
        corner = centre - size / 2
        free = torch.tensor([self.ringpad, False], device=x.device)[:, None, None]
        corner = corner.where(free, corner.clamp(min=0))
        if self.snaps:
            corner = (corner.trunc() / STEP).trunc() * STEP
        room = corner.new_tensor([w * stride, h * stride])[:, None, None] - corner
        size = size.where(free, torch.minimum(size, room))
        box = torch.cat((corner, corner + size), 2)  # N x sets x 4 x H x W
        return box.permute(0, 3, 4, 1, 2).reshape(n, h * w, -1), score.reshape(n, -1)


@layer("BoxGroupOutput")
@dataclass(frozen=True, slots=True)
class BoxGroupOutput(Boxes):
    """Regions that may hold objects, of several detection heads with groups of fields, the best without those that
    overlap (Cascade R-CNN).

    bottom[2j]: N G_j x K x H_j x W_j, probabilities, background first      bottom[2j + 1]: deltas, N G_j x 4 x H_j x W_j
    top[0]: R x 5 x 1 x 1, rows of image, x1, y1, x2, y2      top[1], if named: R x 6 x 1 x 1, the score behind them
    Head j has the G_j fields of box_group_param[j], `stride` apart, and d std + mean moves and grows them as in BoxOutput;
    x2 and y2 are the last pixel. The score is 1 - background, at least fg_thr. Boxes are cut at 0 and at the image's width
    and height; those with a side below min_size go; then as in BoxOutput.
    Source: cascade-rcnn, src/caffe/layers/box_group_output_layer.cpp, src/caffe/util/bbox_util.cpp.
    """

    n_bottom = (2, ANY)
    ignored = frozenset({"engine", "cls_aware"})

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.box_group_output_param
        if len(bottoms) != 2 * len(p.box_group_param):
            expected = f"{2 * len(p.box_group_param)}, two for each box_group_param"
            raise NetError(
                "the wrong number of bottoms", at="box_group_output_param", expected=expected, got=len(bottoms)
            )
        for group in p.box_group_param:
            if not group.field_w or len(group.field_w) != len(group.field_h):
                got = f"{len(group.field_w)} and {len(group.field_h)}"
                raise NetError(
                    "field_w and field_h must be as many", at=group.at("field_w"), expected="one or more", got=got
                )
        groups = [tuple(zip(map(float, g.field_w), map(float, g.field_h), strict=True)) for g in p.box_group_param]
        return cls(**common(p, msg), fields=tuple(groups), strides=tuple(float(g.stride) for g in p.box_group_param))

    def tops(self, bottoms: Shapes) -> Shapes:
        images = 0
        for j, fields in enumerate(self.fields):
            probabilities, deltas = bottoms[2 * j : 2 * j + 2]
            exactly(4, bottoms, 2 * j)
            n, classes, h, w = probabilities
            images = images or n // len(fields)
            if n != images * len(fields) or classes != bottoms[0][1]:
                expected = f"{images * len(fields)} x {bottoms[0][1]} x H x W: {images} images, {len(fields)} fields"
                raise NetError(f"bottom {2 * j} does not fit", expected=expected, got=dims(probabilities))
            if deltas != (n, 4, h, w):
                raise NetError(f"bottom {2 * j + 1} does not fit", expected=dims((n, 4, h, w)), got=dims(deltas))
        return self.shapes(images)

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        boxes, scores = [], []
        for j, (fields, stride) in enumerate(zip(self.fields, self.strides, strict=True)):
            exact = torch.promote_types(bottoms[2 * j].dtype, torch.float32)
            probabilities, deltas = (b.detach().to(exact) for b in bottoms[2 * j : 2 * j + 2])
            h, w = deltas.shape[2:]
            wide, high = zip(*fields, strict=True)
            centre, size = self.decoded(deltas.reshape(-1, len(fields), 4, h, w), wide, high, stride)
            corner = centre - size / 2
            ends = corner.new_tensor([w * stride, h * stride])[:, None, None]
            box = torch.cat((corner.clamp(min=0), torch.minimum(corner + size - 1, ends)), 2)
            boxes.append(box.permute(0, 1, 3, 4, 2).flatten(1, 3))
            scores.append(1 - probabilities[:, 0].reshape(len(box), -1))
        all_boxes, all_scores = torch.cat(boxes, 1), torch.cat(scores, 1)
        sides = all_boxes[..., 2:] - all_boxes[..., :2] + 1
        good = (all_scores >= self.fg_thr) & (sides >= self.min_size).all(-1)
        return self.chosen([(b[k], s[k]) for b, s, k in zip(all_boxes, all_scores, good, strict=True)], 1)


def common(p: Msg, msg: Msg) -> dict[str, Any]:
    """The settings that both layers have."""
    for name in ("field_whr", "field_xyr"):
        if getattr(p, name) <= 0:
            raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
    mean, std = normalised(msg)
    numbers = ("fg_thr", "iou_thr", "nms_type", "field_whr", "field_xyr", "max_nms_num", "max_post_nms_num", "min_size")
    return {**{name: getattr(p, name) for name in numbers}, "mean": mean, "std": std, "scores": len(msg.top) > 1}
