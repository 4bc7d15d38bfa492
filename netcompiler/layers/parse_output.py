"""ParseOutput and ParseEvaluate, of ParseNet."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, exactly, layer, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor

COUNTS = 3  # right, true and predicted pixels


@layer("ParseOutput")
@dataclass(frozen=True, slots=True)
class ParseOutput(Layer):
    """The class of each pixel: the first of the largest scores.

    bottom[0]: N x C x H x W      top[0]: classes, N x 1 x H x W      top[1], if named: their scores, the same
    No gradient.
    Source: weiliu89/caffe, src/caffe/layers/parse_output_layer.cpp.
    """

    category = "other"
    n_top = (1, 2)
    no_gradient = (0,)

    scores: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(len(msg.top) > 1)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, _, h, w = bottoms[0]
        return ((n, 1, h, w),) * (1 + self.scores)

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        x = bottoms[0].detach()
        best = x.argmax(1, keepdim=True)
        return (best.to(x.dtype), x.gather(1, best))[: 1 + self.scores]


@layer("ParseEvaluate")
@dataclass(frozen=True, slots=True)
class ParseEvaluate(Layer):
    """For each class, how many pixels are rightly predicted, are of it, and are predicted.

    bottom[0]: predicted classes, N x 1 x H x W      bottom[1]: the true ones, the same      top[0]: 1 x num_labels x 1 x 3
    Pixels whose true class is in ignore_label do not count. No gradient.
    Source: weiliu89/caffe, src/caffe/layers/parse_evaluate_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    no_gradient = (0, 1)

    num_labels: int
    ignore_label: Shape = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.parse_evaluate_param
        if p.num_labels < 1:
            raise NetError("num_labels is missing", at=p.at("num_labels") or "parse_evaluate_param")
        return cls(p.num_labels, tuple(p.ignore_label))

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, _, h, w = bottoms[0]
        for i, shape in enumerate(bottoms):
            if shape != (n, 1, h, w) or prod(shape) == 0:
                expected = f"{dims((n, 1, h, w))}, a class for each pixel"
                raise NetError(f"bottom {i} has the wrong shape", expected=expected, got=dims(shape))
        return ((1, self.num_labels, 1, COUNTS),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        predicted, true = (b.detach().reshape(-1) for b in bottoms)
        kept = torch.ones_like(true, dtype=torch.bool)
        for label in self.ignore_label:
            kept = kept & (true.long() != label)
        exact = torch.promote_types(predicted.dtype, torch.float32)
        known, _ = whole_numbers(true * kept, self.num_labels)
        found, _ = whole_numbers(predicted, self.num_labels)
        counts = [
            torch.zeros(self.num_labels, dtype=exact, device=true.device).index_add(0, place, which.to(exact))
            for place, which in ((known, kept & (known == found)), (known, kept), (found, kept))
        ]
        return torch.stack(counts, 1)[None, :, None]
