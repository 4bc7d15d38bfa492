"""NdPooling and Pooling3D."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import Window, Windows
from .base import Layer, exactly, layer, not_empty, window_words
from .nd_convolution import VOLUME, _shapes, _volume

if TYPE_CHECKING:
    from torch import Tensor

MOST = 3  # spatial axes that PyTorch pools


@dataclass(frozen=True, slots=True)
class VolumePooling(Layer):
    """What the two share: windows over all axes behind the channels."""

    category = "pooling"
    ceil = False

    pool: str
    kernel: Shape
    stride: Shape
    pad: Shape

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(2 + len(self.kernel), bottoms)
        not_empty(bottoms)
        return ((*bottoms[0][:2], *self.counts(bottoms[0][2:])),)

    def counts(self, image: Shape) -> Shape:
        """How many windows there are along each axis. Raises: NetError where none fits."""
        found = []
        for size, k, s, p in zip(image, self.kernel, self.stride, self.pad, strict=True):
            space = size + 2 * p - k
            count = (-(-space // s) if self.ceil else space // s) + 1
            if not self.ceil and p and (count - 1) * s >= size + p:
                count -= 1
            if count < 1:
                expected = f"at most {size + 2 * p} (image {size}, padding {p} on either side)"
                raise NetError("the kernel is larger than the padded image", expected=expected, got=k)
            if self.ceil and (count - 1) * s >= size + p:
                expected = f"at most {size + p - 1}, as the image ends there"
                raise NetError("the last window lies outside the image", expected=expected, got=(count - 1) * s)
            found.append(count)
        return tuple(found)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return tuple(map(Window.sliding, self.kernel, self.stride, self.pad))

    def brief(self) -> str:
        return ", ".join([self.pool, *window_words(self.kernel, self.stride, self.pad)])

    def pooled(self, x: Tensor) -> Tensor:
        """The windows' largest values, or their means."""
        import torch
        import torch.nn.functional as F

        counts, rank = self.counts(tuple(x.shape[2:])), len(self.kernel)
        sides: list[int] = []
        for axis in reversed(range(rank)):
            size, k, s, p = x.shape[2 + axis], self.kernel[axis], self.stride[axis], self.pad[axis]
            sides += [p, max((counts[axis] - 1) * s + k - size - p, 0)]
        if self.pool == "MAX":
            run: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
            top: Tensor = run(F.pad(x, sides, value=-torch.inf), self.kernel, self.stride)
            return self.cut(top, counts)
        run = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
        exact = x.to(torch.promote_types(x.dtype, torch.float32))  # torch has no mean of bfloat16 volumes
        whole = self.cut(run(F.pad(exact, sides), self.kernel, self.stride), counts) * prod(self.kernel)
        return (whole / self.extents(exact, counts)).to(x.dtype)

    def cut(self, top: Tensor, counts: Shape) -> Tensor:
        """Without windows past the last."""
        for axis, count in enumerate(counts, 2):
            top = top.narrow(axis, 0, count)
        return top

    def extents(self, x: Tensor, counts: Shape) -> Tensor:
        """The sizes of the windows inside the padded image, that AVE divides by."""
        import torch

        product = x.new_ones(())
        for axis, count in enumerate(counts):
            size, k, s, p = x.shape[2 + axis], self.kernel[axis], self.stride[axis], self.pad[axis]
            start = torch.arange(count, device=x.device) * s - p
            lengths = ((start + k).clamp(max=size + p) - start).to(x.dtype)
            product = product[..., None] * lengths
        return product


@layer("Pooling3D")
@dataclass(frozen=True, slots=True)
class Pooling3D(VolumePooling):
    """The largest value, or the mean, of each window of a volume.

    bottom: N x C x L x H x W      top: N x C x L' x H' x W'
    kernel_depth and temporal_stride are for L; kernel_size, stride and pad for H and W.
    L' = ceil((L - kernel_depth) / temporal_stride) + 1; H' = ceil((H + 2 pad - kernel_size) / stride) + 1; W' likewise.
    AVE divides by the window inside the PADDED image. MAX takes no padding; the first of equal values takes the gradient (in
    the fork all of them).
    The fields are in pooling_param (C3D 1.0) or in pooling3d_param (C3D 1.1).
    Source: facebookarchive/C3D, src/caffe/layers/pool3d_layer.cpp.
    """

    ceil = True

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        exactly(VOLUME, bottoms)
        newer = msg.has("pooling3d_param")
        if newer and msg.has("pooling_param"):
            what, at = "pooling_param and pooling3d_param are both given", msg.at("pooling3d_param")
            raise NetError(what, at=at, hint="keep one of the two")
        p = msg.pooling3d_param if newer else msg.pooling_param
        pool, found = p.enum("pool"), _volume(p)
        if pool == "STOCHASTIC":
            raise NetError("Pooling3D has no STOCHASTIC", at=p.at("pool"), expected="MAX or AVE", got=pool)
        if pool == "MAX" and any(found["pad"]):
            raise NetError("MAX takes no padding", at=p.at("pad"), expected="pad 0")
        return cls(pool, found["kernel"], found["stride"], found["pad"])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return self.pooled(bottoms[0])


@layer("NdPooling")
@dataclass(frozen=True, slots=True)
class NdPooling(VolumePooling):
    """The largest value, or the mean, of each window, over as many spatial axes as kernel_shape has (3 at most).

    bottom: N x C x spatial axes      top: N x C x spatial axes
    Sizes are floor((size + 2 pad - kernel) / stride) + 1, less a last window that begins at or beyond size + pad. Quirk:
    axes that come out as 1 are left out of the top. AVE divides by the whole window. global_pooling: the window is the
    whole image.
    Source: chuckcho/video-caffe, src/caffe/layers/cudnn_ndpooling_layer.cpp.
    """

    global_pooling: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.pooling_param
        pool, whole = p.enum("pool"), p.global_pooling
        if pool == "STOCHASTIC":
            raise NetError("NdPooling has no STOCHASTIC", at=p.at("pool"), expected="MAX or AVE", got=pool)
        found = _shapes(p)
        if len(found["kernel"]) > MOST:
            expected, got = f"at most {MOST} spatial axes", len(found["kernel"])
            raise NetError("kernel_shape has too many dims", at=p.at("kernel_shape"), expected=expected, got=got)
        if whole:
            if any(found["pad"]) or set(found["stride"]) != {1}:
                at = p.at("pad_shape" if any(found["pad"]) else "stride_shape")
                raise NetError("global_pooling takes no stride and no padding", at=at)
            return cls(pool, (1,) * len(found["kernel"]), found["stride"], found["pad"], True)
        return cls(pool, found["kernel"], found["stride"], found["pad"])

    def tops(self, bottoms: Shapes) -> Shapes:
        if self.global_pooling:
            exactly(2 + len(self.kernel), bottoms)
            not_empty(bottoms)
            return (bottoms[0][:2],)
        (top,) = super(NdPooling, self).tops(bottoms)
        return ((*top[:2], *(size for size in top[2:] if size > 1)),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        kept = not self.global_pooling and len(tops[0]) == len(bottoms[0])
        return super(NdPooling, self).windows(bottoms, tops, bottom, top) if kept else None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        if self.global_pooling:
            return x.flatten(2).amax(2) if self.pool == "MAX" else x.flatten(2).mean(2)
        y = self.pooled(x)
        return y.reshape(*y.shape[:2], *(size for size in y.shape[2:] if size > 1))

    def extents(self, x: Tensor, counts: Shape) -> Tensor:
        return x.new_tensor(float(prod(self.kernel)))
