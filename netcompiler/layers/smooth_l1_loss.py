"""SmoothL1Loss, and SmoothL1LossOHEM."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, normalization, normalizer, not_in_place, refuse_gradient

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Distance(Layer):
    """What the two losses share. per_item: whether the part of each item is a top as well."""

    category = "loss"
    n_top = (1, 2)
    anonymous_tops = True

    per_item: bool = False

    def tops(self, bottoms: Shapes) -> Shapes:
        alike(bottoms)
        n, _, *image = (*bottoms[0], 1, 1, 1)[: max(4, len(bottoms[0]))]
        return ((), (n, 1, *image))[: 1 + self.per_item]

    def difference(self, x: Tensor, t: Tensor) -> Tensor:
        """x - t, in float32 at least."""
        import torch

        return x.to(torch.promote_types(x.dtype, torch.float32)) - t.reshape(x.shape)


@layer("SmoothL1Loss")
@dataclass(frozen=True, slots=True)
class SmoothL1Loss(Distance):
    """loss = 1/N sum of outside f(inside (x - t)), with f(d) = (sigma d)^2 / 2 where |d| < 1 / sigma^2, else
    |d| - 1 / (2 sigma^2).

    bottom[0]: x, N x C x H x W      bottom[1]: t, the same count behind N      bottom[2], bottom[3]: inside and outside
    weights, the same (of ones where there are none)      top[0]: the loss, a scalar, float32 at least
    top[1], if named (cascade-rcnn): the sums over C, N x 1 x H x W, without gradient
    dx = outside inside f'(inside (x - t)) / N = -dt. The weights have none.
    Three bottoms (Fast R-CNN's first form): no outside weights, and dx = f'(inside (x - t)) / N, without the factor.
    Quirk: only SSD's fork and its heirs, and caffe-fast-rcnn of late, give the loss a weight by themselves; else it has
    weight 0 unless loss_weight is written. Two bottoms without smooth_l1_loss_param are read as SSD's.
    Source: caffe-fast-rcnn and weiliu89/caffe, src/caffe/layers/smooth_L1_loss_layer.cpp, .cu.
    """

    n_bottom = (2, 4)
    no_gradient = (2, 3)

    sigma: float = 1
    starts: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        alone = len(bottoms) == 2 and not msg.has("smooth_l1_loss_param")
        starts = msg.dialect in ("ssd", "jolibrain", "yolo", "nvcaffe") or (alone and msg.dialect == "bvlc")
        return cls(len(msg.top) > 1, float(msg.smooth_l1_loss_param.sigma), starts)

    def loss_weight(self) -> float:
        return float(self.starts)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        x, difference = bottoms[0], self.difference(*bottoms[:2])
        if len(bottoms) == 3:
            difference = weighted(difference, bottoms[2])
        elif len(bottoms) == 4:
            difference = difference * bottoms[2].detach().reshape(x.shape)
        errors = smooth_l1(difference, self.sigma**2)
        if len(bottoms) == 4:
            errors = errors * bottoms[3].detach().reshape(x.shape)
        loss = errors.sum() / max(len(x), 1)
        for weights in bottoms[2:]:
            loss = refuse_gradient(loss, weights, "SmoothL1Loss has no gradient for its weights")
        return (loss, summed(errors)) if self.per_item else loss


@layer("SmoothL1LossOHEM")
@dataclass(frozen=True, slots=True)
class SmoothL1LossOHEM(Distance):
    """loss = 1/n sum of f(w (x - t)), with f(d) = d^2 / 2 where |d| < 1, else |d| - 1/2; and each item's part of it.

    bottom[0]: x, N x C x H x W      bottom[1]: t, the same count behind N      bottom[2], if named: w, the same
    top[0]: the loss, a scalar, float32 at least      top[1], if named: the sums over C, N x 1 x H x W, without gradient
    n by `normalization`: FULL and VALID N H W; BATCH_SIZE N; PRE_FIXED pre_fixed_normalizer; NONE 1; at least 1.
    Quirk: dx = f'(w (x - t)) / n = -dt, without the factor w. Without a written loss_weight the weight is 0.
    Source: intel/caffe and caffe-rfcn, src/caffe/layers/smooth_L1_loss_ohem_layer.cpp, .cu.
    """

    n_bottom = (2, 3)
    no_gradient = (2,)

    normalization: str | float = "VALID"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        return cls(len(msg.top) > 1, normalization(msg.loss_param))

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        x, difference = bottoms[0], self.difference(*bottoms[:2])
        if len(bottoms) == 3:
            difference = weighted(difference, bottoms[2])
        errors = smooth_l1(difference, 1)
        loss = errors.sum() / normalizer(self.normalization, len(x), prod(x.shape[2:]), None)
        if len(bottoms) == 3:
            loss = refuse_gradient(loss, bottoms[2], "SmoothL1LossOHEM has no gradient for its weights")
        return (loss, summed(errors)) if self.per_item else loss


def alike(bottoms: Shapes) -> None:
    """Raises: NetError unless all bottoms have one N and one count behind it."""
    at_least(1, bottoms)
    first = bottoms[0]
    for i, shape in enumerate(bottoms):
        if shape[:1] != first[:1] or prod(shape) != prod(first):
            raise NetError(
                "the bottoms must have the same shape",
                expected=f"{dims(first)}, as bottom 0",
                got=f"{dims(shape)} at bottom {i}",
            )


def weighted(difference: Tensor, weights: Tensor) -> Tensor:
    """weights x difference, with the gradient of the difference itself."""
    more = difference.detach() * (weights.detach().reshape(difference.shape) - 1)
    return difference + more.to(difference.dtype)


def smooth_l1(d: Tensor, sigma2: float) -> Tensor:
    """f of the layers above, element by element; its derivative at 0 and beyond the bend is Caffe's."""
    size = d.abs()
    return (0.5 * sigma2 * d * d).where(size < 1 / sigma2, size - 0.5 / sigma2)


def summed(errors: Tensor) -> Tensor:
    """Over the channels, with one channel left, and four axes."""
    four = errors.detach().reshape(*errors.shape, *(1,) * (4 - errors.dim()))
    return four.sum(1, keepdim=True)
