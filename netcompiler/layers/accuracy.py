"""Accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, at_least, axis, layer, one_label_each, refuse_gradient, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor


@layer("Accuracy")
@dataclass(frozen=True, slots=True)
class Accuracy(Layer):
    """How often the labelled class is among the top_k best scores.

    bottom[0]: scores N x C x H x W, classes along `axis`      bottom[1]: labels, N H W of them in any shape, 0 to C - 1
    top[0]: a scalar; 0 when there is no label to count      top[1]: C, the same for each class, 0 for a class without labels
    Positions labelled ignore_label do not count. A label is right when fewer than top_k OTHER classes score at least as
    much: Caffe counts equal scores against it. No gradient.
    min_is_better (happynear): the least scores are the best; of equal ones that of the first class.
    Source: Caffe, src/caffe/layers/accuracy_layer.cpp, and happynear/caffe-windows's.
    """

    category = "loss"
    n_bottom = (2, 2)
    n_top = (1, 2)
    no_gradient = (1,)

    top_k: int = 1
    axis: int = 1
    ignore_label: int | None = None
    per_class: bool = False
    min_is_better: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.accuracy_param
        ignored = p.ignore_label if p.has("ignore_label") else None
        return cls(p.top_k, axis(p, "axis", len(bottoms[0])), ignored, len(msg.top) > 1, p.min_is_better)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        one_label_each(bottoms, self.axis)
        classes = bottoms[0][self.axis]
        if not 1 <= self.top_k <= classes:
            raise NetError("top_k is out of range", at="top_k", expected=f"1 to {classes}, the classes", got=self.top_k)
        return ((), (classes,)) if self.per_class else ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch

        scores = bottoms[0].detach().movedim(self.axis, -1)
        classes = scores.shape[-1]
        scores = scores.reshape(-1, classes)
        labels, kept = whole_numbers(bottoms[1].reshape(-1), classes, self.ignore_label)
        own = scores.gather(1, labels[:, None])
        if self.min_is_better:
            first = torch.arange(classes, device=scores.device) <= labels[:, None]
            at_least_as_good = (scores < own) | ((scores == own) & first)
        else:
            at_least_as_good = scores >= own
        right = at_least_as_good.sum(1) - 1 < self.top_k  # itself among them
        counts = torch.ones_like(right) if kept is None else kept
        exact = torch.promote_types(scores.dtype, torch.float32)
        right, counts = (right & counts).to(exact), counts.to(exact)
        tops = [right.sum() / counts.sum().clamp(min=1)]
        if self.per_class:
            zeros = counts.new_zeros(classes)
            tops.append(zeros.index_add(0, labels, right) / zeros.index_add(0, labels, counts).clamp(min=1))
        return tuple(refuse_gradient(top, bottoms[0], "Accuracy passes no gradient to the scores") for top in tops)
