"""MultiStageMeanfield."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError
from ..fillers import Filler
from ..graph import Array, Shape, Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, exactly, layer, refuse_gradient
from .permutohedral import Lattice, coloured, places

if TYPE_CHECKING:
    from torch import Tensor

COLOURS = 3


@dataclass(frozen=True, slots=True)
class Diagonal(Filler):
    """A square matrix with these values on its diagonal, one for all or one for each row, and 0 elsewhere."""

    start: tuple[float, ...] = ()

    def fill(self, shape: Shape, rng: np.random.Generator) -> Array:
        return np.broadcast_to(np.diag(np.broadcast_to(self.start, shape[-1:])), shape).astype(np.float32)


@layer("MultiStageMeanfield")
@dataclass(frozen=True, slots=True)
class MultiStageMeanfield(Layer):
    """CRF-RNN: mean-field inference in a random field over the pixels, num_iterations times
        q = unary - compatibility (spatial S(p) + bilateral B(p)),  p the softmax of q over the channels.
    S and B are means over all pixels with Gaussian weights: S of the distance / theta_gamma, B of the distance / theta_alpha
    and the colours' distance / theta_beta.

    bottom[0]: unary, N x C x H x W      bottom[1]: q at first, the same      bottom[2]: the picture, N x 3 x H x W
    top[0]: q, N x C x H x W
    blobs: spatial, bilateral and compatibility, 1 x 1 x C x C; at first diagonal: spatial_filter_weights_str (one number, or
    one for each class) or spatial_filter_weight, likewise the bilateral ones, and -1. The picture has no gradient.
    The Gaussians are the permutohedral lattice's. compatibility_mode LEARNT is refused; threshold has no effect.
    MACs: 3 num_iterations N C C H W; the filters not counted.
    Source: torrvision/caffe, src/caffe/layers/multi_stage_meanfield.cpp, meanfield_iteration.cpp; Zheng et al. 2015.
    """

    category = "other"
    n_bottom = (3, 3)
    no_gradient = (2,)
    counted = True
    ignored = frozenset({"engine", "threshold"})

    num_iterations: int = 10
    theta_alpha: float = 80
    theta_beta: float = 13
    theta_gamma: float = 3
    spatial: Filler = Filler()
    bilateral: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.multi_stage_meanfield_param
        if p.num_iterations < 2:
            raise NetError("num_iterations must be above 1", at=p.at("num_iterations"), got=p.num_iterations)
        if p.enum("compatibility_mode") != "POTTS":
            what, at = "this compatibility_mode is not supported", p.at("compatibility_mode")
            raise NetError(what, at=at, expected="POTTS", got=p.enum("compatibility_mode"))
        thetas = [p.theta_alpha, p.theta_beta, p.theta_gamma]
        for name, value in zip(("theta_alpha", "theta_beta", "theta_gamma"), thetas, strict=True):
            if value <= 0:
                raise NetError(f"{name} must be positive", at=p.at(name), got=f"{value:g}")
        classes = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        return cls(p.num_iterations, *thetas, *(_weights(p, name, classes) for name in ("spatial", "bilateral")))

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, c, h, w = bottoms[0]
        for i, wanted in ((1, (n, c, h, w)), (2, (n, COLOURS, h, w))):
            if bottoms[i] != wanted:
                raise NetError(f"bottom {i} has the wrong shape", expected=dims(wanted), got=dims(bottoms[i]))
        return (bottoms[0],)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        shape = (1, 1, bottoms[0][1], bottoms[0][1])
        fillers = {"spatial": self.spatial, "bilateral": self.bilateral, "compatibility": Diagonal(start=(-1.0,))}
        return {name: BlobSpec(shape, filler) for name, filler in fillers.items()}

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        n, c, h, w = tops[0]
        return 3 * self.num_iterations * n * c * c * h * w

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def brief(self) -> str:
        return f"{self.num_iterations} times"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        unary, start, image = (b.to(exact) for b in bottoms)
        h, w = unary.shape[2:]
        spatial, bilateral, compatibility = (b[0, 0].to(exact) for b in (m.spatial, m.bilateral, m.compatibility))
        near = Lattice.of(places(h, w, unary) / self.theta_gamma)
        tops = []
        for terms, q, picture in zip(unary.flatten(2), start.flatten(2), image.detach(), strict=True):
            alike = Lattice.of(coloured(picture, self.theta_alpha, self.theta_beta))
            scales = near.scale(), alike.scale()
            for _ in range(self.num_iterations):
                p = q.softmax(0)
                message = spatial @ (near.filtered(p) * scales[0]) + bilateral @ (alike.filtered(p) * scales[1])
                q = terms - compatibility @ message
            tops.append(q)
        top = torch.stack(tops).reshape(unary.shape).to(bottoms[0].dtype)
        return refuse_gradient(top, bottoms[2], "MultiStageMeanfield passes no gradient to the picture")


def _weights(p: Msg, name: str, classes: int) -> Filler:
    """How the matrix of one of the filters starts. Raises: NetError for a text that is no list of one or C numbers."""
    text = f"{name}_filter_weights_str"
    if not p.has(text):
        return Diagonal(start=(float(getattr(p, f"{name}_filter_weight")),))
    p.has(f"{name}_filter_weight")  # looked at, and without effect beside the text
    try:
        values = tuple(map(float, str(getattr(p, text)).split()))
    except ValueError:
        values = ()
    if len(values) not in (1, classes):
        got = repr(str(getattr(p, text)))[:60]
        raise NetError(f"{text} cannot be read", at=p.at(text), expected=f"1 or {classes} numbers", got=got)
    return Diagonal(start=values)
