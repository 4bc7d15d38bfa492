"""BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError
from ..fillers import Filler
from ..graph import Array, Shapes
from ..text import Msg
from .base import BlobSpec, Layer, at_least, layer, not_empty

if TYPE_CHECKING:
    from torch import Tensor

STATISTICS = 3  # mean, variance, scale_factor
NVCAFFES = ("scale_bias", "scale_filler")
INTELS = ("use_weight_bias", "bias_term", "filler", "stats_batch_size")
MIN_EPS = 1e-5  # NVCaffe's


@layer("BatchNorm")
@dataclass(frozen=True, slots=True)
class BatchNorm(Layer):
    """y = (x - mean) / sqrt(variance + eps), with a mean and a variance for each channel; forks: then y weight + bias.

    bottom[0]: N x C x H x W (at least N x C)      top[0]: the same
    With use_global_stats (unset: in TEST) the statistics are the stored ones: mean / scale_factor and variance /
    scale_factor, both 0 where scale_factor is 0. Else they are the batch's own: over its m = N H W values for each
    channel, the variance divided by m; and each forward, also one without a backward, changes the stored ones:
        scale_factor <- f scale_factor + 1,  mean <- f mean + batch mean,
        variance <- f variance + m / (m - 1) batch variance   (factor 1 where m is 1),  f = moving_average_fraction.
    blobs: mean C;  variance C;  scale_factor 1: not learned, and all 0 at the start.  Of forks: weight C;  bias C.
    MACs: N C H W.

    NVCaffe's, told by scale_bias (also where false), scale_filler or bias_filler: weight and bias are there with
    scale_bias true or one of the two fillers, and start as 1 and 0; eps is 1e-5 at least; use_global_stats has no effect
    (the phase decides), nor have params' multipliers (statistics 0, weight and bias 1). It stores averages, with a
    scale_factor of 1 that never changes, so that its files and BVLC's mean the same here: mean / scale_factor. (NVCaffe
    divides BVLC's 3 blobs when it loads them. A scale_factor of 0, which it does not look at, counts as 1.)
        mean <- f mean + (1 - f) batch mean, variance likewise with m / (m - 1): its cuDNN engine's, which is the default.
    The first forward stores the batch's own: it is one whose stored statistics are all 0. (NVCaffe asks for its solver's
    iteration 0, so that fine-tuning starts anew there.)  engine: CAFFE leaves out m / (m - 1) there, not here.
    Intel Caffe's: use_weight_bias or bias_term adds weight (filler, 1) and, unless bias_term is false, bias
    (bias_filler, 0); the rest is BVLC's. Without both they are left to the Scale layer behind, whose blobs Intel Caffe
    takes as these: the fillers are then that one's. relu: max(y, 0). stats_batch_size, or the net's
    bn_stats_batch_size for all its layers: the batch falls into parts of that many items, each with statistics of its
    own, which are stored one after the other.
    Files: weight and bias stand behind the three others. NVCaffe 0.15 and early Intel Caffe wrote weight, bias, mean,
    variance, scale_factor (told by a last blob of one value), in 1 x C x 1 x 1; both are read.
    Source: Caffe, src/caffe/layers/batch_norm_layer.cpp; Ioffe & Szegedy 2015, Algorithm 1; NVCaffe,
    cudnn_batch_norm_layer.cu and net.cpp (CopyTrainedLayersFrom); Intel Caffe, mkldnn_batch_norm_layer.cpp.
    """

    category = "normalisation"

    use_global_stats: bool
    moving_average_fraction: float = 0.999
    eps: float = 1e-5
    scale: bool = False
    bias_term: bool = False
    averages: bool = False  # the stored statistics are averages, not sums
    stats_batch_size: int = 0
    relu: bool = False
    filler: Filler = Filler(value=1.0)
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        q = msg.batch_norm_param
        intels = [name for name in INTELS if q.has(name)]
        nvcaffes = [name for name in NVCAFFES if q.has(name)]
        if q.has("bias_filler") and not intels:
            nvcaffes.append("bias_filler")
        if intels and nvcaffes:
            what = f"{nvcaffes[0]} is NVCaffe's, and {intels[0]} Intel Caffe's"
            raise NetError(what, at=q.at(intels[0]) or q.at(nvcaffes[0]), hint="keep the fields of one of the two")
        for i, p in enumerate(msg.param):
            if nvcaffes:  # which overwrites what is written there
                p.lr_mult = p.decay_mult = 0.0 if i < STATISTICS else 1.0
            elif i < STATISTICS and p.lr_mult != 0:
                at, hint = (
                    p.at("lr_mult"),
                    "write lr_mult: 0, or leave the param out; a Scale layer after this one learns",
                )
                raise NetError("statistics are not learned", at=at, expected="lr_mult: 0", got=p.lr_mult, hint=hint)
        if q.eps < 0:
            raise NetError("eps is negative", at=q.at("eps"), expected="0 or more", got=f"{q.eps:g}")
        stored = msg.enum("phase") == "TEST"
        if q.update_global_stats and not stored:
            what = "update_global_stats, DeepLab's, is not supported in TRAIN"
            raise NetError(what, at=q.at("update_global_stats"), expected="false, or a net for TEST")
        if nvcaffes:
            q.has("use_global_stats")  # looked at, and without effect
            scaled = q.scale_bias or q.has("scale_filler") or q.has("bias_filler")
            filler = _filler(q, "scale_filler", 1.0), _filler(q, "bias_filler", 0.0)
            eps = max(q.eps, MIN_EPS)
            return cls(stored, q.moving_average_fraction, eps, scaled, scaled, True, 0, q.relu, *filler)
        if q.has("use_global_stats"):
            stored = q.use_global_stats
        scaled = q.use_weight_bias and ("use_weight_bias" in intels or "bias_term" in intels)
        return cls(
            stored,
            q.moving_average_fraction,
            q.eps,
            scaled,
            scaled and q.bias_term,
            False,
            0 if stored else q.stats_batch_size,
            q.relu,
            _filler(q, "filler", 1.0, used=scaled),
            _filler(q, "bias_filler", 0.0, used=scaled),
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        not_empty(bottoms)
        n, part = bottoms[0][0], self.stats_batch_size
        if part and n % part:
            hint = "change the batch, or remove stats_batch_size (bn_stats_batch_size, if the net has it)"
            what = "stats_batch_size must divide the batch"
            raise NetError(what, at="stats_batch_size", expected=f"a multiple of {part}", got=n, hint=hint)
        return bottoms

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        channels = bottoms[0][1]
        specs = {
            "mean": BlobSpec((channels,), learned=False),
            "variance": BlobSpec((channels,), learned=False),
            "scale_factor": BlobSpec((1,), Filler(value=1.0 if self.averages else 0.0), learned=False),
        }
        if self.scale:
            specs["weight"] = BlobSpec((channels,), self.filler)
        if self.bias_term:
            specs["bias"] = BlobSpec((channels,), self.bias_filler)
        return specs

    def adopted(self, arrays: Sequence[Array]) -> Sequence[Array]:
        flat = [a.reshape(-1) if a.shape == (1, a.size, 1, 1) else a for a in arrays]
        if len(flat) != STATISTICS + 2:
            return flat
        if flat[4].size == 1 and flat[2].size > 1:
            weight, bias, mean, variance, factor = flat
            return [mean, variance, factor if factor.any() else np.ones_like(factor), weight, bias]
        if arrays[2].ndim == 4 and flat[2].size == 1 and flat[0].size > 1 and not flat[2].any():
            raise NetError(
                "the file does not tell the order of its blobs",
                expected="mean, variance, scale_factor, weight, bias; an early NVCaffe wrote weight, bias, 0, mean, variance",
                hint="read the arrays with read_weights, and give them in order: compile(net, {layer: [arrays]})",
            )
        return flat

    def misfit_hint(self, count: int) -> str | None:
        if not self.scale and count in (STATISTICS + 1, STATISTICS + 2):
            none = " and bias_term: false" if count == STATISTICS + 1 else ""
            return (
                "the file's BatchNorm has a weight and a bias of its own, which this net leaves to a Scale layer: in "
                f"batch_norm_param, scale_bias: true (NVCaffe) or use_weight_bias: true{none} (Intel Caffe) takes them"
            )
        if self.scale and count == STATISTICS:
            fields = "scale_bias and its fillers" if self.averages else "use_weight_bias, bias_term and filler"
            return (
                f"the file's BatchNorm has statistics only, as BVLC's: leave out {fields}, and write a Scale layer "
                "after this one if the file has it"
            )
        return None

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0])

    def brief(self) -> str:
        return "" if self.use_global_stats else "of the batch"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        x = bottoms[0]
        exact = torch.promote_types(m.mean.dtype, torch.float32)
        weight = m.weight.to(exact) if self.scale else None
        bias = m.bias.to(exact) if self.bias_term else None
        if self.use_global_stats:
            factor = m.scale_factor.to(exact)
            share = torch.where(factor == 0, float(self.averages), 1 / factor)
            y = F.batch_norm(x, m.mean.to(exact) * share, m.variance.to(exact) * share, weight, bias, eps=self.eps)
        else:
            y, mean, variance = self.by_batch(x, weight, bias, exact)
            if not m.again:
                with torch.no_grad():
                    self.store(m, mean, variance)
        return F.relu(y) if self.relu else y

    def by_batch(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, exact: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """y, and of each part of the batch the mean and the variance times m / (m - 1): parts x C."""
        import torch
        import torch.nn.functional as F

        n, channels = x.shape[:2]
        parts = n // self.stats_batch_size if self.stats_batch_size else 1
        many = parts > 1
        if many:  # the parts become channels: items of a part x parts C x H x W
            x = x.reshape(parts, n // parts, *x.shape[1:]).transpose(0, 1).flatten(1, 2)
            weight = None if weight is None else weight.repeat(parts)
            bias = None if bias is None else bias.repeat(parts)
        mean = torch.zeros(x.shape[1], dtype=exact, device=x.device)
        variance = torch.zeros_like(mean)
        if x.numel() == x.shape[1]:  # one value for each channel: PyTorch refuses, Caffe gives 0
            mean, y = x.detach().reshape(-1).to(exact), x - x
            if weight is not None:
                y = (y * weight.reshape(x.shape)).to(x.dtype)
            if bias is not None:
                y = (y + bias.reshape(x.shape)).to(x.dtype)
        else:
            # With momentum 1 PyTorch leaves the batch's mean and its variance times m / (m - 1) in the two.
            y = F.batch_norm(x, mean, variance, weight, bias, training=True, momentum=1.0, eps=self.eps)
        if many:
            y = y.reshape(n // parts, parts, channels, *y.shape[2:]).transpose(0, 1).flatten(0, 1)
        return y, mean.reshape(parts, channels), variance.reshape(parts, channels)

    def store(self, m: Any, mean: Tensor, variance: Tensor) -> None:
        """Change the stored statistics by those of each part of a batch, one after the other."""
        import torch

        f, parts = self.moving_average_fraction, len(mean)
        if self.averages:
            begun = ((m.mean != 0) | (m.variance != 0)).any().to(m.mean.dtype)
            kept, unit = f * begun, torch.where(m.scale_factor == 0, 1, m.scale_factor)
            m.mean.mul_(kept).add_((1 - kept) * unit * mean[0])
            m.variance.mul_(kept).add_((1 - kept) * unit * variance[0])
            return
        if parts == 1:  # the usual case, in as few steps as can be
            m.mean.mul_(f).add_(mean[0])
            m.variance.mul_(f).add_(variance[0])
            m.scale_factor.mul_(f).add_(1)
            return
        left = f ** torch.arange(parts - 1, -1, -1, device=mean.device, dtype=mean.dtype)
        m.mean.mul_(f**parts).add_((left[:, None] * mean).sum(0))
        m.variance.mul_(f**parts).add_((left[:, None] * variance).sum(0))
        m.scale_factor.mul_(f**parts).add_(left.sum())


def _filler(q: Msg, name: str, start: float, used: bool = True) -> Filler:
    """The filler in a field, where one is given; the constant that the blob starts with else.

    Raises: NetError for one that is not used, and would have done something else.
    """
    constant = Filler(value=start)
    filler = Filler.read(getattr(q, name)) if q.has(name) else constant
    if used or filler == constant or q.has("use_weight_bias"):
        return filler
    hint = "use_weight_bias: true adds it; or give the filler to the Scale layer after this one"
    what = f"{name} is of a {'bias' if name == 'bias_filler' else 'weight'} that this layer does not have"
    raise NetError(what, at=q.at(name), expected=f"a constant {start:g}, which changes nothing", hint=hint)
