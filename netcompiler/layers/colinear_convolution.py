"""ColinearConvolution."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import Window, Windows
from .base import BlobSpec, Layer, exactly, layer, not_empty, window_words
from .convolution import window_counts

if TYPE_CHECKING:
    from torch import Tensor


@layer("ColinearConvolution")
@dataclass(frozen=True, slots=True)
class ColinearConvolution(Layer):
    """Convolution with a quadratic form beside the linear one: y = p' Q p + W p + b for each patch p of D values.

    bottom: N x C x H x W      top: N x num_output x H' x W'
    H' = floor((H + 2 pad - kernel_size) / stride) + 1; W' likewise. D = C kernel_size^2.
    blobs: bias 1 x 1 x 1 x num_output;  weight num_output x C/group x KH x KW;  quadratic 1 x num_output x D x D. Each is
    1 x 1 x 1 x num_output, and unused, where its term is switched off.
    group is of the linear term alone.
    MACs: N H' W' num_output (C/group KH KW + D^2), of the terms that there are.
    Source: pl8787/exp_caffe, src/caffe/layers/colineconv_layer.cpp.
    """

    category = "convolution"
    counted = True

    num_output: int
    kernel_size: int
    stride: int = 1
    pad: int = 0
    group: int = 1
    quadratic_term: bool = True
    linear_term: bool = True
    bias_term: bool = True
    quadratic_filler: Filler = Filler()
    linear_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        exactly(4, bottoms)
        p = msg.colinear_convolution_param
        for name in ("num_output", "kernel_size", "stride", "group"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
        for name, value in (("the input channels", bottoms[0][1]), ("num_output", p.num_output)):
            if value % p.group:
                raise NetError(
                    f"group must divide {name}", at=p.at("group"), expected=f"a divisor of {value}", got=p.group
                )
        if not (p.quadratic_term or p.linear_term):
            raise NetError("no term is left", at=p.at("linear_term"), hint="keep linear_term or quadratic_term")
        sizes = p.num_output, p.kernel_size, p.stride, p.pad, p.group
        terms = p.quadratic_term, p.linear_term, p.bias_term
        fillers = (Filler.read(getattr(p, f"{n}_filler")) for n in ("quadratic_weight", "linear_weight", "bias"))
        return cls(*sizes, *terms, *fillers)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        not_empty(bottoms)
        return ((bottoms[0][0], self.num_output, *self.sizes(bottoms[0][2:])),)

    def sizes(self, image: Shape) -> Shape:
        """H' and W'."""
        sides = ((side,) * 2 for side in (self.kernel_size, self.stride, self.pad, 1))
        return window_counts(image, *sides)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        c, k, n = bottoms[0][1], self.kernel_size, self.num_output
        none, inputs = (1, 1, 1, n), c * k * k
        return {
            "bias": BlobSpec(none, self.bias_filler if self.bias_term else Filler()),
            "weight": BlobSpec((n, c // self.group, k, k), self.linear_filler) if self.linear_term else BlobSpec(none),
            "quadratic": BlobSpec((1, n, inputs, inputs), self.quadratic_filler)
            if self.quadratic_term
            else BlobSpec(none),
        }

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        inputs = bottoms[0][1] * self.kernel_size**2
        return prod(tops[0]) * (inputs // self.group * self.linear_term + inputs**2 * self.quadratic_term)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return (Window.sliding(self.kernel_size, self.stride, self.pad),) * 2

    def brief(self) -> str:
        kernel, stride, pad = ((side,) * 2 for side in (self.kernel_size, self.stride, self.pad))
        return ", ".join([*window_words(kernel, stride, pad, group=self.group), str(self.num_output)])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        x = bottoms[0]
        bias = m.bias.reshape(-1) if self.bias_term else None
        parts: list[Tensor] = []
        if self.linear_term:
            parts.append(F.conv2d(x, m.weight, bias, self.stride, self.pad, 1, self.group))
        if self.quadratic_term:
            patches = F.unfold(x, self.kernel_size, padding=self.pad, stride=self.stride)
            y = torch.einsum("nip,oij,njp->nop", patches, m.quadratic[0], patches)
            y = y.reshape(len(x), self.num_output, *self.sizes(tuple(x.shape[2:])))
            parts.append(y if bias is None or self.linear_term else y + bias[:, None, None])
        return sum(parts[1:], parts[0])
