"""LRN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from ..windows import Window, Windows
from .base import Layer, exactly, layer, not_empty

if TYPE_CHECKING:
    from torch import Tensor


@layer("LRN")
@dataclass(frozen=True, slots=True)
class LRN(Layer):
    """y = x / (k + alpha m) ^ beta, where m is the mean of x^2 over a window around x; outside there are zeros.

    bottom, top: N x C x H x W
    ACROSS_CHANNELS: local_size channels at one place.  WITHIN_CHANNEL: local_size x local_size places of one channel, with
    k = 1 whatever the net says, as in Caffe. The mean is over the whole window, also where it leaves the image.
    Source: Caffe, src/caffe/layers/lrn_layer.cpp; Krizhevsky et al. 2012, section 3.3.
    """

    category = "normalisation"

    local_size: int = 5
    alpha: float = 1.0
    beta: float = 0.75
    k: float = 1.0
    norm_region: str = "ACROSS_CHANNELS"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.lrn_param
        if p.local_size % 2 == 0:
            raise NetError("local_size must be odd", at=p.at("local_size"), got=p.local_size)
        region, k = p.enum("norm_region"), p.k
        return cls(p.local_size, p.alpha, p.beta, k if region == "ACROSS_CHANNELS" else 1.0, region)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        not_empty(bottoms)
        return bottoms

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        size = self.local_size if self.norm_region == "WITHIN_CHANNEL" else 1
        return (Window.sliding(size, 1, size // 2),) * 2

    def brief(self) -> str:
        return f"{self.local_size}, " + ("within" if self.norm_region == "WITHIN_CHANNEL" else "across")

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        x, n = bottoms[0], self.local_size
        squares = x.square()
        if self.norm_region == "WITHIN_CHANNEL":
            mean = F.avg_pool2d(squares, n, 1, n // 2)
        else:
            # Whole channels are added up: pooling along them, as torch's own LRN does, takes twice the time on a CPU.
            channels = x.shape[1]
            squares = F.pad(squares, (0, 0, 0, 0, n // 2, n // 2))
            mean = squares[:, :channels] / n
            for i in range(1, n):
                mean.add_(squares[:, i : i + channels], alpha=1 / n)
        del squares  # blobs here may be large: no more of them than needed
        return x * mean.mul_(self.alpha).add_(self.k).pow(-self.beta)
