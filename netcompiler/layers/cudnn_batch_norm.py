"""CuDNNBatchNorm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..fillers import Filler
from ..graph import Array, Shapes
from ..text import Msg
from .base import BlobSpec, Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor

MIN_EPS = 1e-5  # cuDNN's


@layer("CuDNNBatchNorm")
@dataclass(frozen=True, slots=True)
class CuDNNBatchNorm(Layer):
    """y = (x - mean) / sqrt(variance + eps) weight + bias, by cuDNN: GENet's.

    bottom[0]: N x C x H x W      top[0]: the same
    In TRAIN the batch's statistics, over its m = N H W values for each channel; the stored ones become momentum old +
    (1 - momentum) batch's, the variance times m / (m - 1). In TEST, and with frozen, the stored ones. frozen: weight and
    bias take no gradient. eps is 1e-5 at least.
    blobs: weight, bias, mean, variance, each 1 x C x 1 x 1; the last two not learned, the variance 1 at first if frozen.
    MACs: N C H W.
    Source: hujie-frank/GENet, src/caffe/layers/cudnn_batch_norm_layer.cpp, cudnn_batch_norm_layer.cu.
    """

    category = "normalisation"

    stored: bool
    momentum: float = 0.999
    eps: float = MIN_EPS
    frozen: bool = False
    scale_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.cudnn_batch_norm_param
        frozen = p.frozen
        for i, param in enumerate(msg.param):  # the layer overwrites what is written there
            if frozen or i > 1:
                param.lr_mult = param.decay_mult = 0.0
        stored = frozen or msg.enum("phase") == "TEST"
        fillers = Filler.read(p.scale_filler), Filler.read(p.bias_filler)
        return cls(stored, p.momentum, max(p.eps, MIN_EPS), frozen, *fillers)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        return bottoms

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        shape = (1, bottoms[0][1], 1, 1)
        return {
            "weight": BlobSpec(shape, self.scale_filler),
            "bias": BlobSpec(shape, self.bias_filler),
            "mean": BlobSpec(shape, learned=False),
            "variance": BlobSpec(shape, Filler(value=float(self.frozen)), learned=False),
        }

    def adopted(self, arrays: Sequence[Array]) -> Sequence[Array]:
        return [a.reshape(1, -1, 1, 1) for a in arrays]

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0])

    def brief(self) -> str:
        return "" if self.stored else "of the batch"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        x = bottoms[0]
        exact = torch.promote_types(m.mean.dtype, torch.float32)
        weight, bias, mean, variance = (b.to(exact).reshape(-1) for b in (m.weight, m.bias, m.mean, m.variance))
        if self.frozen:
            weight, bias = weight.detach(), bias.detach()
        if self.stored:
            return F.batch_norm(x, mean, variance, weight, bias, eps=self.eps)
        if x.numel() == x.shape[1]:  # one value for each channel: PyTorch refuses
            side = (1, -1, *(1,) * (x.dim() - 2))
            return torch.addcmul(bias.reshape(side), x - x, weight.reshape(side)).to(x.dtype)
        # With momentum 1 PyTorch leaves the batch's mean and its variance times m / (m - 1) in the two.
        mean, variance = torch.zeros_like(mean), torch.zeros_like(variance)
        y = F.batch_norm(x, mean, variance, weight, bias, training=True, momentum=1.0, eps=self.eps)
        if not m.again:
            with torch.no_grad():
                for held, new in ((m.mean, mean), (m.variance, variance)):
                    held.mul_(self.momentum).add_((1 - self.momentum) * new.reshape(held.shape))
        return y
