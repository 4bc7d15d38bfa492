"""SoftmaxWithLoss."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import (
    Layer,
    at_least,
    axis,
    layer,
    normalization,
    normalizer,
    one_label_each,
    refuse_gradient,
    whole_numbers,
)

if TYPE_CHECKING:
    from torch import Tensor

LOG_FLT_MIN = -87.33654475055310898657  # log of the smallest normal float32: Caffe takes no smaller probability's log


@layer("SoftmaxWithLoss")
@dataclass(frozen=True, slots=True)
class SoftmaxWithLoss(Layer):
    """loss = -1/n sum over positions of log(max(p, FLT_MIN)), p being the labelled class's softmax along `axis`.

    bottom[0]: scores N x C x H x W      bottom[1]: labels, N first, N H W of them in any shape, 0 to C - 1
    top[0]: the loss, a scalar, float32 at least      top[1], if named: the softmax N x C x H x W, without gradient
    Positions labelled ignore_label add nothing. n by `normalization`: FULL N H W; VALID those not ignored; BATCH_SIZE N;
    NONE 1; at least 1. The old `normalize` true is VALID, false BATCH_SIZE, where `normalization` is not given.
    dx = (softmax - [c = label]) / n, also where the loss no longer grows at FLT_MIN.
    weight_by_label_freqs (SegNet): each position counts as often as class_weighting says for its label, n does not change;
    without class_weighting 1 / the number of labels of that class in the batch, as SegNet's first version has it.
    Quirk: Caffe 1.0 cannot set up the second top, its predecessors can.
    Source: Caffe, src/caffe/layers/softmax_loss_layer.cpp; the same of alexgkendall/caffe-segnet.
    """

    category = "loss"
    n_bottom = (2, 2)
    n_top = (1, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)

    axis: int = 1
    normalization: str | float = "VALID"
    ignore_label: int | None = None
    softmax: bool = False
    weighted: bool = False
    class_weighting: tuple[float, ...] = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.loss_param
        ignored = p.ignore_label if p.has("ignore_label") else None
        along = axis(msg.softmax_param, "axis", len(bottoms[0]))
        weights = tuple(p.class_weighting)  # without effect where weight_by_label_freqs is false
        if p.weight_by_label_freqs and weights and len(weights) != bottoms[0][along]:
            at, expected = p.at("class_weighting"), f"{bottoms[0][along]}, one for each class"
            raise NetError("the wrong number of class_weighting", at=at, expected=expected, got=len(weights))
        weighted = p.weight_by_label_freqs
        return cls(along, normalization(p), ignored, len(msg.top) > 1, weighted, weights if weighted else ())

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        one_label_each(bottoms, self.axis)
        if bottoms[0][:1] != bottoms[1][:1]:
            expected, got = bottoms[0][0], f"{bottoms[1][0]} labels first" if bottoms[1] else "a scalar"
            raise NetError("the bottoms must have the same first axis", expected=expected, got=got)
        return ((), bottoms[0]) if self.softmax else ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        scores, along = bottoms[0], self.axis
        logs, chosen, kept = chosen_logs(scores, bottoms[1], along, self.ignore_label)
        if self.weighted:
            chosen = chosen * self.weights(scores, bottoms[1], kept).reshape(chosen.shape)
        outer, inner = prod(scores.shape[:along]), prod(scores.shape[along + 1 :])
        loss = -chosen.sum() / normalizer(self.normalization, outer, inner, kept)
        loss = refuse_gradient(loss, bottoms[1], "SoftmaxWithLoss passes no gradient to its labels")
        return (loss, logs.detach().exp().to(scores.dtype)) if self.softmax else loss

    def weights(self, scores: Tensor, labels: Tensor, kept: Tensor | None) -> Tensor:
        """How often each position counts."""
        import torch

        classes = scores.shape[self.axis]
        truth, _ = whole_numbers(labels, classes, self.ignore_label)
        exact = torch.promote_types(scores.dtype, torch.float32)
        if self.class_weighting:
            return torch.tensor(self.class_weighting, dtype=exact, device=scores.device)[truth]
        ones = torch.ones_like(truth, dtype=exact) if kept is None else kept.to(exact)
        counts = torch.zeros(classes, dtype=exact, device=scores.device).index_add(
            0, truth.reshape(-1), ones.reshape(-1)
        )
        return 1 / counts.clamp(min=1)[truth]


def chosen_logs(
    scores: Tensor, labels: Tensor, along: int, ignored: int | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The log of the softmax along an axis; those of the labelled classes, 0 for ignored labels; which labels are kept."""
    import torch

    truth, kept = whole_numbers(labels, scores.shape[along], ignored)
    place = (*scores.shape[:along], 1, *scores.shape[along + 1 :])
    logs = scores.log_softmax(along, dtype=torch.promote_types(scores.dtype, torch.float32))
    chosen = logs.gather(along, truth.reshape(place))
    # Below FLT_MIN only the value stays: x - x is 0 and keeps the gradient.
    chosen = torch.where(chosen < LOG_FLT_MIN, chosen - chosen.detach() + LOG_FLT_MIN, chosen)
    return logs, chosen if kept is None else chosen * kept.reshape(place), kept
