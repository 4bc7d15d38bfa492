"""SPP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from .base import Layer, exactly, layer, not_empty
from .pooling import Pooling

if TYPE_CHECKING:
    from torch import Tensor


@layer("SPP")
@dataclass(frozen=True, slots=True)
class SPP(Layer):
    """Spatial pyramid pooling: level i pools into about 2^i x 2^i bins; all levels are joined into one vector.

    bottom: N x C x H x W      top: N x (sum of the levels' C H' W'), level by level; for one level N x C x 1 x 1
    Level i is a Pooling with kernel_h = stride_h = ceil(H / 2^i), pad_h = ceil((kernel_h 2^i - H) / 2); W likewise. It is
    refused where padding reaches the kernel, as in Caffe.
    Quirk: STOCHASTIC draws in TEST, too; Caffe does not tell its inner Pooling the phase.
    Source: Caffe, src/caffe/layers/spp_layer.cpp; He et al. 2014.
    """

    category = "pooling"

    pyramid_height: int
    pool: str = "MAX"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.spp_param
        if p.pyramid_height < 1:
            raise NetError("pyramid_height must be positive", at=p.at("pyramid_height"), got=p.pyramid_height)
        return cls(p.pyramid_height, p.enum("pool"))

    def levels(self, image: Shape) -> Iterator[Pooling]:
        """The Pooling of each level, over an image H x W."""
        for i in range(self.pyramid_height):
            bins = 2**i
            kernel = tuple(-(-size // bins) for size in image)
            pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, image, strict=True))
            yield Pooling(self.pool, kernel, kernel, pad, train=self.pool == "STOCHASTIC")

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, _, *image = bottoms[0]
        not_empty(bottoms)
        found: list[Shape] = []
        for i, level in enumerate(self.levels(tuple(image))):
            try:
                found += level.tops(bottoms)
            except NetError as e:
                e.what, e.at = f"level {i}, {2**i} x {2**i} bins: {e.what}", "pyramid_height"
                raise
        return tuple(found) if len(found) == 1 else ((n, sum(prod(top[1:]) for top in found)),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        tops: list[Any] = [level.forward(m, *bottoms) for level in self.levels(tuple(bottoms[0].shape[2:]))]
        return tops[0] if len(tops) == 1 else torch.cat([top.flatten(1) for top in tops], 1)
