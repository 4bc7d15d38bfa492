"""Correlation1D."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from ..windows import Windows
from .base import MAX_COUNT, Layer, exactly, layer, same_shapes

if TYPE_CHECKING:
    from torch import Tensor


@layer("Correlation1D")
@dataclass(frozen=True, slots=True)
class Correlation1D(Layer):
    """Compare patches of one image with those of another that are moved along the rows, as stereo matching wants.

    bottom[0], bottom[1]: N x C x H x W      top[0]: N x D x H' x W'
    top[d, y, x] = mean over the channels and a window of kernel_size x kernel_size of a b, with b from o_d pixels to the
    right; for SUBTRACT of |a - b|. The window's corner lies at (y stride_1, max_displacement + x stride_1) of the images
    with `pad` columns of 0 on either side. o_d = (d - r) stride_2 with r = max_displacement / stride_2 rounded down, and
    D = 2r + 1; with single_direction 1 o_d = d stride_2, and with -1 o_d = (d - r - 1) stride_2, D = r + 1.
    H' = ceil((H - kernel_size + 1) / stride_1),  W' = ceil((W + 2 pad - 2 max_displacement - kernel_size + 1) / stride_1).
    Columns that o_d reaches outside the padded image are 0. do_abs has no effect. MACs: N D H' W' C kernel_size^2.
    Source: lmb-freiburg/flownet2, src/caffe/layers/correlation_layer1d.cpp, correlation_layer1d.cu. (Its gradient for
    SUBTRACT reads both images at one place; here it is the true one.)
    """

    category = "combine"
    n_bottom = (2, 2)
    ignored = frozenset({"do_abs"})

    kernel_size: int
    max_displacement: int
    pad: int = 0
    stride_1: int = 1
    stride_2: int = 1
    single_direction: int = 0
    correlation_type: str = "MULTIPLY"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.correlation_param
        for name in ("kernel_size", "max_displacement"):
            if not p.has(name):
                raise NetError(f"{name} is missing", at=p.at())
        if p.kernel_size % 2 == 0:
            raise NetError("kernel_size must be odd", at=p.at("kernel_size"), got=p.kernel_size)
        for name in ("stride_1", "stride_2"):
            if not 1 <= getattr(p, name) <= MAX_COUNT:
                expected, got = f"1 to {MAX_COUNT}", getattr(p, name)
                raise NetError(f"{name} is out of range", at=p.at(name), expected=expected, got=got)
        if p.single_direction not in (-1, 0, 1):
            at, got = p.at("single_direction"), p.single_direction
            raise NetError("single_direction is out of range", at=at, expected="-1, 0 or 1", got=got)
        sizes = p.kernel_size, p.max_displacement, p.pad, p.stride_1, p.stride_2
        return cls(*sizes, p.single_direction, p.enum("correlation_type"))

    def offsets(self) -> range:
        """The o_d."""
        r, s = self.max_displacement // self.stride_2, self.stride_2
        first, count = {0: (-r, 2 * r + 1), 1: (0, r + 1), -1: (-r - 1, r + 1)}[self.single_direction]
        return range(first * s, (first + count) * s, s)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        same_shapes(bottoms)
        n, _, h, w = bottoms[0]
        spaces = h - self.kernel_size + 1, w + 2 * (self.pad - self.max_displacement) - self.kernel_size + 1
        if min(spaces) < 1:
            what = "the kernel and the displacements do not fit the image"
            raise NetError(what, at="max_displacement" if spaces[1] < 1 else "kernel_size", got=f"{h}x{w}")
        return ((n, len(self.offsets()), *(-(-space // self.stride_1) for space in spaces)),)

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0]) * bottoms[0][1] * self.kernel_size**2

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        reach = self.max_displacement + self.stride_2  # single_direction -1 goes one further
        a = F.pad(bottoms[0], (self.pad, self.pad))
        a = a[..., self.max_displacement : a.shape[3] - self.max_displacement]
        b = F.pad(bottoms[1], (self.pad + reach, self.pad + reach))
        start, width = reach + self.max_displacement, a.shape[3]
        planes = []
        for offset in self.offsets():
            other = b[..., start + offset : start + offset + width]
            planes.append((a * other if self.correlation_type == "MULTIPLY" else (a - other).abs()).mean(1))
        return F.avg_pool2d(torch.stack(planes, 1), self.kernel_size, self.stride_1)
