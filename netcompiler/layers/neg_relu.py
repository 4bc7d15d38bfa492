"""NegReLU and Insanity."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("NegReLU")
@dataclass(frozen=True, slots=True)
class NegReLU(Layer):
    """y = min(x, 0) + negative_slope max(x, 0).

    bottom[0]: any shape      top[0]: the same
    Source: lmb-freiburg/flownet2, src/caffe/layers/neg_relu_layer.cpp.
    """

    category = "activation"

    negative_slope: float = 0.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(msg.relu_param.negative_slope)

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        return -F.leaky_relu(-bottoms[0], self.negative_slope)


@layer("Insanity")
@dataclass(frozen=True, slots=True)
class Insanity(Layer):
    """Randomised leaky ReLU: x where x > 0, else x / a.

    bottom[0]: N x C x H x W (N x C at least)      top[0]: the same
    TRAIN: a is drawn from lb to ub for each value. TEST: a = (ub - lb) / (ln |ub| - ln |lb|). The random numbers are torch's.
    Source: happynear/caffe-windows, src/caffe/layers/insanity_layer.cpp. (Its gradient in TEST is by the a of the last
    TRAIN; here it is the true one.)
    """

    category = "activation"

    lb: float = 5.0
    ub: float = 10.0
    train: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.insanity_param
        if p.ub <= p.lb:
            raise NetError("ub must be above lb", at=p.at("ub"), expected=f"above {p.lb:g}", got=f"{p.ub:g}")
        for name in ("lb", "ub"):
            if getattr(p, name) == 0:
                raise NetError(f"{name} must not be 0", at=p.at(name))
        if p.lb == -p.ub:
            raise NetError("lb and ub have one magnitude", at=p.at("lb"), got=f"{p.lb:g} and {p.ub:g}")
        return cls(p.lb, p.ub, msg.enum("phase") == "TRAIN")

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        return bottoms

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        x = bottoms[0]
        if not self.train:
            return F.leaky_relu(x, (log(abs(self.ub)) - log(abs(self.lb))) / (self.ub - self.lb))
        a = torch.rand_like(x) * (self.ub - self.lb) + self.lb
        return torch.where(x > 0, x, x / a)
