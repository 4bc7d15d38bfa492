"""FrcnnOutput."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer
from .box_output import OVER
from .boxes import by_score, nms
from .decode_bbox import PLAIN, Four, moved, normalised
from .roi_pooling import ROI

if TYPE_CHECKING:
    from torch import Tensor


@layer("FrcnnOutput")
@dataclass(frozen=True, slots=True)
class FrcnnOutput(Layer):
    """Detections of one image: regions moved by their deltas, class by class, without those that overlap a better one.

    bottom[0]: probabilities, R x K      bottom[1]: deltas, R x 4K (R x 8 with cls_aware false)
    bottom[2]: regions, R x 5 or R x 6: 0, x1, y1, x2, y2 (and a score)      bottom[3]: height and width, 1 x 2
    top: (D + 1) x 7 x 1 x 1, rows of image, x1, y1, x2, y2, class, probability; the first is 0, -1, -1, -1, -1, -1, -1
    Of each class but the background, regions with a probability of conf_thr or more count, moved by deltas std + mean of
    bbox_reg_param and cut at 0, width and height. nms_type IOU divides the common area by the union, IOMU by the smaller
    area, IOFU by the better box's; those go that overlap by more than iou_thr. Of more than max_det_num (0: any number) the
    most probable stay. Rows are grouped by class, best first. D is known only when it runs: the shape rule says max_det_num.
    save_output_param is ignored: nothing is written. No gradient passes.
    Source: cascade-rcnn, src/caffe/layers/frcnn_output_layer.cpp.
    """

    category = "shape"
    n_bottom = (4, 4)
    no_gradient = (0, 1, 2, 3)
    ignored = frozenset({"engine", "save_output_param"})

    conf_thr: float = 0
    iou_thr: float = 0.5
    nms_type: str = "IOU"
    max_det_num: int = 0
    mean: Four = PLAIN[0]
    std: Four = PLAIN[1]
    cls_aware: bool = True

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p, (mean, std) = msg.frcnn_output_param, normalised(msg)
        aware = msg.bbox_reg_param.cls_aware
        return cls(float(p.conf_thr), float(p.iou_thr), p.nms_type, p.max_det_num, mean, std, aware)

    def tops(self, bottoms: Shapes) -> Shapes:
        for i in range(4):
            at_least(1, bottoms, i)
        rows, classes = bottoms[0][0], prod(bottoms[0][1:])
        wanted = ((classes,), (4 * classes if self.cls_aware else 8,), (ROI, ROI + 1))
        for i, wide in enumerate(wanted):
            if bottoms[i][0] != rows or prod(bottoms[i][1:]) not in wide:
                raise NetError(f"bottom {i} does not fit", expected=dims((rows, wide[0])), got=dims(bottoms[i]))
        if bottoms[3][0] != 1 or prod(bottoms[3]) != 2:
            raise NetError("bottom 3 does not tell the image", expected="1 x 2: height, width", got=dims(bottoms[3]))
        return ((self.max_det_num + 1, 7, 1, 1),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        scores, deltas, rois, size = (b.detach().flatten(1).to(exact) for b in bottoms)
        height, width = size[0]
        boxes = moved(rois[:, None, 1:ROI], deltas.reshape(len(deltas), -1, 4), self.mean, self.std)
        boxes = torch.cat(
            (boxes[..., :2].clamp(min=0), torch.minimum(boxes[..., 2:], torch.stack((width, height)))), -1
        )
        found = []
        for c in range(1, scores.shape[1]):
            good = (scores[:, c] >= self.conf_thr).nonzero().squeeze(1)
            good = good[by_score(scores[good, c])]
            mine = boxes[good, c if self.cls_aware else 1]
            over = OVER.get(self.nms_type, "union")
            kept = nms(mine, self.iou_thr, one=1, over=over, meeting=True)
            score = scores[good[kept], c, None]
            found.append(torch.cat((torch.zeros_like(score), mine[kept], torch.full_like(score, c), score), 1))
        rows = torch.cat(found) if found else scores.new_zeros(0, 7)
        if 0 < self.max_det_num < len(rows):
            rows = rows[by_score(rows[:, 6], self.max_det_num)]
            rows = rows[rows[:, 5].argsort(stable=True)]
        first = rows.new_tensor([[0.0] + [-1.0] * 6])
        return torch.cat((first, rows))[:, :, None, None]
