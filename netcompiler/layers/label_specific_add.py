"""LabelSpecificAdd and LabelSpecificRescale: scores changed at the labelled class."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, refuse_gradient, traced, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor


def _chosen(x: Tensor, labels: Tensor) -> Tensor:
    """Which of N x .. scores are those of the labels."""
    import torch

    flat = x.flatten(1)
    at, _ = whole_numbers(labels.reshape(-1), flat.shape[1])
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, at[:, None], True).reshape(x.shape)


def _one_each(bottoms: Shapes) -> None:
    """Raises: NetError unless bottom 1 has a label for each item."""
    at_least(2, bottoms)
    n = bottoms[0][0]
    if prod(bottoms[1]) != n:
        raise NetError("bottom 1 has the wrong shape", expected=f"{n} labels", got=dims(bottoms[1]))


@layer("LabelSpecificAdd")
@dataclass(frozen=True, slots=True)
class LabelSpecificAdd(Layer):
    """In TRAIN, the labelled class's score plus a bias, where it is above -bias: the margin of AM-Softmax. In TEST y = x.

    bottom[0]: scores N x C..      bottom[1]: N labels      top[0]: N x C..
    With bias_base the bias of the i-th forward is that plus (1 + bias_gamma (iteration + i))^bias_power - 1, i from 0, at
    least bias_min and at most bias_max; how many forwards there were stays for the next one. dx = dy.
    transform_test has no effect, in the fork neither.
    Source: happynear/caffe-windows, src/caffe/layers/label_specific_add.cpp; Wang et al. 2018 (AM-Softmax).
    """

    category = "combine"
    n_bottom = (2, 2)
    no_gradient = (1,)
    remembers = ("forwards",)
    ignored = frozenset({"engine", "transform_test"})

    bias: float = 0.0
    base: float | None = None
    gamma: float = 0.0
    power: float = 1.0
    least: float = 0.0
    most: float = 0.0
    iteration: int = 0
    train: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.label_specific_add_param
        rest = p.bias_gamma, p.bias_power, p.bias_min, p.bias_max, p.iteration
        base = p.bias_base if p.has("bias_base") else None
        return cls(p.bias, base, *rest, msg.enum("phase") == "TRAIN")

    def tops(self, bottoms: Shapes) -> Shapes:
        _one_each(bottoms)
        return bottoms[:1]

    def is_identity(self) -> bool:
        return not self.train

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        if not self.train:
            return x
        bias = self.bias
        if self.base is not None:
            done = getattr(m, "forwards", 0) - m.again
            bias = self.base + (1 + self.gamma * (self.iteration + max(done, 0))) ** self.power - 1
            bias = min(max(bias, self.least), self.most)
            if not traced(x):
                m.forwards = done + 1
        y = x + bias * (_chosen(x, bottoms[1]) & (x.detach() > -bias))
        return refuse_gradient(y, bottoms[1], "LabelSpecificAdd passes no gradient to its labels")


@layer("LabelSpecificRescale")
@dataclass(frozen=True, slots=True)
class LabelSpecificRescale(Layer):
    """In TRAIN (with rescale_test in TEST too), the labelled class's score times positive_weight, the others' times
    negative_weight. Else y = x.

    bottom[0]: scores N x C..      bottom[1]: N labels      top[0]: N x C..
    for_ip, where positive_weight is not 1: the labelled score also plus 1 - positive_weight. The bounds have no effect, in
    the fork neither; a positive_weight that changes with time (positive_weight_base), bias_fix and power_on_positive are
    refused.
    Source: happynear/caffe-windows, src/caffe/layers/label_specific_rescale.cpp.
    """

    category = "combine"
    n_bottom = (2, 2)
    no_gradient = (1,)
    ignored = frozenset({"engine", "positive_lower_bound", "negative_upper_bound"})

    positive_weight: float = 1.0
    negative_weight: float = 1.0
    for_ip: bool = False
    on: bool = True

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.label_specific_rescale_param
        for name in ("positive_weight_base", "bias_fix", "power_on_positive"):
            if getattr(p, name):
                raise NetError(f"{name} is not supported", at=p.at(name), hint="leave it out")
        for name in ("gamma", "power", "positive_weight_min", "positive_weight_max", "iteration"):
            p.has(name)  # looked at: without effect beside positive_weight_base
        on = p.rescale_test or msg.enum("phase") == "TRAIN"
        return cls(p.positive_weight, p.negative_weight, p.for_ip, on)

    def tops(self, bottoms: Shapes) -> Shapes:
        _one_each(bottoms)
        return bottoms[:1]

    def is_identity(self) -> bool:
        return not self.on

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0]
        if not self.on:
            return x
        shift = 1 - self.positive_weight if self.for_ip else 0.0
        y = torch.where(_chosen(x, bottoms[1]), x * self.positive_weight + shift, x * self.negative_weight)
        return refuse_gradient(y, bottoms[1], "LabelSpecificRescale passes no gradient to its labels")
