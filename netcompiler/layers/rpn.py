"""The Python layers of py-faster-rcnn and its heirs: what they compute, without their code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..errors import NetError
from ..graph import Array, Shape, Shapes, dims
from ..text import Msg
from .base import InputLayer, Layer, at_least, exactly
from .boxes import by_score, clip, encode, iou
from .proposal import BACKGROUND_AND_OBJECT, INFO, PIXEL, around, at_places, best, checked_maps, moved_anchors
from .python import native, settings_of
from .roi_pooling import ROI

if TYPE_CHECKING:
    from torch import Tensor

# The settings that py-faster-rcnn's config.py and its faster_rcnn_end2end.yml give a net.
BASE_SIZE = 16
RATIOS = (0.5, 1.0, 2.0)
SCALES = (8, 16, 32)
MIN_SIZE = 16
NMS = 0.7
LIMITS = {"TRAIN": (12000, 2000), "TEST": (6000, 300)}  # boxes before and after the suppression
POSITIVE, NEGATIVE = 0.7, 0.3  # overlaps from which an anchor is an object, and below which it is background
ANCHORS, ANCHORS_OBJECTS = 256, 128  # how many of an image's anchors count, and how many of those may be objects
REGIONS, REGIONS_OBJECTS = 128, 32  # the same for regions
OBJECT = 0.5  # the overlap from which a region is an object
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)  # what the targets of regions are divided by
IMAGE = (3, 600, 1000)
GROUND_TRUTH = 5  # x1, y1, x2, y2, class


def base_anchors(scales: tuple[float, ...]) -> Array:
    """The boxes around the first place, for three ratios of height to width: A x 4, ratio by ratio, scale by scale."""
    ratios = np.array(RATIOS)[:, None]
    wide = np.round(np.sqrt(BASE_SIZE**2 / ratios))
    sides = [v * np.array(scales) - 1 for v in (wide, np.round(wide * ratios))]
    return around(0.5 * (BASE_SIZE - 1), sides[0], sides[1])


@native(("rpn.proposal_layer", "ProposalLayer"))
@dataclass(frozen=True, slots=True)
class ProposalLayer(Layer):
    """Regions that may hold objects: anchor boxes at each place, moved by deltas, the best without those that overlap.

    bottom[0]: 1 x 2A x H x W, probabilities of background (A), then of objects (A)      bottom[1]: deltas, 1 x 4A x H x W
    bottom[2]: height, width and scale of the image      top[0]: R x 5: 0, x1, y1, x2, y2      top[1], if named: R x 1 scores
    R, at most 300 (2000 in TRAIN), is known only when it runs: the shape rule says the most.
    A = 3 ratios x the scales of param_str (8, 16, 32), feat_stride apart. Moved boxes are clipped to the image; those with
    a side under 16 x scale go; of the 6000 (12000) best, those go that overlap a better one by more than 0.7. No gradient
    passes.  Of equal scores the first comes first.
    Source: py-faster-rcnn, lib/rpn/proposal_layer.py, generate_anchors.py, lib/fast_rcnn/config.py.
    """

    kind: ClassVar[str]
    category = "shape"
    n_bottom = (3, 3)
    n_top = (1, 2)
    no_gradient = (0, 1, 2)

    feat_stride: int
    scales: tuple[float, ...] = SCALES
    phase: str = field(default="TEST", repr=False)
    scores: bool = field(default=False, repr=False)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        found = settings_of(msg, {"feat_stride": int, "scales": SCALES})
        return cls(found["feat_stride"], found["scales"], msg.enum("phase"), len(msg.top) > 1)

    def tops(self, bottoms: Shapes) -> Shapes:
        if checked_maps(bottoms, len(RATIOS) * len(self.scales), INFO) != 1:
            raise NetError("only one image at a time", expected="1 x 2A x H x W", got=dims(bottoms[0]))
        count = LIMITS[self.phase][1]
        return ((count, ROI), (count, 1))[: 1 + self.scores]

    def brief(self) -> str:
        before, after = LIMITS[self.phase]
        return f"ProposalLayer, s{self.feat_stride}, {before}/{after}, iou {NMS:g}"

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        maps, deltas, info = (b.detach() for b in bottoms)
        info = info.to(torch.promote_types(maps.dtype, torch.float32))
        height, width, scale = info.reshape(-1)[:INFO].unbind()
        scores, boxes = moved_anchors(maps[0], deltas[0], base_anchors(self.scales), self.feat_stride)
        boxes = clip(boxes, height - PIXEL, width - PIXEL)
        fits = (boxes[:, 2:] - boxes[:, :2] + PIXEL >= MIN_SIZE * scale).all(1)
        before, after = LIMITS[self.phase]
        boxes, scores = boxes[fits], scores[fits]
        rois, kept = best(0, boxes, scores, by_score(scores, before), NMS, after)
        return (rois, kept[:, None])[: 1 + self.scores]


@native(("rpn.anchor_target_layer", "AnchorTargetLayer"))
@dataclass(frozen=True, slots=True)
class AnchorTargetLayer(Layer):
    """What the finder of regions is to learn: for each anchor at each place whether it is an object, and its deltas.

    bottom[0]: H x W places as its last axes      bottom[1]: K x 5, the image's objects: x1, y1, x2, y2, class
    bottom[2]: height and width of the image      bottom[3], if named: the image; not looked at
    top[0]: labels, 1 x 1 x (A H) x W: 1 object, 0 background, -1 neither      top[1]: deltas, 1 x 4A x H x W
    top[2]: inside weights, 1 for objects      top[3]: outside weights, 1 / (objects and backgrounds) for both
    Anchors (as ProposalLayer's) beyond the image by more than allowed_border (0) count for nothing. An object overlaps one
    of the image's by 0.7 or more, or most of all anchors; background overlaps each by less than 0.3. Of more than 128
    objects and 256 in all, the rest is dropped by chance (torch's generator).
    Source: py-faster-rcnn, lib/rpn/anchor_target_layer.py, lib/fast_rcnn/config.py.
    """

    kind: ClassVar[str]
    category = "shape"
    n_bottom = (3, 4)
    n_top = (4, 4)
    no_gradient = (0, 1, 2, 3)

    feat_stride: int
    scales: tuple[float, ...] = SCALES
    allowed_border: int = 0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(**settings_of(msg, {"feat_stride": int, "scales": SCALES, "allowed_border": 0}))

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        check_objects(bottoms)
        n, _, h, w = bottoms[0]
        if n != 1:
            raise NetError("only one image at a time", expected="1 x 2A x H x W", got=dims(bottoms[0]))
        count = len(RATIOS) * len(self.scales)
        return ((1, 1, count * h, w), *((1, 4 * count, h, w),) * 3)

    def brief(self) -> str:
        return f"AnchorTargetLayer, s{self.feat_stride}"

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        h, w = bottoms[0].shape[2:]
        objects, info = bottoms[1].detach().to(exact), bottoms[2].detach().reshape(-1).to(exact)
        base = torch.from_numpy(base_anchors(self.scales)).to(objects.device, exact)
        anchors = at_places(base, h, w, self.feat_stride)
        ends = torch.stack((info[1], info[0]))
        inside = (anchors[:, :2] >= -self.allowed_border).all(1)
        inside &= (anchors[:, 2:] < ends + self.allowed_border).all(1)
        overlap = iou(anchors, objects[:, :4], PIXEL).masked_fill(~inside[:, None], -1)
        labels = torch.full_like(anchors[:, 0], -1)
        weights, targets = torch.zeros_like(anchors), torch.zeros_like(anchors)
        if len(objects):
            largest, which = overlap.max(1)
            labels[(largest < NEGATIVE) & inside] = 0
            labels[((overlap == overlap.amax(0)).any(1) | (largest >= POSITIVE)) & inside] = 1
            targets = encode(anchors, objects[which, :4], PIXEL) * inside[:, None]
        else:
            labels[inside] = 0
        keep_some(labels, 1, ANCHORS_OBJECTS)
        keep_some(labels, 0, ANCHORS - int((labels == 1).sum()))
        weights[labels == 1] = 1
        outside = (labels >= 0).to(exact)[:, None].expand_as(weights) / (labels >= 0).sum().clamp(min=1)
        count = len(base)
        maps = (x.reshape(h, w, 4 * count).permute(2, 0, 1)[None] for x in (targets, weights, outside))
        return (labels.reshape(h, w, count).permute(2, 0, 1).reshape(1, 1, count * h, w), *maps)


@native(("rpn.proposal_target_layer", "ProposalTargetLayer"))
@dataclass(frozen=True, slots=True)
class ProposalTargetLayer(Layer):
    """A sample of regions to learn from, with their classes and deltas.

    bottom[0]: regions, R x 5: 0, x1, y1, x2, y2      bottom[1]: the image's objects, K x 5: x1, y1, x2, y2, class
    top[0]: S x 5 regions      top[1]: S classes, 0 for background      top[2]: deltas, S x 4 num_classes, those of the class
    top[3], top[4]: inside and outside weights, 1 where there are deltas.  In R-FCN's dialect with four axes each.
    The objects join the regions. One that overlaps an object by 0.5 or more is of its class, the others background; at
    most 32 of the former and 128 in all are drawn by chance (torch's generator). The deltas are divided by 0.1, 0.1, 0.2,
    0.2. With num_classes 2 all classes share the second's deltas. S is known only when it runs: the shape rule says 128.
    Source: py-faster-rcnn, lib/rpn/proposal_target_layer.py, experiments/cfgs/faster_rcnn_end2end.yml.
    """

    kind: ClassVar[str]
    category = "shape"
    n_bottom = (2, 2)
    n_top = (5, 5)
    no_gradient = (0, 1)

    num_classes: int
    four: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(settings_of(msg, {"num_classes": int})["num_classes"], msg.dialect == "rfcn")

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        check_objects(bottoms)
        if bottoms[0][1] != ROI:
            raise NetError("bottom 0 has no rows of 5", expected="R x 5: 0, x1, y1, x2, y2", got=dims(bottoms[0]))
        wide = (REGIONS, 4 * self.num_classes)
        shapes: Shapes = ((REGIONS, ROI), (REGIONS,), wide, wide, wide)
        return tuple(self.shaped(shape) for shape in shapes)

    def shaped(self, shape: Shape) -> Shape:
        """A top's shape, with four axes for R-FCN."""
        return (*shape, 1, 1, 1)[:4] if self.four else shape

    def brief(self) -> str:
        return f"ProposalTargetLayer, {self.num_classes} classes"

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        rois = bottoms[0].detach().reshape(-1, ROI)
        objects = bottoms[1].detach().to(rois.dtype)
        rois = torch.cat((rois, torch.cat((torch.zeros_like(objects[:, :1]), objects[:, :4]), 1)))
        labels = torch.zeros_like(rois[:, 0])
        wanted = torch.zeros_like(rois[:, 1:])
        if len(objects):
            overlap, which = iou(rois[:, 1:], objects[:, :4], PIXEL).max(1)
            labels = objects[which, 4] * (overlap >= OBJECT)
            wanted = encode(rois[:, 1:], objects[which, :4], PIXEL) / wanted.new_tensor(DEVIATIONS)
        found, rest = (x.nonzero().squeeze(1) for x in (labels > 0, labels <= 0))
        found = drawn(found, REGIONS_OBJECTS)
        kept = torch.cat((found, drawn(rest, REGIONS - len(found))))
        classes = labels[kept].long()
        if len(classes) and self.num_classes != BACKGROUND_AND_OBJECT and int(classes.max()) >= self.num_classes:
            expected = f"0 to {self.num_classes - 1}"
            raise NetError("the class of an object is out of range", expected=expected, got=int(classes.max()))
        weights = torch.zeros(len(kept), self.num_classes, 4, dtype=rois.dtype, device=rois.device)
        places = classes.clamp(max=self.num_classes - 1)
        weights[torch.arange(len(kept), device=rois.device), places] = (classes > 0)[:, None].to(rois.dtype)
        targets = (weights * wanted[kept][:, None]).flatten(1)
        flat = weights.flatten(1)
        tops = rois[kept], labels[kept], targets, flat, flat
        return tuple(t.reshape(self.shaped(tuple(t.shape))) for t in tops)


@native(("roi_data_layer.layer", "RoIDataLayer"))
@dataclass(frozen=True, slots=True)
class RoIDataLayer(InputLayer):
    """Images and their objects, which the caller feeds.

    Three tops, the second named im_info: the image 1 x 3 x 600 x 1000; its height, width and scale, 1 x 3; its objects,
    K x 5 (x1, y1, x2, y2, class).
    Else: images 2 x 3 x 600 x 1000; regions, 128 x 5 (image, x1, y1, x2, y2); their classes, 128; then deltas, inside and
    outside weights, 128 x 4 num_classes each; of these as many as are named.
    Sizes and counts stand in for those of the data.
    Source: py-faster-rcnn and fast-rcnn, lib/roi_data_layer/layer.py.
    """

    kind: ClassVar[str]
    n_top = (3, 6)

    num_classes: int = 21
    shapes: tuple[Shape | None, ...] = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        classes = settings_of(msg, {"num_classes": int})["num_classes"]
        wide = (REGIONS, 4 * classes)
        if len(msg.top) == len(FINDER) and msg.top[1] != "rois":
            return cls(shapes=FINDER, num_classes=classes)
        shapes = ((2, *IMAGE), (REGIONS, ROI), (REGIONS,), wide, wide, wide)
        return cls(shapes=shapes[: len(msg.top)], num_classes=classes)


FINDER = ((1, *IMAGE), (1, INFO), (1, GROUND_TRUTH))


def check_objects(bottoms: Shapes) -> None:
    """Raises: NetError unless bottom 1 has rows of an image's objects."""
    if len(bottoms[1]) != 2 or bottoms[1][1] != GROUND_TRUTH:
        expected = "K x 5: x1, y1, x2, y2, class of each object"
        raise NetError("bottom 1 has no rows of 5", expected=expected, got=dims(bottoms[1]))


def drawn(places: Tensor, limit: int) -> Tensor:
    """All of them, or `limit` of them drawn by chance."""
    import torch

    return places[torch.randperm(len(places), device=places.device)[:limit]]


def keep_some(labels: Tensor, label: int, limit: int) -> None:
    """Make all but `limit` of the labels of a kind -1, those to go drawn by chance."""
    places = (labels == label).nonzero().squeeze(1)
    labels[drawn(places, max(len(places) - limit, 0))] = -1
