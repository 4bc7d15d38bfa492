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


@dataclass(frozen=True, slots=True)
class SoftmaxLoss(Layer):
    """What losses of labels under the softmax of scores share. softmax: whether the second top is named, which is that."""

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)

    axis: int = 1
    normalization: str | float = "VALID"
    ignore_label: int | None = None
    softmax: bool = False

    @staticmethod
    def common(msg: Msg, bottoms: Shapes) -> tuple[int, str | float, int | None, bool]:
        """The settings that they share."""
        p = msg.loss_param
        ignored = p.ignore_label if p.has("ignore_label") else None
        return axis(msg.softmax_param, "axis", len(bottoms[0])), normalization(p), ignored, len(msg.top) > 1

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        one_label_each(bottoms, self.axis)
        return ((), bottoms[0])[: 1 + self.softmax]

    def found(self, scores: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor]:
        """The tops that they share; and the log of the softmax at each label, 0 where that is ignored."""
        logs, chosen, kept = chosen_logs(scores, labels, self.axis, self.ignore_label)
        outer, inner = prod(scores.shape[: self.axis]), prod(scores.shape[self.axis + 1 :])
        loss = -self.total(chosen, kept, scores, labels) / normalizer(self.normalization, outer, inner, kept)
        tops = [refuse_gradient(loss, labels, f"{self.kind} passes no gradient to its labels")]
        if self.softmax:
            tops.append(logs.detach().exp().to(scores.dtype))
        return tops, chosen

    def total(self, chosen: Tensor, kept: Tensor | None, scores: Tensor, labels: Tensor) -> Tensor:
        """The sum of the logs, as the layer weighs them."""
        return chosen.sum()


@layer("SoftmaxWithLoss")
@dataclass(frozen=True, slots=True)
class SoftmaxWithLoss(SoftmaxLoss):
    """loss = -1/n sum over positions of log(max(p, FLT_MIN)), p being the labelled class's softmax along `axis`.

    bottom[0]: scores N x C x H x W      bottom[1]: labels, N first, N H W of them in any shape, 0 to C - 1
    top[0]: the loss, a scalar, float32 at least      top[1], if named: the softmax N x C x H x W, without gradient
    Positions labelled ignore_label add nothing. n by `normalization`: FULL N H W; VALID those not ignored; BATCH_SIZE N;
    NONE 1; at least 1. The old `normalize` true is VALID, false BATCH_SIZE, where `normalization` is not given.
    dx = (softmax - [c = label]) / n, also where the loss no longer grows at FLT_MIN.
    weight_by_label_freqs (SegNet): each position counts as often as class_weighting says for its label, n does not change;
    without class_weighting 1 / the number of labels of that class in the batch, as SegNet's first version has it.
    softmaxloss_param (DeepLab's first version): ignore_label, and normalization VALID; weight_source is refused.
    Quirk: Caffe 1.0 cannot set up the second top, its predecessors can.
    Source: Caffe, src/caffe/layers/softmax_loss_layer.cpp; the same of alexgkendall/caffe-segnet.
    """

    n_top = (1, 2)

    weighted: bool = False
    class_weighting: tuple[float, ...] = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        shared, p = cls.common(msg, bottoms), msg.loss_param
        if msg.has("softmaxloss_param"):
            shared = (shared[0], "VALID", _deeplabs(msg), shared[3])
        weights, classes = tuple(p.class_weighting), bottoms[0][shared[0]]
        weighted = p.weight_by_label_freqs  # without it the weights have no effect
        if weighted and weights and len(weights) != classes:
            at, expected = p.at("class_weighting"), f"{classes}, one for each class"
            raise NetError("the wrong number of class_weighting", at=at, expected=expected, got=len(weights))
        return cls(*shared, weighted, weights if weighted else ())

    def tops(self, bottoms: Shapes) -> Shapes:
        tops = SoftmaxLoss.tops(self, bottoms)
        if bottoms[0][:1] != bottoms[1][:1]:
            expected, got = bottoms[0][0], f"{bottoms[1][0]} labels first" if bottoms[1] else "a scalar"
            raise NetError("the bottoms must have the same first axis", expected=expected, got=got)
        return tops

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops, _ = self.found(*bottoms)
        return tuple(tops) if self.softmax else tops[0]

    def total(self, chosen: Tensor, kept: Tensor | None, scores: Tensor, labels: Tensor) -> Tensor:
        return (
            (chosen * self.weights(scores, labels, kept).reshape(chosen.shape)).sum() if self.weighted else chosen.sum()
        )

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


def _deeplabs(msg: Msg) -> int | None:
    """The label that a softmaxloss_param says to ignore. Raises: NetError for what else it may say."""
    p = msg.softmaxloss_param
    if msg.has("loss_param"):
        what = "loss_param and softmaxloss_param are both given"
        raise NetError(what, at=msg.at("softmaxloss_param"), hint="keep one of the two")
    if p.has("weight_source"):
        hint = "loss_param { weight_by_label_freqs: true class_weighting: ... } has the weights of classes in the net"
        raise NetError("weights from a file are not supported here", at=p.at("weight_source"), hint=hint)
    if len(p.ignore_label) > 1:
        raise NetError("one label can be ignored here", at=p.at("ignore_label", 1), got=len(p.ignore_label))
    return p.ignore_label[0] if p.ignore_label else None


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
