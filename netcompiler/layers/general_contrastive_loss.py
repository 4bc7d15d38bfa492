"""GeneralContrastiveLoss and GeneralTripletLoss, of NormFace: losses over the distances of items to classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, refuse_gradient, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Distances(Layer):
    """What the two share: distances N x C.., labels, and weights of the items; the loss, and the mean distances."""

    category = "loss"
    n_bottom = (2, 3)
    n_top = (1, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1, 2)

    means: bool = False

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        n = bottoms[0][0]
        for i, shape in enumerate(bottoms[1:], 1):
            if prod(shape) != n:
                raise NetError(f"bottom {i} has the wrong shape", expected=f"{n} values", got=dims(shape))
        if prod(bottoms[0][1:]) < 2:
            raise NetError("there is one class only", expected="two distances at least", got=dims(bottoms[0]))
        return ((), (2,))[: 1 + self.means]

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch
        import torch.nn.functional as F

        x = bottoms[0].flatten(1).to(torch.promote_types(bottoms[0].dtype, torch.float32))
        n, classes = x.shape
        labels, _ = whole_numbers(bottoms[1].reshape(-1), classes)
        own = F.one_hot(labels, classes).bool()
        value, slope, distances = self.parts(x.detach(), own)
        if len(bottoms) > 2:
            slope = slope * self.weights(bottoms[2].detach().reshape(n, 1).to(x.dtype))
        steered = (slope * x).sum()  # its gradient is the fork's
        loss = (value.abs().sum() + (steered - steered.detach())) / n
        for b in bottoms[1:]:
            loss = refuse_gradient(loss, b, f"{self.kind} passes a gradient to the distances alone")
        shown = torch.stack((distances[0] / n, distances[1] / n / (classes - 1)))
        return (loss, shown) if self.means else loss

    def parts(self, x: Tensor, own: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Of distances N x C: each one's part of the loss, its derivative, and the sums of positive and negative ones."""
        raise NotImplementedError(type(self))

    def weights(self, given: Tensor) -> Tensor:
        """How much the gradient of each item counts, by the weights given."""
        return given


def refuse(p: Msg, names: Sequence[str]) -> None:
    """Raises: NetError for settings of later versions of the fork, which change the loss."""
    for name in names:
        if p.has(name) and getattr(p, name) != getattr(type(p.raw)(), name):
            raise NetError(f"{name} is not supported", at=p.at(name), hint="leave it out")


@layer("GeneralContrastiveLoss")
@dataclass(frozen=True, slots=True)
class GeneralContrastiveLoss(Distances):
    """loss = 1/N sum of positive_weight min(max(x - positive_margin, 0), positive_outlier_thresh) over the labelled
    classes, and of negative_weight max(negative_margin - x, 0) over all others.

    bottom[0]: distances x, N x C..      bottom[1]: N labels      bottom[2], if there is one: N weights
    top[0]: the loss, a scalar, float32 at least      top[1], if named: the two sums without weights, by N and by N (C - 1)
    dx of the labelled: positive_weight where positive_margin < x < positive_outlier_thresh; of others: -negative_weight
    where x < negative_margin; all by N, and times the item's weight by the weights' mean. normalize_negative: where the sum
    of the others' is above positive_weight N normalize_negative, they are divided by that excess over N normalize_negative.
    max_negative_only: of the others only each item's nearest; of the labelled ones in the loss only the smallest part's.
    Other settings are refused.
    Source: happynear/caffe-windows, src/caffe/layers/general_contrastive_loss_layer.cpp.
    """

    positive_margin: float = 0.0
    negative_margin: float = 1.0
    positive_weight: float = 1.0
    negative_weight: float = 1.0
    normalize_negative: float | None = None
    positive_outlier_thresh: float = 4.0
    max_negative_only: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.general_contrastive_loss_param
        refuse(p, ("square", "max_positive_only", "positive_first", "exp_negative_weight", "add_intra_mae"))
        for name in ("positive_upper_bound", "max_negative_margin"):
            p.has(name)  # looked at: without effect beside those refused
        if p.has("normalize_negative") and p.normalize_negative <= 0:
            what, got = "normalize_negative must be positive", f"{p.normalize_negative:g}"
            raise NetError(what, at=p.at("normalize_negative"), got=got)
        return cls(
            len(msg.top) > 1,
            p.positive_margin,
            p.negative_margin,
            p.positive_weight,
            p.negative_weight,
            p.normalize_negative if p.has("normalize_negative") else None,
            p.positive_outlier_thresh,
            p.max_negative_only,
        )

    def parts(self, x: Tensor, own: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        import torch

        far = (x - self.positive_margin).clamp(0, self.positive_outlier_thresh) * own
        near = (self.negative_margin - x).clamp(min=0) * ~own
        value = far * self.positive_weight + near * self.negative_weight
        pull = own & (x > self.positive_margin) & (x < self.positive_outlier_thresh)
        push = ~own & (x < self.negative_margin)
        if self.max_negative_only:
            part = (value * own).sum(1)
            smallest = torch.zeros_like(own).index_fill(0, part.argmin(), True)
            worst = torch.zeros_like(own).scatter(1, (near * self.negative_weight).argmax(1, keepdim=True), True)
            value = value * torch.where(own, smallest, worst)
            push = push & worst
        others = -self.negative_weight * push.to(x.dtype)
        if self.normalize_negative is not None:
            excess = others.sum().abs() / self.normalize_negative / len(x)
            others = others / excess.where(excess > self.positive_weight, 1)
        return value, self.positive_weight * pull + others, (far.sum(), near.sum())

    def weights(self, given: Tensor) -> Tensor:
        return given / given.mean()


@layer("GeneralTripletLoss")
@dataclass(frozen=True, slots=True)
class GeneralTripletLoss(Distances):
    """loss = negative_weight / N  sum over the items and the other classes of max(0, x_label + margin - x).

    bottom[0]: distances x, N x C..      bottom[1]: N labels      bottom[2], if there is one: N weights
    top[0]: the loss, a scalar, float32 at least      top[1], if named: the labelled distances' mean, and the others'
    dx of the others: -negative_weight where their part is above 0, of the labelled: positive_weight, with add_center_loss
    false only where any other has some; all by N, and times the item's weight.
    hardest_only: of each item only the largest part; its gradient is there even where that is 0.
    Other settings are refused.
    Source: happynear/caffe-windows, src/caffe/layers/general_triplet_loss_layer.cpp.
    """

    margin: float = 0.2
    add_center_loss: bool = True
    hardest_only: bool = False
    positive_weight: float = 1.0
    negative_weight: float = 1.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.general_triplet_loss_param
        refuse(p, ("positive_first",))
        p.has("positive_upper_bound")  # looked at: without effect beside positive_first
        weights = p.positive_weight, p.negative_weight
        return cls(len(msg.top) > 1, p.margin, p.add_center_loss, p.hardest_only, *weights)

    def parts(self, x: Tensor, own: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        import torch

        same = x[own][:, None]
        value = (same + self.margin - x).clamp(min=0) * self.negative_weight * ~own
        push = ~own & (same + self.margin > x)
        if self.hardest_only:
            push = torch.zeros_like(own).scatter(1, value.argmax(1, keepdim=True), True)
            value = value * push
        pull = own & (push.any(1, keepdim=True) | self.add_center_loss)
        slope = torch.where(own, self.positive_weight * pull, -self.negative_weight * push)
        return value, slope.to(x.dtype), (same.sum(), (x * ~own).sum())
