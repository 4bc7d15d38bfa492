"""ArgMax."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, axis, layer, not_in_place, refuse_gradient, whole_from

if TYPE_CHECKING:
    from torch import Tensor


@layer("ArgMax")
@dataclass(frozen=True, slots=True)
class ArgMax(Layer):
    """Where the top_k largest values are, the largest first; of equal values the last one comes first, as in Caffe.

    bottom[0]: N x C x H x W
    Without axis: over C H W, for each of the N items.  top[0]: N x 1 x top_k, the places, or, with out_max_val,
    N x 2 x top_k, the places and then the values; more axes of 1 follow where the bottom has more than three.
    With axis: over that axis.  top[0]: the bottom's shape with top_k there; the values where out_max_val asks for
    them, else the places.
    It has no gradient. Places are whole numbers that bfloat16 cannot hold: the top is float32, or float64 of float64.
    Source: Caffe, src/caffe/layers/argmax_layer.cpp.
    """

    category = "shape"

    top_k: int = 1
    out_max_val: bool = False
    axis: int | None = None

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.argmax_param
        if p.top_k < 1:
            raise NetError("top_k must be positive", at=p.at("top_k"), got=p.top_k)
        return cls(p.top_k, p.out_max_val, axis(p, "axis", len(bottoms[0])) if p.has("axis") else None)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1 if self.axis is None else self.axis + 1, bottoms)
        shape = bottoms[0]
        size = prod(shape[1:]) if self.axis is None else shape[self.axis]
        if self.top_k > size:
            raise NetError("top_k is more than there is", at="top_k", expected=f"at most {size}", got=self.top_k)
        if self.axis is None:
            return ((shape[0], 2 if self.out_max_val else 1, self.top_k, *(1,) * (len(shape) - 3)),)
        return ((*shape[: self.axis], self.top_k, *shape[self.axis + 1 :]),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None if self.axis is None else whole_from(self.axis, bottoms[0], self.axis + 1)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0].detach()
        kind = torch.promote_types(x.dtype, torch.float32)
        dim = 1 if self.axis is None else self.axis
        if self.axis is None:
            x = x.reshape(x.shape[0], prod(x.shape[1:]))
        # Sorted backwards and stable, so that the last of equal values comes first.
        values, places = x.flip(dim).sort(dim=dim, descending=True, stable=True)
        values = values.narrow(dim, 0, self.top_k).to(kind)
        places = (x.shape[dim] - 1 - places.narrow(dim, 0, self.top_k)).to(kind)
        if self.axis is not None:
            top = values if self.out_max_val else places
        else:
            top = torch.stack((places, values) if self.out_max_val else (places,), 1)
            top = top.reshape(*top.shape, *(1,) * (bottoms[0].dim() - 3))
        return refuse_gradient(top, bottoms[0], "ArgMax has no gradient")
