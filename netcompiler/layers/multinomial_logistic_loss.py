"""MultinomialLogisticLoss."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, refuse_gradient, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-20  # what Caffe takes the logarithm of where a probability is smaller


@layer("MultinomialLogisticLoss")
@dataclass(frozen=True, slots=True)
class MultinomialLogisticLoss(Layer):
    """loss = -1 / N  sum_n ln(max(p_n, 1e-20)), where p_n is the probability that item n has for its label.

    bottom[0]: N x K, probabilities (further axes are flattened into K)      top[0]: a scalar, float32 at least
    bottom[1]: N labels, 0 .. K - 1
    The gradient is -1 / (N max(p_n, 1e-20)), also where p_n is smaller.
    Source: Caffe, src/caffe/layers/multinomial_logistic_loss_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        one_label_per_item(bottoms)
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        n = bottoms[0].shape[0]
        x = bottoms[0].reshape(n, prod(bottoms[0].shape[1:])).to(torch.promote_types(bottoms[0].dtype, torch.float32))
        labels, _ = whole_numbers(bottoms[1].reshape(n, 1), x.shape[1])
        own = x.gather(1, labels)
        kept = own.detach().clamp(min=LEAST)
        slope = (own - own.detach()) / kept  # 0 with Caffe's gradient
        loss = -(kept.log() + slope).sum() / n
        return refuse_gradient(loss, bottoms[1], "MultinomialLogisticLoss passes no gradient to its labels")


def one_label_per_item(bottoms: Shapes) -> None:
    """Raises: NetError unless bottom 1 has one value for each item of bottom 0."""
    scores, labels = bottoms
    if prod(labels) != scores[0]:
        expected, got = f"{scores[0]}, as bottom 0 is {dims(scores)}", f"{prod(labels)} ({dims(labels)})"
        raise NetError("each item needs one label", expected=expected, got=got)
