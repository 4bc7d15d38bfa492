"""BatchReindex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, not_in_place, refuse_gradient, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor


@layer("BatchReindex")
@dataclass(frozen=True, slots=True)
class BatchReindex(Layer):
    """Pick items of the batch by number, in any order and as often as wanted.

    bottom[0]: N x C x H x W      bottom[1]: M item numbers, 0 to N - 1      top[0]: M x C x H x W
    top[i] = bottom[0][bottom[1][i]]. The numbers have no gradient; a fraction is cut off.
    Source: Caffe, src/caffe/layers/batch_reindex_layer.cpp.
    """

    category = "shape"
    n_bottom = (2, 2)
    no_gradient = (1,)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        items, numbers = bottoms
        if len(numbers) != 1:
            raise NetError(
                "bottom 1 is a list of item numbers", expected="1 axis", got=f"{len(numbers)} ({dims(numbers)})"
            )
        return ((*numbers, *items[1:]),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x, numbers = bottoms
        places, _ = whole_numbers(numbers, x.shape[0])
        top = x.index_select(0, places)
        return refuse_gradient(top, numbers, "BatchReindex has no gradient for its item numbers")
