"""RankHardLoss, of video triplets."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, refuse_gradient
from .malis_loss import with_gradient

if TYPE_CHECKING:
    from torch import Tensor


@layer("RankHardLoss")
@dataclass(frozen=True, slots=True)
class RankHardLoss(Layer):
    """loss = 1/n sum of max(0, margin - ab + ac) + max(0, margin - ab + bc): a and b alike, c, of another label, is not.

    bottom[0]: N x D..      bottom[1]: N labels      top[0]: a scalar
    a and b are items 0 and 1 of each pair_size items; n = 2 (neg_num N / pair_size), cut. Of the c whose first part is
    not 0 all count where they are at most neg_num; else, in random order, the hard_ratio neg_num first of the neg_num with
    the largest ac, and of all others rand_ratio neg_num.
    The random numbers are torch's. Quirk: loss_weight has no effect on the gradient.
    Source: xiaolonw/caffe-video_triplet, src/caffe/layers/rank_hard_loss_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)
    ignored = frozenset({"loss_param"})

    neg_num: int = 1
    pair_size: int = 2
    hard_ratio: float = 0.0
    rand_ratio: float = 0.0
    margin: float = 0.5

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.rank_param
        if p.pair_size < 2:
            raise NetError("pair_size is too small", at=p.at("pair_size"), expected="at least 2", got=p.pair_size)
        if p.neg_num < 1:
            raise NetError("neg_num must be positive", at=p.at("neg_num"), got=p.neg_num)
        return cls(p.neg_num, p.pair_size, p.hard_ratio, p.rand_ratio, p.margin)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        n = bottoms[0][0]
        if prod(bottoms[1]) != n:
            raise NetError("bottom 1 has the wrong shape", expected=f"{n} labels", got=dims(bottoms[1]))
        if not n or n % self.pair_size == 1:
            expected = f"a multiple of {self.pair_size}, pair_size"
            raise NetError("the last pair is not whole", at="pair_size", expected=expected, got=n)
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        x = bottoms[0].to(exact).flatten(1) if bottoms[0].dim() > 1 else bottoms[0].to(exact)[:, None]
        labels = bottoms[1].detach().reshape(-1)
        given = x.detach().requires_grad_()
        with torch.enable_grad():
            near = given @ given.t()
            near = near - torch.diag(near.diagonal())
            firsts, others = self.chosen(near.detach(), labels)
            alike = near[firsts, firsts + 1]
            parts = self.margin - alike + torch.stack((near[firsts, others], near[firsts + 1, others]))
            count = max(self.neg_num * len(x) // self.pair_size * 2, 1)
            loss = parts.clamp(min=0).sum() / count
        (gradient,) = torch.autograd.grad(loss, given)
        loss = with_gradient(loss.detach(), bottoms[0], gradient.reshape(bottoms[0].shape).to(bottoms[0]))
        return refuse_gradient(loss, bottoms[1], "RankHardLoss passes no gradient to its labels")

    def chosen(self, near: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The a and c that count."""
        import torch

        hard, drawn = (int(np.float32(self.neg_num) * np.float32(r)) for r in (self.hard_ratio, self.rand_ratio))
        found: list[tuple[int, int]] = []
        for i in range(0, len(near), self.pair_size):
            worth = (labels != labels[i]) & (self.margin - near[i, i + 1] + near[i] > 0)
            places = worth.nonzero()[:, 0]
            places = places[(-near[i][places]).argsort(stable=True)]
            if len(places) > self.neg_num:
                best, rest = places[: self.neg_num], places[self.neg_num :]
                best = best[torch.randperm(len(best))]
                rest = torch.cat((rest, best[hard:]))
                places = torch.cat((best[:hard], rest[torch.randperm(len(rest))][:drawn]))
            found += [(i, j) for j in places.tolist()]
        pairs = torch.tensor(found, dtype=torch.long, device=near.device).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]
