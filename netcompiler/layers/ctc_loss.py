"""CtcLoss, CTCGreedyDecoder and LabelsequenceAccuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, exactly, layer, not_empty, refuse_gradient, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor


@layer("CtcLoss")
@dataclass(frozen=True, slots=True)
class CtcLoss(Layer):
    """loss = mean over the sequences of -log of the probability that a sequence says its labels, blanks taken out.

    bottom[0]: scores T x N x C, before the softmax      bottom[1]: labels N x L      top[0]: a scalar, float32 at least
    C is alphabet_size; the first time_step of the T steps count. Labels that are blank_label only fill up.
    Quirks: the gradient is that of the sum over the sequences, not of the mean. A sequence with more labels than its steps
    can say, repetitions counted twice, adds nothing.
    Source: jolibrain/caffe, yalecyu/crnn.caffe: src/caffe/layers/ctc_loss_layer.cpp (of warp-ctc); Graves et al. 2006.
    """

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)

    alphabet_size: int
    time_step: int
    blank_label: int = 0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.ctc_loss_param
        for name in ("alphabet_size", "time_step"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
        if not 0 <= p.blank_label < p.alphabet_size:
            expected = f"0 to {p.alphabet_size - 1}, alphabet_size - 1"
            raise NetError("blank_label is out of range", at=p.at("blank_label"), expected=expected, got=p.blank_label)
        return cls(p.alphabet_size, p.time_step, p.blank_label)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(3, bottoms)
        at_least(2, bottoms, 1)
        scores, labels = bottoms
        if scores[2] != self.alphabet_size:
            expected = f"{scores[2]}, the classes of bottom 0"
            raise NetError("alphabet_size does not fit", at="alphabet_size", expected=expected, got=self.alphabet_size)
        if scores[0] < self.time_step:
            expected = f"at most {scores[0]}, the steps of bottom 0"
            raise NetError("time_step does not fit", at="time_step", expected=expected, got=self.time_step)
        if labels[0] != scores[1] or any(d != 1 for d in labels[2:]):
            raise NetError("bottom 1 has the wrong shape", expected=f"{scores[1]} x labels", got=dims(labels))
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        scores = bottoms[0][: self.time_step]
        n = scores.shape[1]
        labels, _ = whole_numbers(bottoms[1].reshape(n, -1), self.alphabet_size)
        exact = torch.promote_types(scores.dtype, torch.float32)
        kept = labels != self.blank_label
        order = (~kept).to(torch.uint8).argsort(stable=True, dim=1)
        steps = torch.full((n,), self.time_step, device=scores.device)
        logs, said = scores.log_softmax(2, dtype=exact), labels.gather(1, order)
        losses = F.ctc_loss(logs, said, steps, kept.sum(1), self.blank_label, "none", zero_infinity=True)
        total = losses.sum()
        loss = total + (total / n - total).detach()
        return refuse_gradient(loss, bottoms[1], "CtcLoss passes no gradient to its labels")


def _compact(values: Tensor, kept: Tensor) -> Tensor:
    """The kept values of each row moved to its front; -1 behind them."""
    import torch

    order = (~kept).to(torch.uint8).argsort(stable=True, dim=1)
    return torch.where(kept, values, -1).gather(1, order)


def _changes(classes: Tensor, blank: int, merged: bool) -> Tensor:
    """Which steps of N x T say a label: those that are not blank and, if merged, not as the step before."""
    import torch

    kept = classes != blank
    if merged:
        before = torch.cat((torch.full_like(classes[:, :1], blank), classes[:, :-1]), 1)
        kept = kept & (classes != before)
    return kept


@layer("LabelsequenceAccuracy")
@dataclass(frozen=True, slots=True)
class LabelsequenceAccuracy(Layer):
    """The share of sequences that say exactly their labels.

    bottom[0]: scores N x T x C      bottom[1]: labels N x L      top[0]: a scalar
    What a sequence says: the best class of each step (the first of equals), repetitions and blank_label left out. Labels
    that are blank_label only fill up.
    Source: jolibrain/caffe, yalecyu/crnn.caffe: src/caffe/layers/labelsequence_accuracy_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    no_gradient = (0, 1)

    blank_label: int = 0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(msg.labelsequence_accuracy_param.blank_label)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(3, bottoms)
        at_least(2, bottoms, 1)
        if bottoms[0][0] != bottoms[1][0]:
            expected, got = bottoms[0][0], bottoms[1][0]
            raise NetError("the bottoms must have the same first axis", expected=expected, got=got)
        for shape in bottoms:
            not_empty((shape,), 0)
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        scores, labels = (b.detach() for b in bottoms)
        n, steps, classes = scores.shape[:3]
        said = scores.reshape(n, steps, classes, -1)[..., 0].argmax(2)
        truth = labels.reshape(n, labels.shape[1], -1)[..., 0].long()
        said = _compact(said, _changes(said, self.blank_label, True))
        truth = _compact(truth, truth != self.blank_label)
        longest = max(said.shape[1], truth.shape[1])
        said, truth = (F.pad(s, (0, longest - s.shape[1]), value=-1) for s in (said, truth))
        return (said == truth).all(1).to(scores.dtype).mean()


@layer("CTCGreedyDecoder")
@dataclass(frozen=True, slots=True)
class CTCGreedyDecoder(Layer):
    """What each sequence says: the best class of each step, blanks and, with ctc_merge_repeated, repetitions left out.

    bottom[0]: scores T x N x C      bottom[1]: T x N, 0 where a sequence begins, else 1; a sequence ends before the next 0
    top[0]: N x T x 1 x 1, -1 behind the last label
    blank_index below 0: the last class. No gradient.
    Source: OpenVINO's CTCGreedyDecoder, specification of operation set 1.
    """

    n_bottom = (2, 2)
    no_gradient = (0, 1)

    blank_index: int = -1
    ctc_merge_repeated: bool = True

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.ctc_decoder_param
        return cls(p.blank_index, p.ctc_merge_repeated)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(3, bottoms)
        at_least(2, bottoms, 1)
        steps, n, classes = bottoms[0][:3]
        if bottoms[1][:2] != (steps, n):
            expected = f"{dims((steps, n))}, the first axes of bottom 0"
            raise NetError("bottom 1 has the wrong shape", expected=expected, got=dims(bottoms[1]))
        if self.blank_index >= classes:
            expected = f"below {classes}, the classes"
            raise NetError("blank_index is out of range", at="blank_index", expected=expected, got=self.blank_index)
        return ((n, steps, 1, 1),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        scores, flags = (b.detach() for b in bottoms)
        steps, n, classes = scores.shape[:3]
        blank = self.blank_index if self.blank_index >= 0 else classes - 1
        said = scores.reshape(steps, n, classes, -1)[..., 0].argmax(2).t()
        lasts = (flags.reshape(steps, n, -1)[1:, :, 0] != 0).long().cumprod(0).t()
        kept = _changes(said, blank, self.ctc_merge_repeated)
        kept[:, 1:] &= lasts.bool()
        return _compact(said, kept).to(scores.dtype).reshape(n, steps, 1, 1)
