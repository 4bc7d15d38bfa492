"""SeLu and SeLuDropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("SeLu")
@dataclass(frozen=True, slots=True)
class SeLu(Layer):
    """lambda x where x > 0, else lambda alpha (exp(x) - 1).

    bottom[0]: any shape      top[0]: the same
    Source: jolibrain/caffe, src/caffe/layers/selu_layer.cpp; Klambauer et al. 2017, eq. 2.
    """

    category = "activation"

    scale: float = 1.050700987
    alpha: float = 1.67326324

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.selu_param
        return cls(getattr(p, "lambda"), p.alpha)

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def brief(self) -> str:
        return ""

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0]
        # exp of what is above 0 is not used, and could overflow into the gradient.
        return self.scale * torch.where(x > 0, x, self.alpha * x.clamp(max=0).expm1())


@layer("SeLuDropout")
@dataclass(frozen=True, slots=True)
class SeLuDropout(Layer):
    """TRAIN: an element becomes alpha with probability p = dropout_ratio, and all are then a x + b. TEST: y = x.

    bottom[0]: any shape      top[0]: the same
    a = (q + alpha^2 q p)^-1/2,  b = -a p alpha,  q = 1 - p: mean 0 and variance 1 stay. The random numbers are torch's.
    Source: jolibrain/caffe, src/caffe/layers/selu_dropout_layer.cpp; Klambauer et al. 2017 (alpha dropout).
    """

    dropout_ratio: float = 0.1
    alpha: float = -1.75809934
    train: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.selu_dropout_param
        if not 0 < p.dropout_ratio < 1:
            expected, got = "0 < dropout_ratio < 1", f"{p.dropout_ratio:g}"
            raise NetError("dropout_ratio is out of range", at=p.at("dropout_ratio"), expected=expected, got=got)
        return cls(p.dropout_ratio, p.alpha, msg.enum("phase") == "TRAIN")

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def is_identity(self) -> bool:
        return not self.train

    def brief(self) -> str:
        return f"{self.dropout_ratio:.4g}"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0]
        if not self.train:
            return x
        p = self.dropout_ratio
        a = ((1 - p) * (1 + self.alpha * self.alpha * p)) ** -0.5
        kept = torch.rand_like(x) >= p
        return torch.where(kept, x, self.alpha).mul(a).sub(a * p * self.alpha)
