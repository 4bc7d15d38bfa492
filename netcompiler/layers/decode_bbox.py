"""DecodeBBox, and what layers over boxes with normalised deltas share."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, not_in_place
from .boxes import decode
from .roi_pooling import ROI

if TYPE_CHECKING:
    from torch import Tensor

Four = tuple[float, ...]
PLAIN: tuple[Four, Four] = ((0.0,) * 4, (1.0,) * 4)


@layer("DecodeBBox")
@dataclass(frozen=True, slots=True)
class DecodeBBox(Layer):
    """Regions moved by the deltas of their objects.

    bottom[0]: R x 8, deltas of background and object: dx, dy, dw, dh      bottom[1]: R x 5 regions: image, x1, y1, x2, y2
    bottom[2], in TRAIN if named: R x C, the last being the overlap with an object      top: R' x 5 x 1 x 1
    deltas std + mean, of bbox_reg_param, move the centre by d size and multiply the size by exp(d), in pixels that belong
    to the box. In TRAIN boxes with x2 < x1 or y2 < y1 go, and those with an overlap of gt_iou_thr or more; then R' is
    known only when it runs: the shape rule says R. No gradient passes.
    Source: cascade-rcnn, src/caffe/layers/decode_bbox_layer.cpp, src/caffe/util/bbox_util.cpp.
    """

    category = "shape"
    n_bottom = (2, 3)
    no_gradient = (0, 1, 2)
    ignored = frozenset({"engine", "cls_aware"})

    mean: Four = PLAIN[0]
    std: Four = PLAIN[1]
    gt_iou_thr: float | None = None
    train: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        train, known = msg.enum("phase") == "TRAIN", len(bottoms) > 2
        if known and not train:
            raise NetError("bottom 2 is for TRAIN only", at=msg.at("bottom", 2), got="the phase TEST")
        limit = float(msg.decode_bbox_param.gt_iou_thr)
        return cls(*normalised(msg), limit if known else None, train)

    def tops(self, bottoms: Shapes) -> Shapes:
        for i, wide in enumerate((8, ROI)[: len(bottoms)]):
            at_least(1, bottoms, i)
            if prod(bottoms[i][1:]) != wide or bottoms[i][0] != bottoms[0][0]:
                expected = dims((bottoms[0][0], wide))
                raise NetError(f"bottom {i} does not fit", expected=expected, got=dims(bottoms[i]))
        return ((bottoms[0][0], ROI, 1, 1),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        deltas, rois = bottoms[0].detach().flatten(1)[:, 4:], bottoms[1].detach().flatten(1)
        boxes = moved(rois[:, 1:], deltas, self.mean, self.std)
        top = rois.new_zeros(rois.shape)
        top[:, :1], top[:, 1:] = rois[:, :1], boxes
        if self.train:
            kept = (boxes[:, 2:] >= boxes[:, :2]).all(1)
            if self.gt_iou_thr is not None:
                kept &= bottoms[2].detach().flatten(1)[:, -1] < self.gt_iou_thr
            top = top[kept]
            if not len(top):
                raise NetError("no box is left", expected="one at least, as the fork does")
        return top[:, :, None, None]


def normalised(msg: Msg) -> tuple[Four, Four]:
    """The mean and the deviation of deltas, of bbox_reg_param: 0 and 1 unless both are given.

    Raises: NetError unless both have four values, and the deviations are positive.
    """
    p = msg.bbox_reg_param
    if not p.bbox_mean or not p.bbox_std:
        return PLAIN
    for name in ("bbox_mean", "bbox_std"):
        if len(getattr(p, name)) != 4:
            raise NetError(f"{name} needs four values", at=p.at(name), expected=4, got=len(getattr(p, name)))
    if min(p.bbox_std) <= 0:
        raise NetError("bbox_std must be positive", at=p.at("bbox_std"))
    return tuple(p.bbox_mean), tuple(p.bbox_std)


def moved(boxes: Tensor, deltas: Tensor, mean: Four, std: Four) -> Tensor:
    """Boxes (... x 4) moved by normalised deltas, in pixels that belong to them."""
    plain = deltas * deltas.new_tensor(std) + deltas.new_tensor(mean)
    # The centre is that of x1 and x2, half a pixel before decode's, which counts x2 + 1 as the end.
    return decode(boxes, plain, one=1, back=1)
