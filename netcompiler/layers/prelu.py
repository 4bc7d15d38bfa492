"""PReLU."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..fillers import Filler
from ..graph import Shapes
from ..text import Msg
from .base import BlobSpec, Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("PReLU")
@dataclass(frozen=True, slots=True)
class PReLU(Layer):
    """y = max(x, 0) + a min(x, 0), with a learned a for each channel, or one for all with channel_shared.

    bottom[0]: N x C x H x W (at least N x C)      top[0]: the same
    blobs: weight C, a scalar with channel_shared; starts as 0.25 where there is no filler.
    MACs: N C H W.
    Source: Caffe, src/caffe/layers/prelu_layer.cpp; He et al. 2015, eq. 1.
    """

    category = "activation"

    channel_shared: bool = False
    filler: Filler = Filler(value=0.25)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.prelu_param
        return cls(p.channel_shared, Filler.read(p.filler) if p.has("filler") else Filler(value=0.25))

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        return bottoms

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        return {"weight": BlobSpec(() if self.channel_shared else bottoms[0][1:2], self.filler)}

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.prelu(bottoms[0], m.weight)
