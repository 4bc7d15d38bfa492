"""Bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shape, Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, at_least, axis, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Bias")
@dataclass(frozen=True, slots=True)
class Bias(Layer):
    """Add the second bottom, or else a learned blob, broadcast over the axes that it does not have.

    bottom[0]: N x C x H x W (any number of axes)      top[0]: the same
    bottom[1]: its axes are those of bottom[0] from `axis` on, as many as it has; none: a scalar.
    blobs: with one bottom, bias: the dims of num_axes axes of bottom[0] from `axis` on (-1: all of them; 0: a scalar).
    Source: Caffe, src/caffe/layers/bias_layer.cpp.
    """

    category = "normalisation"
    n_bottom = (1, 2)

    axis: int = 1
    num_axes: int = 1
    filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.bias_param
        return cls(*placed(p, bottoms), Filler.read(p.filler))

    def tops(self, bottoms: Shapes) -> Shapes:
        operand(self.axis, self.num_axes, bottoms)
        return bottoms[:1]

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        if len(bottoms) == 2:
            return {}
        return {"bias": BlobSpec(operand(self.axis, self.num_axes, bottoms), self.filler)}

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        moved = bottom == 1 and self.axis > 0  # its axes lie along later ones of the top
        return None if moved else Layer.windows(self, bottoms, tops, bottom, top)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        return x + spread(bottoms[1] if len(bottoms) == 2 else m.bias, x, self.axis)


def placed(p: Msg, bottoms: Shapes) -> tuple[int, int]:
    """axis and num_axes of a BiasParameter or a ScaleParameter.

    Two bottoms make num_axes idle, and axis too where the second is a scalar, as in Caffe.
    """
    rank, count = len(bottoms[0]), int(p.num_axes)
    if len(bottoms) == 2 and bottoms[1] == ():
        p.has("axis")  # looked at, and idle
        return 0, count
    first = axis(p, "axis", rank)
    if len(bottoms) == 1 and not -1 <= count <= rank - first:
        expected = f"-1, or 0 to {rank - first}, the axes from axis {first} on"
        raise NetError("num_axes is out of range", at=p.at("num_axes") or p.at("axis"), expected=expected, got=count)
    return first, count


def operand(axis: int, num_axes: int, bottoms: Shapes) -> Shape:
    """The shape of what is added or multiplied: the second bottom's, or the learned blob's.

    Raises: NetError where it does not lie along bottom 0.
    """
    shape = bottoms[0]
    if len(bottoms) == 1:
        at_least(axis + max(num_axes, 0), bottoms)
        return shape[axis:] if num_axes < 0 else shape[axis : axis + num_axes]
    given = bottoms[1]
    if shape[axis : axis + len(given)] != given:
        expected = f"{len(given)} dims of bottom 0 ({dims(shape)}) from axis {axis} on"
        raise NetError("bottom 1 does not lie along bottom 0", at="axis", expected=expected, got=dims(given))
    return given


def spread(value: Tensor, x: Tensor, axis: int) -> Tensor:
    """`value`, whose axes lie along those of `x` from `axis` on, shaped so that PyTorch broadcasts it so."""
    return value.reshape((*value.shape, *(1,) * (x.dim() - axis - value.dim())))
