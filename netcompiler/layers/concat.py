"""Concat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import ANY, Layer, at_least, axis, layer, not_in_place

if TYPE_CHECKING:
    from torch import Tensor


@layer("Concat")
@dataclass(frozen=True, slots=True)
class Concat(Layer):
    """Join the bottoms along one axis.

    bottom[i]: N x C_i x H x W, which differ along `axis` only      top[0]: N x (C_0 + C_1 + ...) x H x W
    Source: Caffe, src/caffe/layers/concat_layer.cpp.
    """

    n_bottom = (1, ANY)

    axis: int = 1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        return cls(axis_or(msg.concat_param, "concat_dim", len(bottoms[0])))

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        first, *others = bottoms
        before, after = first[: self.axis], first[self.axis + 1 :]
        for i, shape in enumerate(others, 1):
            if shape[: self.axis] != before or shape[self.axis + 1 :] != after or len(shape) != len(first):
                expected = f"{dims(first)}, as bottom 0, but for axis {self.axis}"
                raise NetError("the bottoms do not fit together", expected=expected, got=f"{dims(shape)} at bottom {i}")
        return ((*before, sum(shape[self.axis] for shape in bottoms), *after),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        return torch.cat(bottoms, self.axis)


def axis_or(p: Msg, old: str, rank: int) -> int:
    """The field `axis` or, in old nets, the one named `old`, which does not count from the back.

    Raises: NetError where both are given, and where the bottom has no such axis.
    """
    if not p.has(old):
        return axis(p, "axis", rank)
    if p.has("axis"):
        raise NetError(f"axis and {old} are both given", at=p.at(old), hint=f"{old} is the old name of axis: keep axis")
    value = int(getattr(p, old))
    if value >= rank:
        got = f"{value}, and the bottom has {rank} axes"
        raise NetError(f"{old} is out of range", at=p.at(old), expected=f"0 to {rank - 1}", got=got)
    return value
