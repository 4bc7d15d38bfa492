"""Debug, of MyCaffe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..graph import Shapes
from ..text import Msg
from ..windows import NOTHING, Windows
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Debug")
@dataclass(frozen=True, slots=True)
class Debug(Layer):
    """The bottom itself. MyCaffe keeps the last max_stored_batches batches for its pictures; here nothing is kept.

    bottom[0]: any shape      bottom[1]: its labels, which do not count      top[0]: bottom[0]
    Source: MyCaffe, MyCaffe/layers/DebugLayer.cs.
    """

    n_bottom = (2, 2)
    no_gradient = (1,)
    views = True
    ignored = frozenset({"engine", "max_stored_batches"})

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms[:1]

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return NOTHING if bottom else Layer.windows(self, bottoms, tops, bottom, top)

    def is_identity(self) -> bool:
        return True

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return bottoms[0]
