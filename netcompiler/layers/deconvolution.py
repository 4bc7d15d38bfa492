"""Deconvolution."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ..errors import NetError
from ..graph import Shape, Shapes
from .base import layer
from .convolution import Filtering

if TYPE_CHECKING:
    from torch import Tensor


@layer("Deconvolution")
@dataclass(frozen=True, slots=True)
class Deconvolution(Filtering):
    """Convolution the other way round: each input value adds its multiple of a filter to the top.

    bottom[i]: N x C x H x W      top[i]: N x num_output x H' x W'  (any number of spatial axes)
    H' = stride_h (H - 1) + dilation_h (kernel_h - 1) + 1 - 2 pad_h; W' likewise.
    Axes before `axis` are batch; the bottoms share the filters and have one shape.
    blobs: weight C x num_output/group x KH x KW;  bias num_output (none when bias_term is false).
    MACs: N H W C (num_output/group) KH KW per bottom; bias not counted.
    Source: Caffe, src/caffe/layers/base_conv_layer.cpp, deconv_layer.cpp.
    """

    def sizes(self, image: Shape) -> Shape:
        found = []
        for size, k, s, p, d in zip(image, self.kernel, self.stride, self.pad, self.dilation, strict=True):
            whole = s * (size - 1) + d * (k - 1) + 1
            if whole <= 2 * p:
                raise NetError("the padding cuts everything off", at="pad", expected=f"below {(whole + 1) // 2}", got=p)
            found.append(whole - 2 * p)
        return tuple(found)

    def filters(self, channels: int) -> Shape:
        return (channels, self.num_output // self.group, *self.kernel)

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return sum(prod(shape) for shape in bottoms) * (self.num_output // self.group) * prod(self.kernel)

    def filtered(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        import torch.nn.functional as F

        conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(self.kernel) - 1]
        return conv(images, weight, bias, self.stride, self.pad, 0, self.group, self.dilation)
