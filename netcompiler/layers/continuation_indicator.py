"""ContinuationIndicator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from ..windows import NOTHING, Windows
from .base import InputLayer, Layer, axis, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("ContinuationIndicator")
@dataclass(frozen=True, slots=True)
class ContinuationIndicator(Layer):
    """The flags that an LSTM layer takes where every item is one sequence: 0 at the first step, then 1.

    bottom[0], if there is one: its size along `axis` is that of the batch (jolibrain); else batch_size tells it (CRNN)
    top[0]: time_step x batch
    Source: jolibrain/caffe, yalecyu/crnn.caffe: src/caffe/layers/continuation_indicator_layer.cpp.
    """

    category = "data"
    n_bottom = (0, 1)
    no_gradient = (0,)

    time_step: int
    axis: int = 0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Any:
        p = msg.continuation_indicator_param
        if p.time_step < 1:
            raise NetError("time_step must be positive", at=p.at("time_step"), got=p.time_step)
        if bottoms:
            if p.has("batch_size"):
                what = "batch_size and a bottom are both given"
                raise NetError(what, at=p.at("batch_size"), hint="keep one of the two")
            return cls(p.time_step, axis(p, "axis", len(bottoms[0])))
        if p.batch_size < 1:
            expected = "a positive batch_size, or a bottom"
            raise NetError("the batch is not told", at=p.at("batch_size"), expected=expected)
        if p.has("axis"):
            raise NetError("axis is for a bottom, and there is none", at=p.at("axis"))
        return Flags(((p.time_step, p.batch_size),))

    def tops(self, bottoms: Shapes) -> Shapes:
        return ((self.time_step, bottoms[0][self.axis]),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return NOTHING

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return _flags(bottoms[0], self.time_step, bottoms[0].shape[self.axis])


@dataclass(frozen=True, slots=True)
class Flags(InputLayer):
    """ContinuationIndicator without a bottom: it makes its top, which the caller may feed as well."""

    kind = "ContinuationIndicator"
    n_top = (1, 1)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        ((steps, batch),) = self.tops(())
        return _flags(m.like, steps, batch)


def _flags(like: Tensor, steps: int, batch: int) -> Tensor:
    flags = like.new_ones((steps, batch))
    flags[0] = 0
    return flags
