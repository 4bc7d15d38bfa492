"""Convolution."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shape, Shapes, dims
from ..text import Msg
from ..windows import NOTHING, Window, Windows
from .base import ANY, BlobSpec, Layer, at_least, axis, layer, not_empty, spatial, window_words

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Filtering(Layer):
    """What Convolution and Deconvolution share: a ConvolutionParameter, and bottoms with one bank of filters.

    Bottoms have one shape; axes before `axis` are batch, those behind it spatial. Blobs: weight, whose shape is
    `filters`, and bias num_output.
    Source: Caffe, src/caffe/layers/base_conv_layer.cpp.
    """

    category = "convolution"
    n_bottom = (1, ANY)
    n_top = (1, ANY)
    counted = True
    ignored = frozenset(
        {
            *("engine", "force_nd_im2col", "cudnn_convolution_algo_seeker", "conv_algos_override", "conv_algorithm"),
            "cudnn_worspace_allow_on_groups",
        }
    )

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
        extras = cls.extras(p, len(bottoms))
        tops = 1 if extras.get("summed") else len(bottoms)
        if len(msg.top) != tops:
            at = msg.at("top", tops if len(msg.top) > tops else 0)
            raise NetError("the wrong number of tops", at=at, expected=f"{tops}, one per bottom", got=len(msg.top))
        first = axis(p, "axis", len(bottoms[0]))
        rank = len(bottoms[0]) - first - 1
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
            spatial(p, _dilation(p), rank, 1, least=1),
            p.group,
            first,
            p.bias_term,
            Filler.read(p.weight_filler),
            Filler.read(p.bias_filler),
            **extras,
        )

    @classmethod
    def extras(cls, p: Msg, n_bottoms: int) -> dict[str, Any]:
        """The settings that one of the two types has for itself."""
        return {}

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1 + len(self.kernel), bottoms)
        not_empty(bottoms, self.axis)
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
            images = x if self.axis == 1 else x.reshape(prod(batch), *x.shape[self.axis :])
            y = self.filtered(images, m.weight, bias)
            tops.append(y if self.axis == 1 else y.reshape(*batch, *y.shape[1:]))
        return tuple(tops)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        if bottom != top:
            return NOTHING
        sides = zip(self.kernel, self.stride, self.pad, self.dilation, strict=True)
        return tuple(self.window(*side) for side in sides) if self.axis == 1 else None

    def window(self, kernel: int, stride: int, pad: int, dilation: int) -> Window:
        """Along one spatial axis: which pixels of a bottom one pixel of its top is made of."""
        raise NotImplementedError(type(self))

    def brief(self) -> str:
        sides = window_words(self.kernel, self.stride, self.pad, self.dilation, self.group)
        return ", ".join([*filter(None, sides), str(self.num_output)])

    def filtered(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The filters run over a batch of images, N x C x spatial axes."""
        raise NotImplementedError(type(self))


