"""Im2col."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes, dims
from ..text import Msg
from ..windows import Window, Windows
from .base import Layer, at_least, axis, layer, spatial
from .convolution import grown, window_counts

if TYPE_CHECKING:
    from torch import Tensor


@layer("Im2col")
@dataclass(frozen=True, slots=True)
class Im2col(Layer):
    """The window below each place of a convolution, laid out along the channels.

    bottom: N x C x H x W      top: N x (C KH KW) x H' x W'  (any number of spatial axes; H', W' as in Convolution)
    Outside the image there are zeros. The filters' settings in convolution_param have no effect.
    Source: Caffe, src/caffe/layers/im2col_layer.cpp.
    """

    category = "shape"
    ignored = frozenset(
        {"engine", "force_nd_im2col", "num_output", "group", "bias_term", "weight_filler", "bias_filler"}
    )

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape
    axis: int = 1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.convolution_param
        first = axis(p, "axis", len(bottoms[0]))
        rank = len(bottoms[0]) - first - 1
        if rank < 1:
            got = f"bottom {dims(bottoms[0])}, axis {first}"
            raise NetError("there is no spatial axis", at=p.at("axis"), expected="axes behind the channels", got=got)
        return cls(
            spatial(p, "kernel_size", rank, least=1),
            spatial(p, "stride", rank, 1, least=1),
            spatial(p, "pad", rank, 0),
            spatial(p, "dilation", rank, 1, least=1),
            first,
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1 + len(self.kernel), bottoms)
        shape = bottoms[0]
        counts = window_counts(shape[self.axis + 1 :], self.kernel, self.stride, self.pad, self.dilation)
        return ((*shape[: self.axis], shape[self.axis] * prod(self.kernel), *counts),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        sides = zip(self.kernel, self.stride, self.pad, self.dilation, strict=True)
        return tuple(Window.sliding(*side) for side in sides) if self.axis == 1 else None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        x, rank = bottoms[0], len(self.kernel)
        counts = window_counts(tuple(x.shape[self.axis + 1 :]), self.kernel, self.stride, self.pad, self.dilation)
        x = grown(x, self.kernel, self.pad, self.dilation)
        x = F.pad(x, [p for pad in reversed(self.pad) for p in (pad, pad)])
        for i, (k, s, d) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True)):
            # One spatial axis becomes two: the place in the window, the window. The axes before it have already.
            along = self.axis + 1 + 2 * i
            reach = torch.arange(k, device=x.device)[:, None] * d + torch.arange(counts[i], device=x.device) * s
            x = x.index_select(along, reach.flatten()).reshape(*x.shape[:along], k, counts[i], *x.shape[along + 1 :])
        first = self.axis + 1
        places, windows = (range(first + i, first + 2 * rank, 2) for i in (0, 1))
        x = x.permute(*range(first), *places, *windows)
        return x.flatten(self.axis, self.axis + rank)
