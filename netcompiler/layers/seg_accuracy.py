"""SegAccuracy and EltwiseAccuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes, dims
from ..text import Msg
from .base import Layer, at_least, exactly, layer, traced, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor

MEASURES = 3


def _maps_match(bottoms: Shapes) -> None:
    """Raises: NetError unless bottom 1 has one label for each pixel of bottom 0."""
    exactly(4, bottoms)
    want = (bottoms[0][0], 1, *bottoms[0][2:])
    if bottoms[1] != want:
        raise NetError(
            "bottom 1 has the wrong shape", expected=f"{dims(want)}, one label a pixel", got=dims(bottoms[1])
        )


@layer("SegAccuracy")
@dataclass(frozen=True, slots=True)
class SegAccuracy(Layer):
    """How well pixels are classified: the share of right ones; the mean recall; the mean intersection over union.

    bottom[0]: scores N x C x H x W      bottom[1]: labels N x 1 x H x W      top[0]: the three, 1 x 1 x 1 x 3
    The predicted class is the first of the largest scores. Labels in ignore_label do not count. Recall is the mean over the
    classes that there are; a class that neither is nor is predicted has an intersection over union of 1. 0 without a pixel.
    reset false: the pixels of all forwards count together (`m.matrix = None` forgets them). `metric` has no effect.
    Source: xmyqsh/deeplab-v2, src/caffe/layers/seg_accuracy_layer.cpp, src/caffe/util/confusion_matrix.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    no_gradient = (0, 1)
    remembers = ("matrix",)
    ignored = frozenset({"metric"})

    ignore_label: Shape = ()
    reset: bool = True

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.seg_accuracy_param
        return cls(tuple(p.ignore_label), p.reset)

    def tops(self, bottoms: Shapes) -> Shapes:
        _maps_match(bottoms)
        return ((1, 1, 1, MEASURES),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        scores, labels = (b.detach() for b in bottoms)
        classes = scores.shape[1]
        kept = torch.ones_like(labels, dtype=torch.bool)
        for label in self.ignore_label:
            kept = kept & (labels.long() != label)
        actual, _ = whole_numbers(labels * kept, classes)
        predicted = scores.argmax(1, keepdim=True)
        matrix = torch.zeros(classes * classes, dtype=torch.float64, device=scores.device)
        matrix = matrix.index_add(0, (actual * classes + predicted).reshape(-1), kept.reshape(-1).to(matrix.dtype))
        matrix = matrix.reshape(classes, classes)
        if not (self.reset or traced(scores)):
            before = getattr(m, "matrix", None)
            if before is not None and before.shape == matrix.shape:
                matrix = matrix + before.to(matrix.device)
            m.matrix = matrix
        right, rows, columns = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        union = rows + columns - right
        accuracy = right.sum() / matrix.sum().clamp(min=1)
        recall = (right / rows.clamp(min=1)).sum() / (rows > 0).sum().clamp(min=1)
        jaccard = torch.where(union == right, 1, right / union.clamp(min=1)).mean()
        return torch.stack((accuracy, recall, jaccard)).to(scores.dtype).reshape(1, 1, 1, MEASURES)


@layer("EltwiseAccuracy")
@dataclass(frozen=True, slots=True)
class EltwiseAccuracy(Layer):
    """The share of pixels whose label is among the top_k best scored classes.

    bottom[0]: scores N x C x H x W      bottom[1]: labels N x 1 x H x W      top[0]: 1 x 1 x 1 x 1
    Of equal scores the later class counts as the better one. Pixels labelled ignore_label do not count; NaN without a pixel.
    Source: HyeonwooNoh/caffe, src/caffe/layers/eltwise_accuracy_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    no_gradient = (0, 1)

    top_k: int = 1
    ignore_label: int | None = None

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        at_least(2, bottoms)
        p = msg.eltwise_accuracy_param
        if not 1 <= p.top_k <= bottoms[0][1]:
            expected = f"1 to {bottoms[0][1]}, the classes"
            raise NetError("top_k is out of range", at=p.at("top_k"), expected=expected, got=p.top_k)
        return cls(p.top_k, p.ignore_label if p.has("ignore_label") else None)

    def tops(self, bottoms: Shapes) -> Shapes:
        _maps_match(bottoms)
        return ((1, 1, 1, 1),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        scores, classes = bottoms[0].detach(), bottoms[0].shape[1]
        labels, kept = whole_numbers(bottoms[1], classes, self.ignore_label)
        own = scores.gather(1, labels)
        later = torch.arange(classes, device=scores.device)[:, None, None] > labels
        better = ((scores > own) | ((scores == own) & later)).sum(1, keepdim=True)
        right = better < self.top_k
        if kept is None:
            kept = torch.ones_like(right)
        return ((right & kept).sum() / kept.sum()).to(scores.dtype).reshape(1, 1, 1, 1)
