"""Padding and BiasChannel, of DeepLab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes, dims
from ..text import Msg
from ..windows import Window, Windows
from .base import Layer, exactly, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Padding")
@dataclass(frozen=True, slots=True)
class Padding(Layer):
    """Put pad_beg rows and columns of 0 before an image and pad_end behind it, or take off as many where they are negative.

    bottom[0]: N x C x H x W      top[0]: N x C x (H + pad_beg + pad_end) x (W + pad_beg + pad_end)
    Source: TheLegendAli/DeepLab-Context, src/caffe/layers/padding_layer.cpp.
    """

    category = "shape"

    pad_beg: int = 0
    pad_end: int = 0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.padding_param
        if p.pad_beg * p.pad_end < 0:
            got = f"{p.pad_beg} and {p.pad_end}"
            raise NetError("pad_beg and pad_end must have one sign", at=p.at("pad_end"), got=got)
        return cls(p.pad_beg, p.pad_end)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        image = tuple(size + self.pad_beg + self.pad_end for size in bottoms[0][2:])
        if min(image) < 1:
            got = f"{self.pad_beg} and {self.pad_end}, of {dims(bottoms[0])}"
            raise NetError("nothing is left of the image", at="pad_beg" if self.pad_beg else "pad_end", got=got)
        return ((*bottoms[0][:2], *image),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return (Window.sliding(1, 1, self.pad_beg),) * 2

    def is_identity(self) -> bool:
        return not (self.pad_beg or self.pad_end)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.pad(bottoms[0], (self.pad_beg, self.pad_end) * 2)


@layer("BiasChannel")
@dataclass(frozen=True, slots=True)
class BiasChannel(Layer):
    """Add bg_bias to the scores of class 0, and fg_bias to those of each class that an item is labelled with.

    bottom[0]: N x C x H x W      bottom[1]: labels N x L, 1 to C - 1; those in ignore_label add nothing
    top[0]: N x C x H x W
    Source: TheLegendAli/DeepLab-Context, src/caffe/layers/bias_channel_layer.cpp.
    """

    category = "combine"
    n_bottom = (2, 2)
    no_gradient = (1,)

    bg_bias: float = 1.0
    fg_bias: float = 2.0
    ignore_label: Shape = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.bias_channel_param
        if not 0 < p.bg_bias < p.fg_bias:
            got = f"{p.bg_bias:g} and {p.fg_bias:g}"
            raise NetError("the biases are out of order", at=p.at("fg_bias"), expected="0 < bg_bias < fg_bias", got=got)
        return cls(p.bg_bias, p.fg_bias, tuple(p.ignore_label))

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        x, labels = bottoms
        if len(labels) < 2 or labels[0] != x[0] or not labels[1] or set(labels[2:]) - {1}:
            raise NetError("bottom 1 has the wrong shape", expected=f"{x[0]} x labels", got=dims(labels))
        return (x,)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        from .base import whole_numbers

        x = bottoms[0]
        n, c = x.shape[:2]
        labels = bottoms[1].detach().reshape(n, -1)
        kept = torch.ones_like(labels, dtype=torch.bool)
        for label in self.ignore_label:
            kept = kept & (labels.long() != label)
        numbers, _ = whole_numbers(torch.where(kept, labels - 1, 0), c - 1)
        bias = x.new_zeros((n, c)).scatter_add(1, numbers + 1, kept.to(x.dtype) * self.fg_bias)
        bias[:, 0] += self.bg_bias
        return x + bias[:, :, None, None]
