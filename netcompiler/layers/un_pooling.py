"""UnPooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes, dims
from ..text import Msg
from ..windows import NOTHING, Window, Windows
from .base import Layer, exactly, layer, not_in_place, spatial

if TYPE_CHECKING:
    from torch import Tensor


@layer("UnPooling")
@dataclass(frozen=True, slots=True)
class UnPooling(Layer):
    """Pooling the other way round: each value of a small image goes to its window of a large one.

    bottom[0]: N x C x H x W      bottom[1], if there is one: for MAX and AVE the places that MAX pooling's second top told,
    N x C x H x W; for REP the size      top[0]: N x C x H' x W', 0 where nothing goes
    H' and W' are unpool_size, or unpool_h and unpool_w; for MyCaffe, which tells none, H' = max((H - 1) stride_h + kernel_h,
    H stride_h + 1).
    MAX: to the place of the mask, row W' + column; without one to the window's corner. Of two values for one place the later
    stays, and both take its gradient.
    AVE: to all of the window that lies within H' x W', divided by the size of that part; windows that overlap add up.
    TILE: the same, not divided. Quirk: its gradient is AVE's.
    REP (ParseNet): an image of one pixel is repeated to the size of bottom[1].
    Source: HyeonwooNoh/caffe, src/caffe/layers/unpooling_layer.cpp; weiliu89/caffe (fcn), unpooling_layer.cpp; MyCaffe,
    UnPoolingLayer.
    """

    category = "pooling"
    n_bottom = (1, 2)
    no_gradient = (1,)

    unpool: str = "MAX"
    kernel: Shape = ()
    stride: Shape = (1, 1)
    size: Shape = ()  # none: MyCaffe's

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.unpooling_param
        if p.has("pool") and p.has("unpool"):
            raise NetError("unpool and pool are both given", at=p.at("pool"), hint="keep one of the two")
        unpool = p.enum("pool" if p.has("pool") else "unpool")
        if unpool == "REP":
            if len(bottoms) == 1 or p.out_kernel_size or p.out_stride:
                name = "out_kernel_size" if p.out_kernel_size else "out_stride"
                expected = "a second bottom, and no out_kernel_size and out_stride"
                raise NetError("REP repeats one pixel only", at=p.at(name), expected=expected)
            return cls(unpool)
        kernel, stride = spatial(p, "kernel_size", 2, least=1), spatial(p, "stride", 2, 1, least=1)
        if any(spatial(p, "pad", 2, 0)):
            raise NetError("UnPooling takes no padding", at=p.at("pad"), expected="pad 0")
        sides = [p.has(f"unpool_{side}") for side in "hw"]
        if any(sides) and not all(sides):
            at = p.at("unpool_h" if sides[0] else "unpool_w")
            raise NetError("unpool_h and unpool_w go together", at=at, expected="both, or unpool_size")
        if msg.dialect == "mycaffe" and not any(sides) and not p.has("unpool_size"):
            return cls(unpool, kernel, stride)
        if all(sides) == p.has("unpool_size"):
            expected = "unpool_size, or unpool_h and unpool_w"
            what = "the size is told twice" if all(sides) else "the size is not told"
            raise NetError(what, at=p.at("unpool_size"), expected=expected)
        size = (p.unpool_h, p.unpool_w) if all(sides) else (p.unpool_size,) * 2
        if min(size) < 1:
            raise NetError("the size must be positive", at=p.at("unpool_h" if all(sides) else "unpool_size"))
        return cls(unpool, kernel, stride, size)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, c, h, w = bottoms[0]
        if self.unpool == "REP":
            exactly(4, bottoms, 1)
            if (h, w) != (1, 1):
                raise NetError("REP repeats one pixel only", expected=dims((n, c, 1, 1)), got=dims(bottoms[0]))
            return ((n, c, *bottoms[1][2:]),)
        if len(bottoms) > 1 and bottoms[1] != bottoms[0]:
            expected = f"{dims(bottoms[0])}, as bottom 0"
            raise NetError("the mask has the wrong shape", expected=expected, got=dims(bottoms[1]))
        return ((n, c, *self.sizes((h, w))),)

    def sizes(self, image: Shape) -> Shape:
        """H' and W'."""
        sides = zip(image, self.kernel, self.stride, strict=False)
        return self.size or tuple(max((count - 1) * s + k, count * s + 1) for count, k, s in sides)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        if self.unpool == "REP":
            return NOTHING if bottom else (Window.whole(1),) * 2
        if self.unpool == "MAX":
            return None
        return tuple(Window.spread(k, s) for k, s in zip(self.kernel, self.stride, strict=True))

    def brief(self) -> str:
        return f"{self.unpool}, to {'x'.join(map(str, self.size))}" if self.size else self.unpool

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        if self.unpool == "REP":
            return x.expand(*x.shape[:2], *bottoms[1].shape[2:])
        if self.unpool == "MAX":
            return self.placed(x, bottoms[1] if len(bottoms) > 1 else None)
        shares = self.shares(x)
        mean = self.spread(x / shares)
        if self.unpool == "AVE":
            return mean
        return mean + (self.spread(x) - mean).detach()

    def placed(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """MAX. Raises: NetError for a place outside the top, except while the graph is traced."""
        import torch

        from .base import whole_numbers

        n, c, h, w = x.shape
        height, width = self.sizes((h, w))
        if mask is None:
            corners = [
                (torch.arange(count, device=x.device) * s).clamp(max=size - 1)
                for count, s, size in zip((h, w), self.stride, (height, width), strict=True)
            ]
            places = (corners[0][:, None] * width + corners[1]).reshape(1, 1, -1).expand(n, c, -1)
        else:
            places = whole_numbers(mask, height * width)[0].reshape(n, c, -1)
        return x.new_zeros((n, c, height * width)).scatter(2, places, x.flatten(2)).reshape(n, c, height, width)

    def shares(self, x: Tensor) -> Tensor:
        """The sizes of the windows' parts that lie within the top; at least 1."""
        import torch

        lengths = []
        for count, k, s, size in zip(x.shape[2:], self.kernel, self.stride, self.sizes(x.shape[2:]), strict=True):
            start = torch.arange(count, device=x.device) * s
            lengths.append(((start + k).clamp(max=size) - start).clamp(min=1).to(x.dtype))
        return lengths[0][:, None] * lengths[1]

    def spread(self, x: Tensor) -> Tensor:
        """Each value on its whole window."""
        import torch.nn.functional as F

        n, c = x.shape[:2]
        sizes = self.sizes(x.shape[2:])
        ones = x.new_ones((1, 1, *self.kernel))
        whole = F.conv_transpose2d(x.reshape(n * c, 1, *x.shape[2:]), ones, stride=self.stride)
        short = [size - have for size, have in zip(sizes, whole.shape[2:], strict=True)]
        return F.pad(whole, (0, short[1], 0, short[0])).reshape(n, c, *sizes)
