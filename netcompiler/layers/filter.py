"""Filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import NOTHING, Windows
from .base import ANY, Layer, at_least, layer, not_in_place, refuse_gradient

if TYPE_CHECKING:
    from torch import Tensor


@layer("Filter")
@dataclass(frozen=True, slots=True)
class Filter(Layer):
    """Keep those items of the batch whose selector is not 0, in each bottom but the last, which is the selector.

    bottom[i]: N x C_i x H_i x W_i      bottom[last]: N, or N x 1 x 1 x 1      top[i]: S x C_i x H_i x W_i
    S, the number of items kept, is known only when it runs: the shape rule says N, as Caffe does before its first run.
    The selector has no gradient.
    Source: Caffe, src/caffe/layers/filter_layer.cpp.
    """

    category = "shape"
    n_bottom = (2, ANY)
    n_top = (1, ANY)
    no_gradient = (-1,)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        if len(msg.top) != len(bottoms) - 1:
            expected = f"{len(bottoms) - 1}, one for each bottom but the last, the selector"
            raise NetError("the wrong number of tops", at=msg.at("top"), expected=expected, got=len(msg.top))
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        *items, selector = bottoms
        for i in range(len(bottoms)):
            at_least(1, bottoms, i)
        if set(selector[1:]) - {1}:
            raise NetError(
                "the selector has one number for each item", expected=f"{selector[0]} x 1 ..", got=dims(selector)
            )
        for i, shape in enumerate(items):
            if shape[0] != selector[0]:
                expected = f"{selector[0]} items, as the selector has"
                raise NetError("the batches differ", expected=expected, got=f"{dims(shape)} at bottom {i}")
        return tuple(items)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return Layer.windows(self, bottoms, tops, bottom, top) if bottom == top else NOTHING

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        *items, selector = bottoms
        kept = selector.detach().reshape(-1).nonzero().squeeze(1)
        what = "Filter has no gradient for its selector"
        return tuple(refuse_gradient(x.index_select(0, kept), selector, what) for x in items)
