"""Convolution."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shape, Shapes, dims
from ..text import Msg
from .base import ANY, BlobSpec, Layer, at_least, axis, layer, spatial

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Filtering(Layer):
    """What Convolution and Deconvolution share: a ConvolutionParameter, and bottoms with one bank of filters.

    Bottoms have one shape; axes before `axis` are batch, those behind it spatial. Blobs: weight, whose shape is
    `filters`, and bias num_output.
    Source: Caffe, src/caffe/layers/base_conv_layer.cpp.
    """

    n_bottom = (1, ANY)
    n_top = (1, ANY)
    counted = True
    ignored = frozenset({"engine", "force_nd_im2col"})

    num_output: int
    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape
    group: int = 1
    axis: int = 1
    bias_term: bool = True
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.convolution_param
        first = axis(p, "axis", len(bottoms[0]))
        rank = len(bottoms[0]) - first - 1
        if not 1 <= rank <= 3:
            got = f"{rank} (bottom {dims(bottoms[0])}, axis {first})"
            raise NetError("filters run over 1 to 3 spatial axes here", at=p.at("axis"), expected="1 to 3", got=got)
        if p.num_output < 1:
            raise NetError("num_output must be positive", at=p.at("num_output"), got=p.num_output)
        for name in ("channels", "num_output"):
            value = bottoms[0][first] if name == "channels" else p.num_output
            if p.group < 1 or value % p.group:
                what = "the input channels" if name == "channels" else "num_output"
                source = f", from a bottom of {dims(bottoms[0])}" if name == "channels" else ""
                raise NetError(
                    f"group must divide {what}",
                    at=p.at("group"),
                    expected=f"{name} % {p.group} == 0",
                    got=f"{value}{source}",
                )
        return cls(
            p.num_output,
            spatial(p, "kernel_size", rank, least=1),
            spatial(p, "stride", rank, 1, least=1),
            spatial(p, "pad", rank, 0),
            spatial(p, "dilation", rank, 1, least=1),
            p.group,
            first,
            p.bias_term,
            Filler.read(p.weight_filler),
            Filler.read(p.bias_filler),
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1 + len(self.kernel), bottoms)
        for shape in bottoms:
            if shape != bottoms[0]:
                raise NetError("all bottoms must have one shape", expected=dims(bottoms[0]), got=dims(shape))
        return tuple((*s[: self.axis], self.num_output, *self.sizes(s[self.axis + 1 :])) for s in bottoms)

    def sizes(self, image: Shape) -> Shape:
        """The spatial axes of a top. Raises: NetError when there is nothing left of them."""
        raise NotImplementedError(type(self))

    def filters(self, channels: int) -> Shape:
        """The shape of weight, over that many input channels."""
        raise NotImplementedError(type(self))

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        specs = {"weight": BlobSpec(self.filters(bottoms[0][self.axis]), self.weight_filler)}
        if self.bias_term:
            specs["bias"] = BlobSpec((self.num_output,), self.bias_filler)
        return specs

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        bias = m.bias if self.bias_term else None
        tops = []
        for x in bottoms:
            batch = x.shape[: self.axis]
            images = x.reshape(-1, *x.shape[self.axis :])
            y = self.filtered(images, m.weight, bias)
            tops.append(y.reshape(*batch, *y.shape[1:]))
        return tuple(tops)

    def filtered(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The filters run over a batch of images, N x C x spatial axes."""
        raise NotImplementedError(type(self))


@layer("Convolution")
@dataclass(frozen=True, slots=True)
class Convolution(Filtering):
    """Slide num_output learned filters over the spatial axes.

    bottom[i]: N x C x H x W      top[i]: N x num_output x H' x W'  (any number of spatial axes)
    H' = floor((H + 2 pad_h - dilation_h (kernel_h - 1) - 1) / stride_h) + 1; W' likewise.
    Axes before `axis` are batch; the bottoms share the filters and have one shape.
    blobs: weight num_output x C/group x KH x KW;  bias num_output (none when bias_term is false).
    MACs: N H' W' num_output (C/group) KH KW per bottom; bias not counted.
    Source: Caffe, src/caffe/layers/base_conv_layer.cpp, conv_layer.cpp.
    """

    def sizes(self, image: Shape) -> Shape:
        return window_counts(image, self.kernel, self.stride, self.pad, self.dilation)

    def filters(self, channels: int) -> Shape:
        return (self.num_output, channels // self.group, *self.kernel)

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        per_output = bottoms[0][self.axis] // self.group * prod(self.kernel)
        return sum(prod(top) for top in tops) * per_output

    def filtered(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        import torch.nn.functional as F

        conv = (F.conv1d, F.conv2d, F.conv3d)[len(self.kernel) - 1]
        return conv(images, weight, bias, self.stride, self.pad, self.dilation, self.group)


def window_counts(image: Shape, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape) -> Shape:
    """How many windows fit along each axis. Raises: NetError when the kernel does not fit."""
    counts = []
    for size, k, s, p, d in zip(image, kernel, stride, pad, dilation, strict=True):
        extent = d * (k - 1) + 1
        if extent > size + 2 * p:
            raise NetError(
                "the kernel is larger than the padded image",
                at="kernel_size",
                expected=f"at most {size + 2 * p} (image {size}, padding {p} on either side)",
                got=f"{extent}" + (f" (kernel {k}, dilation {d})" if d > 1 else ""),
            )
        counts.append((size + 2 * p - extent) // s + 1)
    return tuple(counts)
