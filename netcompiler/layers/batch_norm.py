"""BatchNorm."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import BlobSpec, Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("BatchNorm")
@dataclass(frozen=True, slots=True)
class BatchNorm(Layer):
    """y = (x - mean) / sqrt(variance + eps), with a mean and a variance for each channel.

    bottom[0]: N x C x H x W (at least N x C)      top[0]: the same
    With use_global_stats (unset: in TEST) the statistics are the stored ones: mean / scale_factor and variance /
    scale_factor, both 0 where scale_factor is 0. Else they are the batch's own: over its m = N H W values for each
    channel, the variance divided by m; and each forward, also one without a backward, changes the stored ones:
        scale_factor <- f scale_factor + 1,  mean <- f mean + batch mean,
        variance <- f variance + m / (m - 1) batch variance   (factor 1 where m is 1),  f = moving_average_fraction.
    blobs: mean C;  variance C;  scale_factor 1: not learned, and all 0 at the start.
    MACs: N C H W.
    Source: Caffe, src/caffe/layers/batch_norm_layer.cpp; Ioffe & Szegedy 2015, Algorithm 1.
    """

    use_global_stats: bool
    moving_average_fraction: float = 0.999
    eps: float = 1e-5

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        q = msg.batch_norm_param
        if q.scale_bias:
            hint = "it is NVCaffe's; a Scale layer with bias_term after this one does the same"
            raise NetError("scale_bias is not supported here", at=q.at("scale_bias"), hint=hint)
        for p in msg.param:
            if p.lr_mult != 0:
                at, hint = (
                    p.at("lr_mult"),
                    "write lr_mult: 0, or leave the param out; a Scale layer after this one learns",
                )
                raise NetError("statistics are not learned", at=at, expected="lr_mult: 0", got=p.lr_mult, hint=hint)
        stored = q.use_global_stats if q.has("use_global_stats") else msg.enum("phase") == "TEST"
        return cls(stored, q.moving_average_fraction, q.eps)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        return bottoms

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        channels = bottoms[0][1]
        return {
            "mean": BlobSpec((channels,), learned=False),
            "variance": BlobSpec((channels,), learned=False),
            "scale_factor": BlobSpec((1,), learned=False),
        }

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        x = bottoms[0]
        exact = torch.promote_types(m.mean.dtype, torch.float32)
        if self.use_global_stats:
            factor = m.scale_factor.to(exact)
            factor = torch.where(factor == 0, 0, 1 / factor)
            return F.batch_norm(x, m.mean.to(exact) * factor, m.variance.to(exact) * factor, eps=self.eps)
        mean = torch.zeros_like(m.mean, dtype=exact)
        variance = torch.zeros_like(mean)
        if x.numel() == x.shape[1]:  # one value for each channel: PyTorch refuses, Caffe gives 0
            mean, y = x.detach().reshape(-1).to(exact), x - x
        else:
            # With momentum 1 PyTorch leaves the batch's mean and its variance times m / (m - 1) in the two.
            y = F.batch_norm(x, mean, variance, training=True, momentum=1.0, eps=self.eps)
        with torch.no_grad():
            m.mean.mul_(self.moving_average_fraction).add_(mean)
            m.variance.mul_(self.moving_average_fraction).add_(variance)
            m.scale_factor.mul_(self.moving_average_fraction).add_(1)
        return y
