"""RingPad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from ..windows import SAME, Window, Windows
from .base import Layer, axis, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("RingPad")
@dataclass(frozen=True, slots=True)
class RingPad(Layer):
    """The bottom with its last `pad` places before it and its first ones behind it, along an axis: a picture that goes
    round.

    bottom[0]: any shape      top[0]: 2 pad longer along `axis`
    The fork's code puts the rows one on another, as if the top were no longer; here each has its place.
    Source: gdlg/panoramic-object-detection, src/caffe/layers/ring_pad_layer.cpp.
    """

    category = "shape"

    axis: int = 1
    pad: int = 1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.ring_pad_param
        if p.pad < 0:
            raise NetError("pad is negative", at=p.at("pad"), expected="0 or more", got=p.pad)
        return cls(axis(p, "axis", len(bottoms[0])), p.pad)

    def tops(self, bottoms: Shapes) -> Shapes:
        shape = list(bottoms[0])
        if self.pad > shape[self.axis]:
            raise NetError(
                "pad is larger than the bottom", at="pad", expected=f"at most {shape[self.axis]}", got=self.pad
            )
        shape[self.axis] += 2 * self.pad
        return (tuple(shape),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        size = bottoms[0][self.axis]
        turned = Window(tuple(((i - self.pad) % size,) * 2 for i in range(size + 2 * self.pad)), None)
        return tuple(turned if k == self.axis else SAME for k in range(2, len(bottoms[0])))

    def is_identity(self) -> bool:
        return not self.pad

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x, along = bottoms[0], self.axis
        size = x.shape[along]
        return torch.cat((x.narrow(along, size - self.pad, self.pad), x, x.narrow(along, 0, self.pad)), along)
