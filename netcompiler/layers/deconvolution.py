"""Deconvolution."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ..errors import NetError
from ..graph import Shape, Shapes
from ..windows import Window
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

    def window(self, kernel: int, stride: int, pad: int, dilation: int) -> Window:
        return Window.spread(kernel, stride, pad, dilation)

    def filtered(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _deconvolve(images, weight, bias, self.stride, self.pad, self.dilation, self.group)


def _deconvolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Shape, pad: Shape, dilation: Shape, group: int
) -> Tensor:
    """PyTorch's transposed convolution for any number of spatial axes, where it has 1 to 3."""
    import torch.nn.functional as F

    if not stride:
        return F.conv_transpose1d(x.unsqueeze(2), weight.unsqueeze(2), bias, groups=group).squeeze(2)
    if len(stride) <= 3:
        conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(stride) - 1]
        return conv(x, weight, bias, stride, pad, 0, group, dilation)
    # The first spatial axis goes to the batch, for one row of the filters after the other.
    count, rows = x.shape[2], weight.unbind(2)
    size = stride[0] * (count - 1) + dilation[0] * (len(rows) - 1) + 1
    images = x.movedim(2, 1).flatten(0, 1)
    parts = [_deconvolve(images, row, None, stride[1:], pad[1:], dilation[1:], group) for row in rows]
    whole = x.new_zeros((len(x), parts[0].shape[1], size, *parts[0].shape[2:]))
    for i, y in enumerate(parts):
        start = i * dilation[0]
        reached = whole[:, :, start : start + stride[0] * (count - 1) + 1 : stride[0]]
        reached += y.reshape(-1, count, *y.shape[1:]).movedim(1, 2)
    top = whole.narrow(2, pad[0], size - 2 * pad[0])
    return top if bias is None else top + bias.reshape(-1, *(1,) * len(stride))
