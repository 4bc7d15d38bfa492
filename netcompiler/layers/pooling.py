"""Pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import Window, Windows
from .base import Layer, exactly, layer, not_empty, spatial, window_words

if TYPE_CHECKING:
    from torch import Tensor


@layer("Pooling")
@dataclass(frozen=True, slots=True)
class Pooling(Layer):
    """The largest value, the mean, or a value drawn at random, of each window.

    bottom: N x C x H x W      top[0], and for MAX top[1]: N x C x H' x W'
    H' = ceil((H + 2 pad_h - kernel_h) / stride_h) + 1, floor for round_mode FLOOR; W' likewise. With any padding, a last
    window that would start at or beyond H + pad_h is dropped. global_pooling: the window is the whole image.
    MAX: of the window inside the image; the first of equal values takes the gradient. top[1] is its place, row W + column.
    AVE: the sum divided by the size of the window inside the PADDED image (inside the image: avg_include_pad false).
    STOCHASTIC: in TRAIN x_i with probability x_i / sum x, which alone takes the gradient; in TEST sum x^2 / sum x, 0 where
    the sum is not positive. Meant for x >= 0. Caffe has it on the GPU only, where TEST has no gradient of its own; here it
    is the true one.
    Quirk: without padding and with stride > kernel a window can lie wholly outside the image. Its top is Caffe's, -FLT_MAX
    with place -1 for MAX and 0 / 0 or -0 for AVE; Caffe's CPU then writes its gradient out of bounds, here there is none.
    Fork fields: torch_pooling (NVCaffe) and ceil_mode false (OpenVINO, Cascade R-CNN) are round_mode FLOOR; bin_size 1
    (ParseNet) is global_pooling; avg_include_pad (Intel Caffe); dilation (greentea), of MAX: kernel counts d (kernel - 1) + 1,
    of which every d-th is read.
    Source: Caffe, src/caffe/layers/pooling_layer.cpp, pooling_layer.cu.
    """

    category = "pooling"
    n_top = (1, 2)

    pool: str = "MAX"
    kernel: Shape = ()
    stride: Shape = (1, 1)
    pad: Shape = (0, 0)
    global_pooling: bool = False
    round_mode: str = "CEIL"
    avg_include_pad: bool = True
    mask: bool = False
    train: bool = False
    dilation: Shape = (1, 1)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.pooling_param
        pool, whole = p.enum("pool"), p.global_pooling or p.bin_size == 1
        if p.bin_size > 1:
            what = "several bins an axis are not supported here"
            raise NetError(what, at=p.at("bin_size"), expected="bin_size: 1, the whole image", got=p.bin_size)
        if whole:
            for name in ("kernel_size", "kernel_h", "kernel_w"):
                if p.has(name):
                    what = f"{name} has no meaning with {'global_pooling' if p.global_pooling else 'bin_size'}"
                    raise NetError(what, at=p.at(name), hint="remove it: the window is the whole image")
        if len(msg.top) > 1 and pool != "MAX":
            raise NetError("only MAX pooling has a second top", at=msg.at("top", 1), expected=1, got=len(msg.top))
        found = cls(
            pool,
            () if whole else spatial(p, "kernel_size", 2, least=1),
            spatial(p, "stride", 2, 1, least=1),
            spatial(p, "pad", 2, 0),
            whole,
            "FLOOR" if not p.ceil_mode or p.torch_pooling else p.enum("round_mode"),
            p.avg_include_pad or pool != "AVE",
            len(msg.top) > 1,
            msg.enum("phase") == "TRAIN" and pool == "STOCHASTIC",
            spatial(p, "dilation", 2, 1, least=1),
        )
        if found.dilation != (1, 1) and (pool != "MAX" or whole):
            what = "global_pooling takes no dilation" if whole else f"{pool} pooling takes no dilation"
            raise NetError(what, at=p.at("dilation"), expected="dilation 1")
        if whole and (found.stride != (1, 1) or found.pad != (0, 0)):
            name = "pad" if found.stride == (1, 1) else "stride"
            raise NetError("global_pooling takes no stride and no padding", at=name, expected="stride 1 and pad 0")
        return found

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        not_empty(bottoms)
        n, c, h, w = bottoms[0]
        return ((n, c, *self.sizes((h, w))),) * (1 + self.mask)

    def sizes(self, image: Shape) -> Shape:
        """H' and W'. Raises: NetError for padding that the kernel cannot take, and when no window fits."""
        if self.global_pooling:
            return 1, 1
        if any(self.pad):
            if self.pool == "STOCHASTIC":
                raise NetError("STOCHASTIC pooling takes no padding", at="pad", expected="pad 0")
            for k, p in zip(self.kernel, self.pad, strict=True):
                if p >= k:
                    raise NetError(
                        "the padding must be smaller than the kernel", at="pad", expected=f"below {k}", got=p
                    )
        found = []
        for size, k, s, p in zip(image, self.extent(), self.stride, self.pad, strict=True):
            space = size + 2 * p - k
            count = (-(-space // s) if self.round_mode == "CEIL" else space // s) + 1
            if any(self.pad) and (count - 1) * s >= size + p:
                count -= 1
            if count < 1:
                raise NetError(
                    "the kernel is larger than the padded image",
                    at="kernel_size",
                    expected=f"at most {size + 2 * p} (image {size}, padding {p} on either side)",
                    got=k,
                )
            found.append(count)
        return tuple(found)

    def extent(self) -> Shape:
        """What a window reaches over, with the pixels that dilation leaves out."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=False))

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        if self.global_pooling:
            return None
        return tuple(map(Window.sliding, self.kernel, self.stride, self.pad, self.dilation))

    def brief(self) -> str:
        sides = ["global"] if self.global_pooling else window_words(self.kernel, self.stride, self.pad, self.dilation)
        return ", ".join([self.pool, *sides, *(["floor"] if self.round_mode == "FLOOR" else [])])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = bottoms[0]
        if self.pool == "STOCHASTIC":
            return self.stochastic(x)
        if self.pool == "AVE":
            return x.mean((2, 3), keepdim=True) if self.global_pooling else self.average(x)
        return self.places(x) if self.mask else self.largest(x)

    def largest(self, x: Tensor) -> Tensor:
        """MAX, one top."""
        import torch.nn.functional as F

        if self.global_pooling:
            return F.adaptive_max_pool2d(x, 1)
        if self.as_torch(x.shape[2:]):
            return F.max_pool2d(x, self.kernel, self.stride, self.pad, self.dilation, self.round_mode == "CEIL")
        return self.places(x)[0]

    def places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """MAX and the places in the image; as floating point, which has to tell any two places apart."""
        import torch
        import torch.nn.functional as F

        exact = torch.promote_types(x.dtype, torch.float32)
        if self.global_pooling:
            top, at = F.adaptive_max_pool2d(x, 1, return_indices=True)
            return top, at.to(exact)
        left, right, above, below = self.padding(x.shape[2:])
        padded = F.pad(x, (left, right, above, below), value=-torch.inf)
        top, at = F.max_pool2d(padded, self.kernel, self.stride, dilation=self.dilation, return_indices=True)
        width = left + x.shape[3] + right
        place = (at // width - above) * x.shape[3] + at % width - left
        lowest = max(torch.finfo(torch.float32).min, torch.finfo(x.dtype).min)  # of a window wholly outside
        return top.clamp(min=lowest), place.masked_fill(top < lowest, -1).to(exact)

    def average(self, x: Tensor) -> Tensor:
        """AVE: sums over windows, divided by their sizes."""
        import torch.nn.functional as F

        image = x.shape[2:]
        if self.as_torch(image):
            ceil = self.round_mode == "CEIL"
            return F.avg_pool2d(x, self.kernel, self.stride, self.pad, ceil, self.avg_include_pad)
        sums = F.avg_pool2d(F.pad(x, self.padding(image)), self.kernel, self.stride, divisor_override=1)
        rows, columns = (self.extents(x, axis) for axis in (0, 1))
        return sums / (rows[:, None] * columns)

    def extents(self, x: Tensor, axis: int) -> Tensor:
        """The lengths of the windows along one spatial axis that AVE divides by."""
        import torch

        size, k, p = x.shape[2 + axis], self.kernel[axis], self.pad[axis]
        start = torch.arange(self.sizes(x.shape[2:])[axis], device=x.device) * self.stride[axis] - p
        if self.avg_include_pad:
            return ((start + k).clamp(max=size + p) - start).to(x.dtype)
        return ((start + k).clamp(max=size) - start.clamp(min=0)).to(x.dtype)

    def stochastic(self, x: Tensor) -> Tensor:
        """STOCHASTIC: drawn in TRAIN, weighted by itself in TEST."""
        import torch
        import torch.nn.functional as F

        kernel = tuple(x.shape[2:]) if self.global_pooling else self.kernel
        rows, columns = self.sizes(x.shape[2:])
        padded = x if self.global_pooling else F.pad(x, self.padding(x.shape[2:]))
        windows = F.unfold(padded, kernel, stride=self.stride).reshape(*x.shape[:2], -1, rows, columns)
        if not self.train:
            total = windows.sum(2)
            positive = total > 0
            return (windows.square().sum(2) / total.where(positive, 1)) * positive
        reached = windows.detach().cumsum(2)
        draw = 1 - torch.rand_like(reached[:, :, :1])  # in (0, 1], so that no value of 0 is drawn
        place = (reached < draw * reached[:, :, -1:]).sum(2, keepdim=True)
        return windows.gather(2, place.clamp(max=windows.shape[2] - 1)).squeeze(2)

    def as_torch(self, image: Shape) -> bool:
        """Whether torch's own pooling does the same: it pads half a kernel at most, and drops every window outside."""
        if any(2 * p > k for k, p in zip(self.kernel, self.pad, strict=True)):
            return False
        sides = zip(self.sizes(image), image, self.stride, self.pad, strict=True)
        return all((count - 1) * s < size + p for count, size, s, p in sides)

    def padding(self, image: Shape) -> tuple[int, int, int, int]:
        """Left, right, top, bottom: what makes the image hold each window in full."""
        after = [
            max((count - 1) * s + k - size - p, 0)
            for count, size, k, s, p in zip(self.sizes(image), image, self.extent(), self.stride, self.pad, strict=True)
        ]
        return self.pad[1], after[1], self.pad[0], after[0]
