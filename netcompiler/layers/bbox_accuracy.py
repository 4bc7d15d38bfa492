"""BboxAccuracy."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer
from .boxes import decode, iou
from .decode_bbox import PLAIN, Four, normalised
from .roi_pooling import ROI

if TYPE_CHECKING:
    from torch import Tensor

SAME = 0.975  # a region that overlaps its object by more is the object itself
MATCHED = 6  # class, x1, y1, x2, y2, overlap


@layer("BboxAccuracy")
@dataclass(frozen=True, slots=True)
class BboxAccuracy(Layer):
    """The mean overlap of regions with their objects, after and before the deltas move them.

    bottom[0]: deltas, R x 4K      bottom[1]: regions, R x 5: image, x1, y1, x2, y2
    bottom[2]: objects, R x 6: class, x1, y1, x2, y2, overlap      top[0]: after, a scalar      top[1], if named: before
    Only regions with a class above 0 and an overlap of 0.975 at most count; without any both are -1. deltas std + mean, of
    bbox_reg_param, of the object's class (of class 1 with cls_aware false) move the region. No gradient passes.
    Sizes count the last pixel. In the dialect cascade-rcnn boxes that share less than a pixel do not overlap.
    Source: zhaoweicai/mscnn and cascade-rcnn, src/caffe/layers/bbox_accuracy_layer.cpp.
    """

    category = "loss"
    n_bottom = (3, 3)
    n_top = (1, 2)
    no_gradient = (0, 1, 2)

    mean: Four = PLAIN[0]
    std: Four = PLAIN[1]
    cls_aware: bool = True
    before: bool = False
    whole_pixels: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        mean, std = normalised(msg)
        return cls(mean, std, msg.bbox_reg_param.cls_aware, len(msg.top) > 1, msg.dialect == "cascade-rcnn")

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        for i, wide in ((1, ROI), (2, MATCHED)):
            at_least(1, bottoms, i)
            if bottoms[i][0] != bottoms[0][0] or prod(bottoms[i][1:]) != wide:
                expected = dims((bottoms[0][0], wide))
                raise NetError(f"bottom {i} does not fit", expected=expected, got=dims(bottoms[i]))
        wide = prod(bottoms[0][1:])
        if wide % 4 or (wide != 8 and not self.cls_aware):
            expected = "R x 4K" if self.cls_aware else "R x 8"
            raise NetError("bottom 0 has no deltas", expected=expected, got=dims(bottoms[0]))
        return ((1, 1, 1, 1),) * (1 + self.before)

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        deltas, rois, objects = (b.detach().flatten(1).to(exact) for b in bottoms)
        classes = objects[:, 0].long()
        counts = (classes > 0) & (objects[:, -1] <= SAME)
        which = classes.clamp(min=0, max=None if self.cls_aware else 1)
        if bool((which >= deltas.shape[1] // 4).any()):
            got = int(which.max())
            raise NetError("a class is out of range", expected=f"0 to {deltas.shape[1] // 4 - 1}", got=got)
        picked = deltas.reshape(len(deltas), -1, 4)[torch.arange(len(deltas), device=deltas.device), which]
        plain = picked * deltas.new_tensor(self.std) + deltas.new_tensor(self.mean)
        region, wanted = rois[:, 1:], objects[:, 1:5]
        tops = []
        for boxes in (decode(region, plain, 1, 1), region)[: 1 + self.before]:
            one, more = (1, 0) if self.whole_pixels else (0, 1)  # between lines the last pixel ends one further
            first, second = (torch.cat((b[:, :2], b[:, 2:] + more), 1)[:, None] for b in (boxes, wanted))
            overlap = iou(first, second, one, meeting=True)[:, 0, 0]
            mean = (overlap * counts).sum() / counts.sum()
            tops.append(mean.where(counts.any(), -1).reshape(1, 1, 1, 1))
        return tuple(tops)
