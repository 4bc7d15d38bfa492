"""DenseCRF."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, exactly, layer, refuse_gradient
from .permutohedral import Lattice, coloured, places

if TYPE_CHECKING:
    from torch import Tensor

SIZE = 2  # height and width


@layer("DenseCRF")
@dataclass(frozen=True, slots=True)
class DenseCRF(Layer):
    """Mean-field inference in a random field over the pixels: q = softmax of the scores, then max_iter times
        q = softmax(log of the first q + sum over k of w_k F_k(q)).
    F_k are means over all pixels with Gaussian weights: of the distance / pos_xy_std (w is pos_w), and with bottom[2] of the
    distance / bi_xy_std and the colours' distance / bi_rgb_std (w is bi_w).

    bottom[0]: scores, N x C x H x W      bottom[1]: height and width of each picture, N x 1 x 1 x 2; where one is below the
    scores', both are the picture's part of them, and the rest of the top is 0
    bottom[2], if there is one: the pictures, N x 3 x H x W      top[0]: q, N x C x H x W
    No gradient: asked for, it is an error. The Gaussians are the permutohedral lattice's; the fork's fast exponential has
    five digits, this one all.
    Source: TheLegendAli/DeepLab-Context, src/caffe/layers/densecrf_layer.cpp; Kraehenbuehl and Koltun 2011.
    """

    category = "other"
    n_bottom = (2, 3)
    no_gradient = (1, 2)

    max_iter: int = 10
    pos: tuple[tuple[float, float], ...] = ()  # w, distance
    bi: tuple[tuple[float, float, float], ...] = ()  # w, distance, colour

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.dense_crf_param
        for name, others in (("pos_w", ("pos_xy_std",)), ("bi_w", ("bi_xy_std", "bi_rgb_std"))):
            for other in others:
                values = list(getattr(p, other))
                if len(values) != len(getattr(p, name)):
                    what, at = f"{name} and {other} must be as many", p.at(other) or p.at(name)
                    raise NetError(what, at=at, expected=len(getattr(p, name)), got=len(values))
                for i, value in enumerate(values):
                    if value <= 0:
                        raise NetError(f"{other} must be positive", at=p.at(other, i), got=f"{value:g}")
        if p.max_iter < 0:
            raise NetError("max_iter is negative", at=p.at("max_iter"), got=p.max_iter)
        bi = tuple(zip(p.bi_w, p.bi_xy_std, p.bi_rgb_std, strict=True))
        if len(bottoms) > 2 and not bi:
            raise NetError(
                "bi_w is missing", at="dense_crf_param", expected="bi_w, bi_xy_std and bi_rgb_std, for bottom 2"
            )
        return cls(p.max_iter, tuple(zip(p.pos_w, p.pos_xy_std, strict=True)), bi if len(bottoms) > 2 else ())

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, _, h, w = bottoms[0]
        if bottoms[1][:1] != (n,) or prod(bottoms[1][1:]) < SIZE:
            expected = f"{n} x 1 x 1 x 2: height and width of each picture"
            raise NetError("bottom 1 has the wrong shape", expected=expected, got=dims(bottoms[1]))
        if len(bottoms) > 2 and bottoms[2] != (n, 3, h, w):
            raise NetError("bottom 2 has the wrong shape", expected=dims((n, 3, h, w)), got=dims(bottoms[2]))
        return (bottoms[0],)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def brief(self) -> str:
        return f"{self.max_iter} times"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        scores = bottoms[0].detach().to(exact)
        top = torch.zeros_like(scores)
        sizes = bottoms[1].detach().reshape(len(scores), -1)[:, :SIZE].long().tolist()
        for i, real in enumerate(sizes):
            height, width = full = tuple(scores.shape[2:])
            if any(a < b for a, b in zip(real, full, strict=True)):
                height, width = (min(a, b) for a, b in zip(real, full, strict=True))
            if not height or not width:
                continue
            unary = scores[i, :, :height, :width].log_softmax(0).flatten(1)
            where = places(height, width, scores)
            kernels = [(w, Lattice.of(where / xy)) for w, xy in self.pos]
            if self.bi:
                picture = bottoms[2][i, :, :height, :width].detach().to(exact)
                kernels += [(w, Lattice.of(coloured(picture, xy, rgb))) for w, xy, rgb in self.bi]
            scaled = [(w * lattice.scale(), lattice) for w, lattice in kernels]
            q = unary.softmax(0)
            for _ in range(self.max_iter):
                total = unary
                for scale, lattice in scaled:
                    total = total + scale * lattice.filtered(q)
                q = total.softmax(0)
            top[i, :, :height, :width] = q.reshape(-1, height, width)
        return refuse_gradient(top.to(bottoms[0].dtype), bottoms[0], "DenseCRF has no gradient")
