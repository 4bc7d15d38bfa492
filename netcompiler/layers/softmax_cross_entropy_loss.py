"""SoftmaxCrossEntropyLoss and SoftmaxCrossEntropy2Loss: cross-entropy with a distribution in place of a label."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, axis, layer, normalization, normalizer, refuse_gradient, same_shapes

if TYPE_CHECKING:
    from torch import Tensor


@layer("SoftmaxCrossEntropyLoss")
@dataclass(frozen=True, slots=True)
class SoftmaxCrossEntropyLoss(Layer):
    """loss = 1/N sum over t > 0 of t (log t - log p), p being the softmax along `axis`: how far p is from t.

    bottom[0]: scores N x C x H x W      bottom[1]: t, as many values      top[0]: a scalar, float32 at least
    dx = (p - t) / N, also where the t of a place do not sum to 1.
    Source: tonyyangToBeNo1/colorization_flow_caffe, caffe/src/caffe/layers/softmax_cross_entropy_loss_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)
    ignored = frozenset({"engine", "loss_param"})

    axis: int = 1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(axis(msg.softmax_param, "axis", len(bottoms[0])))

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        if prod(bottoms[1]) != prod(bottoms[0]) or bottoms[1][:1] != bottoms[0][:1]:
            expected = f"{prod(bottoms[0])} values, as bottom 0"
            raise NetError("bottom 1 has the wrong shape", expected=expected, got=dims(bottoms[1]))
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0].to(torch.promote_types(bottoms[0].dtype, torch.float32))
        t = bottoms[1].detach().reshape(x.shape).to(x.dtype)
        plain = x.detach().log_softmax(self.axis)
        value = torch.where(t > 0, t * (t.clamp(min=torch.finfo(t.dtype).tiny).log() - plain), 0).sum()
        steered = x.logsumexp(self.axis).sum() - (t * x).sum()  # its gradient is the fork's
        loss = (value + (steered - steered.detach())) / len(x)
        return refuse_gradient(loss, bottoms[1], f"{self.kind} passes no gradient to its targets")


@layer("SoftmaxCrossEntropy2Loss")
@dataclass(frozen=True, slots=True)
class SoftmaxCrossEntropy2Loss(Layer):
    """loss = -1/n sum of t log p, p being the softmax along `axis`.

    bottom[0]: scores N x C x H x W      bottom[1]: t, the same      top[0]: a scalar, float32 at least
    top[1], if named: -t log p, the same as bottom[0], without gradient
    n by `normalization`: FULL and VALID N H W; BATCH_SIZE N; NONE 1. ignore_label has no effect here: t are no labels.
    Source: MyCaffe, MyCaffe/layers/SoftmaxCrossEntropy2LossLayer.cs.
    """

    category = "loss"
    n_bottom = (2, 2)
    n_top = (1, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)

    axis: int = 1
    normalization: str | float = "VALID"
    parts: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.loss_param
        p.has("ignore_label")  # looked at, and without effect
        return cls(axis(msg.softmax_param, "axis", len(bottoms[0])), normalization(p), len(msg.top) > 1)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        same_shapes(bottoms)
        return ((), bottoms[0])[: 1 + self.parts]

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch

        x = bottoms[0].to(torch.promote_types(bottoms[0].dtype, torch.float32))
        parts = -bottoms[1].detach() * x.log_softmax(self.axis)
        outer, inner = prod(x.shape[: self.axis]), prod(x.shape[self.axis + 1 :])
        loss = parts.sum() / normalizer(self.normalization, outer, inner, None)
        loss = refuse_gradient(loss, bottoms[1], f"{self.kind} passes no gradient to its targets")
        return (loss, parts.detach().to(bottoms[0].dtype)) if self.parts else loss