@layer("Convolution")
@dataclass(frozen=True, slots=True)
class Convolution(Filtering):
    """Slide num_output learned filters over the spatial axes.

    bottom[i]: N x C x H x W      top[i]: N x num_output x H' x W'  (any number of spatial axes, also none)
    H' = floor((H + 2 pad_h - dilation_h (kernel_h - 1) - 1) / stride_h) + 1; W' likewise.
    Quirk: a kernel larger than the padded image by less than the stride has one window, with zeros behind the image.
    Axes before `axis` are batch; the bottoms share the filters and have one shape.
    blobs: weight num_output x C/group x KH x KW;  bias num_output (none when bias_term is false).
    MACs: N H' W' num_output (C/group) KH KW per bottom; bias not counted.
    hole (DeepLab's first version) and filter_stride (ParseNet) are dilation.
    Intel Caffe's fusions: with relu, y + (negative_slope - 1) min(y, 0) in place of y; with fusion_type SUM_FUSION and
    two bottoms, the second, which has the top's shape, is added to the one top, before the ReLU. Gradients are the true
    ones. (Intel Caffe leaves the ReLU's to a layer that follows.)
    Source: Caffe, src/caffe/layers/base_conv_layer.cpp, conv_layer.cpp; Intel Caffe, mkldnn_convolution_layer.cpp.
    """

    relu: bool = False
    negative_slope: float = 0.0
    summed: bool = False

    @classmethod
    def extras(cls, p: Msg, n_bottoms: int) -> dict[str, Any]:
        summed = p.enum("fusion_type") == "SUM_FUSION" and n_bottoms > 1
        if summed and n_bottoms > 2:
            what = "SUM_FUSION adds the second bottom to the first one's top"
            raise NetError(what, at=p.at("fusion_type"), expected="2 bottoms", got=n_bottoms)
        slope = p.negative_slope  # without relu it has no effect
        return {"relu": p.relu, "negative_slope": slope if p.relu else 0.0, "summed": summed}

    def tops(self, bottoms: Shapes) -> Shapes:
        if not self.summed:
            return Filtering.tops(self, bottoms)
        found = Filtering.tops(self, bottoms[:1])
        if bottoms[1] != found[0]:
            what = "the bottom that is added must have the top's shape"
            raise NetError(what, at="fusion_type", expected=dims(found[0]), got=dims(bottoms[1]))
        return found

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops = Filtering.forward(self, m, *bottoms[: 1 if self.summed else None])
        if self.summed:
            tops = (tops[0] + bottoms[1],)
        if not self.relu:
            return tops
        import torch.nn.functional as F

        return tuple(F.leaky_relu(y, self.negative_slope) if self.negative_slope else F.relu(y) for y in tops)

    def sizes(self, image: Shape) -> Shape:
        return window_counts(image, self.kernel, self.stride, self.pad, self.dilation)

    def filters(self, channels: int) -> Shape:
        return (self.num_output, channels // self.group, *self.kernel)

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        per_output = bottoms[0][self.axis] // self.group * prod(self.kernel)
        return sum(prod(top) for top in tops) * per_output

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        added = self.summed and bottom == 1
        return (Layer if added else Filtering).windows(self, bottoms, tops, bottom, top)

    def window(self, kernel: int, stride: int, pad: int, dilation: int) -> Window:
        return Window.sliding(kernel, stride, pad, dilation)

    def brief(self) -> str:
        fused = [word for word, on in (("sum", self.summed), ("relu", self.relu)) if on]
        return ", ".join([Filtering.brief(self), *fused])

    def filtered(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        images = grown(images, self.kernel, self.pad, self.dilation)
        return _convolve(images, weight, bias, self.stride, self.pad, self.dilation, self.group)


def _dilation(p: Msg) -> str:
    """The name of the field that tells the dilation: DeepLab's first version says hole, ParseNet filter_stride.

    Raises: NetError where two of them are given.
    """
    known = p.raw.DESCRIPTOR.fields_by_name
    sides = {name: (name, f"{name}_h", f"{name}_w") for name in ("dilation", "hole", "filter_stride")}
    given = [name for name, fields in sides.items() if any(f in known and p.has(f) for f in fields)]
    if len(given) > 1:
        at = p.at(next(f for f in sides[given[1]] if f in known and p.has(f)))
        raise NetError(f"{given[0]} and {given[1]} are both given", at=at, hint="keep one of the two")
    return given[0] if given else "dilation"


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Shape, pad: Shape, dilation: Shape, group: int
) -> Tensor:
    """PyTorch's convolution for any number of spatial axes, where it has 1 to 3."""
    import torch.nn.functional as F

    if not stride:
        return F.conv1d(x.unsqueeze(2), weight.unsqueeze(2), bias, groups=group).squeeze(2)
    if len(stride) <= 3:
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(stride) - 1]
        return conv(x, weight, bias, stride, pad, dilation, group)
    # The first spatial axis goes to the batch, for one row of the filters after the other.
    x = F.pad(x, (0, 0) * (len(stride) - 1) + (pad[0], pad[0]))
    count = (x.shape[2] - dilation[0] * (weight.shape[2] - 1) - 1) // stride[0] + 1
    parts = []
    for i, row in enumerate(weight.unbind(2)):
        start = i * dilation[0]
        seen = x[:, :, start : start + (count - 1) * stride[0] + 1 : stride[0]].movedim(2, 1).flatten(0, 1)
        parts.append(_convolve(seen, row, None if i else bias, stride[1:], pad[1:], dilation[1:], group))
    y = sum(parts[1:], parts[0])
    return y.reshape(-1, count, *y.shape[1:]).movedim(1, 2)


def grown(x: Tensor, kernel: Shape, pad: Shape, dilation: Shape) -> Tensor:
    """Images with the zeros behind them that a kernel reads which is larger than the padded image."""
    import torch.nn.functional as F

    sides = zip(kernel, x.shape[x.dim() - len(kernel) :], pad, dilation, strict=True)
    short = [max(d * (k - 1) + 1 - size - 2 * p, 0) for k, size, p, d in sides]
    return F.pad(x, [n for after in reversed(short) for n in (0, after)]) if any(short) else x


def window_counts(image: Shape, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape) -> Shape:
    """How many windows fit along each axis, one where the kernel is larger by less than a stride: Caffe divides towards 0.

    Raises: NetError when none fits.
    """
    counts = []
    for size, k, s, p, d in zip(image, kernel, stride, pad, dilation, strict=True):
        extent = d * (k - 1) + 1
        if extent - size - 2 * p >= s:
            raise NetError(
                "the kernel is larger than the padded image",
                at="kernel_size",
                expected=f"at most {size + 2 * p} (image {size}, padding {p} on either side)",
                got=f"{extent}" + (f" (kernel {k}, dilation {d})" if d > 1 else ""),
            )
        counts.append(max(size + 2 * p - extent, 0) // s + 1)
    return tuple(counts)
