"""ProposalTarget."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, not_in_place
from .bbox_accuracy import MATCHED
from .boxes import encode, iou
from .decode_bbox import PLAIN, Four, normalised
from .roi_pooling import ROI

if TYPE_CHECKING:
    from torch import Tensor

CASCADES = ("pickup_discard", "append_gtbox", "bbox_thr_lw", "bbox_thr_hg")  # fields of Cascade R-CNN's form
ROOM = ("has_3d_boxes_and_proj_mat_input", "output_3d_boxes", "output_sample_weight", "use_panoramic")
SMALLEST = 32  # the sides of a box that is made up, at least
KNOWN = 7  # image, x1, y1, x2, y2, class, ignored


@layer("ProposalTarget")
@dataclass(frozen=True, slots=True)
class ProposalTarget(Layer):
    """A sample of regions to learn from, with their classes and deltas (MS-CNN, Cascade R-CNN).

    bottom[0]: regions, R x 5: image, x1, y1, x2, y2      bottom[1]: objects, K x 7 or more: image, x1, y1, x2, y2, class,
    ignored (rows of image -1 count for nothing)
    top[0]: S x 5 regions      top[1]: S x 1 classes, 0 for background      top[2]: deltas, S x 4 cls_num (S x 8 with
    cls_aware false), those of the class      top[3], top[4]: inside and outside weights, 1 where there are deltas
    top[5]: S x 6: class, x1, y1, x2, y2 and overlap of the object, 0 for background      top[6], if named: S x 1, weights of
    the samples; all with four axes
    The objects join the regions (not with append_gtbox false). A region is of the class of the object it overlaps most, if
    by fg_thr or more, and is left out if that is ignored; with bg_thr_lw to bg_thr_hg it is background. fg_fraction of
    batch_size are objects at most, the rest background, drawn by chance (torch's generator) where there are more; where
    there are fewer, regions that are neither fill up (not with pickup_discard false), and in MS-CNN's form boxes by chance
    that overlap no object by fg_thr. In Cascade R-CNN's (its dialect, or fields that only it has) one such box stands in
    for an empty sample, a batch_size of -1 takes all, and overlaps outside bbox_thr_lw .. bbox_thr_hg have weight 0.
    Deltas are less mean, divided by std, of bbox_reg_param. The samples' weights are 1 (with iou_weighted an object's
    overlap), scaled so that objects weigh fg_fraction of S together, and backgrounds the rest.
    S is known only when it runs: the shape rule says batch_size. No gradient passes.
    Source: zhaoweicai/mscnn and cascade-rcnn, src/caffe/layers/proposal_target_layer.cpp.
    """

    category = "shape"
    n_bottom = (2, 2)
    n_top = (6, 7)
    no_gradient = (0, 1)

    cls_num: int
    batch_size: int = 128
    fg_fraction: float = 0.25
    images: int = 4
    fg_thr: float = 0.5
    bg_thr: tuple[float, float] = (0.1, 0.5)
    image: tuple[int, int] = (0, 0)
    iou_weighted: bool = False
    cls_aware: bool = True
    mean: Four = PLAIN[0]
    std: Four = PLAIN[1]
    weights: bool = False
    cascade: bool = False
    pickup_discard: bool = True
    append_gtbox: bool = True
    bbox_thr: tuple[float, float] = (0.0, 10.0)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.proposal_target_param
        for name in ROOM:
            if getattr(p, name):
                what = f"{name} is not supported: the form for boxes in space"
                raise NetError(what, at=p.at(name), hint="remove it for boxes in the image")
        if p.cls_num < 1:
            raise NetError("cls_num is missing", at="proposal_target_param")
        cascade = msg.dialect == "cascade-rcnn" or any(p.has(name) for name in CASCADES)
        if p.batch_size < 1 and not (cascade and p.batch_size == -1):
            raise NetError("batch_size must be positive", at=p.at("batch_size"), got=p.batch_size)
        if p.fg_thr < p.bg_thr_hg:
            raise NetError(
                "fg_thr is below bg_thr_hg", at=p.at("fg_thr"), expected=f"{p.bg_thr_hg:g} or more", got=p.fg_thr
            )
        for name in ("img_width", "img_height"):
            if getattr(p, name) <= SMALLEST:
                what = f"{name} must be above {SMALLEST}" if p.has(name) else f"{name} is missing"
                raise NetError(what, at=p.at(name))
        mean, std = normalised(msg)
        return cls(
            p.cls_num,
            p.batch_size,
            float(p.fg_fraction),
            p.num_img_per_batch,
            float(p.fg_thr),
            (float(p.bg_thr_lw), float(p.bg_thr_hg)),
            (p.img_width, p.img_height),
            p.iou_weighted,
            msg.bbox_reg_param.cls_aware,
            mean,
            std,
            len(msg.top) > MATCHED,
            cascade,
            p.pickup_discard,
            p.append_gtbox,
            (float(p.bbox_thr_lw), float(p.bbox_thr_hg)),
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        for i in range(2):
            at_least(2, bottoms, i)
        if prod(bottoms[0][1:]) != ROI:
            raise NetError("bottom 0 has no rows of 5", expected="image, x1, y1, x2, y2", got=dims(bottoms[0]))
        if prod(bottoms[1][1:]) < KNOWN:
            expected = "rows of 7 at least: image, x1, y1, x2, y2, class, ignored"
            raise NetError("bottom 1 has no objects", expected=expected, got=dims(bottoms[1]))
        count = self.batch_size if self.batch_size > 0 else max(bottoms[0][0], 1)
        return tuple((count, wide, 1, 1) for wide in (ROI, 1, *(self.wide,) * 3, MATCHED, 1))[: MATCHED + self.weights]

    @property
    def wide(self) -> int:
        """How many deltas a region has."""
        return 4 * self.cls_num if self.cls_aware else 8

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        rois = bottoms[0].detach().flatten(1)
        objects = bottoms[1].detach().flatten(1).to(rois.dtype)
        if self.cascade:
            objects = objects[objects[:, 0] != -1]
        if self.append_gtbox:
            rois = torch.cat((rois, objects[:, :ROI]))
        overlap, which = self.matched(rois, objects)
        rois, overlap, which, found = self.sample(rois, overlap, which, objects)
        own = objects[which.clamp(min=0)] if len(objects) else rois.new_zeros(len(rois), KNOWN)
        classes = (own[:, 5] * found).long()
        if len(classes) and int(classes.max()) >= self.cls_num:
            expected = f"below {self.cls_num}"
            raise NetError("the class of an object is out of range", expected=expected, got=int(classes.max()))
        moves = (encode(rois[:, 1:], own[:, 1:ROI], 1) - rois.new_tensor(self.mean)) / rois.new_tensor(self.std)
        places = classes if self.cls_aware else classes.clamp(max=1)
        spread = torch.nn.functional.one_hot(places, self.wide // 4).to(rois.dtype)[..., None] * found[:, None, None]
        targets = (spread * moves.where(found[:, None], 0)[:, None]).flatten(1)
        weighed = (overlap >= self.bbox_thr[0]) & (overlap <= self.bbox_thr[1])
        weights = (spread * weighed[:, None, None]).expand(-1, -1, 4).flatten(1)
        known = torch.cat((classes[:, None].to(rois.dtype), own[:, 1:ROI], overlap[:, None]), 1) * found[:, None]
        tops = [rois, classes[:, None].to(rois.dtype), targets, weights, weights, known]
        if self.weights:
            tops.append(self.balanced(overlap, found)[:, None])
        return tuple(t[:, :, None, None] for t in tops)

    def matched(self, rois: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """For each region the largest overlap with an object of its image, and which; 0 and -1 where there is none."""
        import torch

        if not len(objects):
            return rois.new_zeros(len(rois)), rois.new_full((len(rois),), -1).long()
        one, more = (1, 0) if self.cascade else (0, 1)  # between lines, where less than a pixel in common counts, too
        first, second = (torch.cat((b[:, 1:3], b[:, 3:ROI] + more), 1) for b in (rois, objects))
        overlap = iou(first, second, one, meeting=True)
        overlap = overlap.masked_fill(rois[:, :1] != objects[:, 0], -1)
        most, which = overlap.max(1)
        return most.clamp(min=0), which.where(most >= 0, -1)

    def sample(
        self, rois: Tensor, overlap: Tensor, which: Tensor, objects: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The chosen regions, objects first, with their overlaps, their objects and whether they are objects."""
        import torch

        like = overlap >= self.fg_thr
        ignored = (objects[which.clamp(min=0), 6] != 0) & like if len(objects) else like
        low, high = self.bg_thr
        back = ~like & (overlap >= low) & (overlap < high)
        first, second, rest = (k.nonzero().squeeze(1) for k in (like & ~ignored, back, ~like & ~back))
        size = self.batch_size if self.batch_size > 0 else len(first) + len(second)
        most = floor(self.fg_fraction * size + 0.5) if self.batch_size > 0 else len(first)
        first = shuffled(first, most)
        room = size - len(first)
        if len(second) > room:
            second = shuffled(second, room)
        elif self.pickup_discard:
            second = torch.cat((second, rest[: room - len(second)]))
        kept = torch.cat((first, second))
        found = torch.arange(len(kept), device=rois.device) < len(first)
        rois, overlap, which = rois[kept], overlap[kept], which[kept]
        missing = size - len(kept) if not self.cascade else int(not len(kept))
        if missing > 0:
            made = self.made_up(missing, objects, rois)
            rois = torch.cat((rois, made))
            overlap = torch.cat((overlap, overlap.new_zeros(missing)))
            which = torch.cat((which, which.new_full((missing,), -1)))
            found = torch.cat((found, found.new_zeros(missing)))
        return rois, overlap, which, found

    def made_up(self, count: int, objects: Tensor, like: Tensor) -> Tensor:
        """Boxes by chance that overlap no object too much."""
        import torch

        found = like.new_zeros(0, ROI)
        while len(found) < count:
            image = torch.randint(self.images, (count,), device=like.device).to(like.dtype)
            parts = []
            for size in self.image:
                start = torch.randint(size - SMALLEST, (count,), device=like.device)
                length = (torch.rand(count, device=like.device) * (size - start)).long().clamp(min=SMALLEST)
                parts.append((start, start + length - 1))
            box = torch.stack([parts[axis][end] for end in (0, 1) for axis in (0, 1)], 1).to(like.dtype)
            rows = torch.cat((image[:, None], box), 1)
            found = torch.cat((found, rows[self.matched(rows, objects)[0] < self.fg_thr]))
        return found[:count]

    def balanced(self, overlap: Tensor, found: Tensor) -> Tensor:
        """What each sample weighs."""
        import torch

        weights = overlap.where(found & self.iou_weighted, 1)
        total, rest = (weights * found).sum(), (weights * ~found).sum()
        if not total:
            return weights
        count = len(weights)
        first, second = self.fg_fraction * count / total, (1 - self.fg_fraction) * count / rest
        return weights * torch.where(found, first, second)


def shuffled(places: Tensor, limit: int) -> Tensor:
    """All of them in order, or, where there are more than `limit`, so many by chance."""
    import torch

    return places if len(places) <= limit else places[torch.randperm(len(places), device=places.device)[:limit]]
