"""SpatialTransformer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, exactly, layer

if TYPE_CHECKING:
    from torch import Tensor

ENTRIES = 6  # of theta


@layer("SpatialTransformer")
@dataclass(frozen=True, slots=True)
class SpatialTransformer(Layer):
    """Sample an image along an affine grid: top[h, w] is the bottom at the row x and the column y, linear in between.

    bottom[0]: N x C x H x W      bottom[1]: theta, N x 6      top[0]: N x C x output_H x output_W (H and W where not given)
    (p, q) = theta (h 2 / output_H - 1, w 2 / output_W - 1, 1), theta being 2 x 3 with the row of the rows first;
    x = (p + 1) H / 2, y = (q + 1) W / 2. Pixels outside the image are 0.
    theta_1_1 to theta_2_3: fixed entries, which bottom[1] then does not have. to_compute_dU false: bottom[0] gets no gradient.
    Quirk: at whole x and y the gradient is that towards the pixel before.
    Source: daerduoCarey/SpatialTransformerLayer, src/caffe/layers/st_layer.cpp, st_layer.cu; Jaderberg et al. 2015.
    """

    category = "shape"
    n_bottom = (2, 2)

    output_H: int | None = None  # noqa: N815
    output_W: int | None = None  # noqa: N815
    theta: tuple[float | None, ...] = (None,) * ENTRIES
    to_compute_dU: bool = True  # noqa: N815

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.st_param
        for name, only in (("transform_type", "affine"), ("sampler_type", "bilinear")):
            if getattr(p, name) != only:
                raise NetError(f"unknown {name}", at=p.at(name), expected=only, got=getattr(p, name))
        sizes = [getattr(p, n) if p.has(n) else None for n in ("output_H", "output_W")]
        for name, size in zip(("output_H", "output_W"), sizes, strict=True):
            if size is not None and size < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=size)
        names = [f"theta_{i}_{j}" for i in (1, 2) for j in (1, 2, 3)]
        return cls(sizes[0], sizes[1], tuple(getattr(p, n) if p.has(n) else None for n in names), p.to_compute_dU)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        at_least(1, bottoms, 1)
        (n, c, h, w), theta = bottoms
        free = self.theta.count(None)
        if theta[0] != n or prod(theta[1:]) != free:
            fixed = f", as {ENTRIES - free} of {ENTRIES} are fixed" if free < ENTRIES else ""
            raise NetError("theta has the wrong shape", expected=f"{n}x{free}{fixed}", got=dims(theta))
        return ((n, c, self.output_H or h, self.output_W or w),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def settings(self) -> dict[str, str]:
        shown = {k: v for k, v in Layer.settings(self).items() if k != "theta"}
        fixed = ((i, value) for i, value in enumerate(self.theta) if value is not None)
        return shown | {f"theta_{i // 3 + 1}_{i % 3 + 1}": f"{value:g}" for i, value in fixed}

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        image, given = bottoms
        n, c, h, w = image.shape
        exact = torch.promote_types(image.dtype, torch.float32)
        free = iter(given.reshape(n, -1).to(exact).unbind(1))
        entries = [next(free) if v is None else given.new_full((n,), v, dtype=exact) for v in self.theta]
        size = self.output_H or h, self.output_W or w
        rows, columns = (torch.arange(s, device=image.device, dtype=exact) / s * 2 - 1 for s in size)
        rows, columns = rows[:, None], columns[None]
        a, b, c_, d, e, f = (entry[:, None, None] for entry in entries)
        x = (a * rows + b * columns + c_ + 1) / 2 * h
        y = (d * rows + e * columns + f + 1) / 2 * w
        flat = (image if self.to_compute_dU else image.detach()).to(exact).flatten(2)
        top = flat.new_zeros((n, c, *size))
        for i in (0, 1):
            row = x.detach().floor() + i
            for j in (0, 1):
                column = y.detach().floor() + j
                inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
                place = torch.where(inside, row * w + column, 0).long().reshape(n, 1, -1).expand(n, c, -1)
                weight = _nearness(x - row) * _nearness(y - column) * inside
                top = top + flat.gather(2, place).reshape(n, c, *size) * weight[:, None]
        return top.to(image.dtype)


def _nearness(distance: Tensor) -> Tensor:
    """max(0, 1 - |d|), whose gradient at 0 is 1."""
    import torch

    near = torch.where(distance > 0, 1 - distance, 1 + distance)
    return torch.where(distance.abs() < 1, near, 0)
