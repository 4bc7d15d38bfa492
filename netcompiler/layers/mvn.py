"""MVN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, layer, whole_from

if TYPE_CHECKING:
    from torch import Tensor


@layer("MVN")
@dataclass(frozen=True, slots=True)
class MVN(Layer):
    """y = (x - mean) / (s + eps), s the standard deviation (divisor H W); without normalize_variance y = x - mean.

    bottom: N x C x H x W, or fewer axes      top: N x C x H x W, missing axes being 1
    Mean and deviation are of each channel of each image, with across_channels of each image.
    Quirk: Caffe's gradient takes ds/dx = (x - mean) / (H W (s + eps)), with eps where the true one has none. So it is
    finite for a constant image, too.
    Source: Caffe, src/caffe/layers/mvn_layer.cpp.
    """

    category = "normalisation"

    normalize_variance: bool = True
    across_channels: bool = False
    eps: float = 1e-9

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.mvn_param
        return cls(p.normalize_variance, p.across_channels, p.eps)

    def tops(self, bottoms: Shapes) -> Shapes:
        if len(bottoms[0]) > 4:
            raise NetError("the bottom has too many axes", expected="at most 4", got=dims(bottoms[0]))
        return ((*bottoms[0], 1, 1, 1, 1)[:4],)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return whole_from(2, bottoms[0])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0].reshape(*bottoms[0].shape, *(1,) * (4 - bottoms[0].dim()))
        over = (1, 2, 3) if self.across_channels else (2, 3)
        y = x - x.mean(over, keepdim=True)
        if not self.normalize_variance:
            return y
        variance = y.square().mean(over, keepdim=True)
        divisor = variance.detach().sqrt() + self.eps
        # In value this adds 0; its derivative is Caffe's ds/dx.
        return y / (divisor + (variance - variance.detach()) / (2 * divisor))
