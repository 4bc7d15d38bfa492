"""Concat."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import ANY, Layer, at_least, axis, layer, not_in_place, whole_from

if TYPE_CHECKING:
    from torch import Tensor


@layer("Concat")
@dataclass(frozen=True, slots=True)
class Concat(Layer):
    """Join the bottoms along one axis.

    bottom[i]: N x C_i x H x W, which differ along `axis` only      top[0]: N x (C_0 + C_1 + ...) x H x W
    Intel Caffe's per_fla_fuse, for axis 1: each bottom is laid out as N x (H_i W_i C_i) before, channels last, as by the
    Permute and the Flatten layer that it stands for; they differ in all axes but the first; top[0]: N x sum x 1 x 1.
    Source: Caffe, src/caffe/layers/concat_layer.cpp; Intel Caffe, mkldnn_concat_layer.cpp.
    """

    category = "combine"
    n_bottom = (1, ANY)

    axis: int = 1
    per_fla_fuse: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.concat_param
        along = axis_or(p, "concat_dim", len(bottoms[0]), msg.dialect)
        return cls(along, p.per_fla_fuse and along == 1)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        first, *others = bottoms
        if self.per_fla_fuse:
            for i, shape in enumerate(others, 1):
                if len(shape) != len(first) or shape[0] != first[0]:
                    expected = f"{len(first)} axes, the first of {first[0]}, as bottom 0"
                    raise NetError(
                        "the bottoms do not fit together", expected=expected, got=f"{dims(shape)} at bottom {i}"
                    )
            return ((first[0], sum(prod(shape[1:]) for shape in bottoms), *(1,) * (len(first) - 2)),)
        before, after = first[: self.axis], first[self.axis + 1 :]
        for i, shape in enumerate(others, 1):
            if shape[: self.axis] != before or shape[self.axis + 1 :] != after or len(shape) != len(first):
                expected = f"{dims(first)}, as bottom 0, but for axis {self.axis}"
                raise NetError("the bottoms do not fit together", expected=expected, got=f"{dims(shape)} at bottom {i}")
        return ((*before, sum(shape[self.axis] for shape in bottoms), *after),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None if self.per_fla_fuse else whole_from(self.axis, bottoms[bottom], self.axis + 1)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        if self.per_fla_fuse:
            joined = torch.cat([x.movedim(1, -1).flatten(1) for x in bottoms], 1)
            return joined.reshape(*joined.shape, *(1,) * (bottoms[0].dim() - 2))
        return torch.cat(bottoms, self.axis)


def axis_or(p: Msg, old: str, rank: int, dialect: str) -> int:
    """The field `axis` or, in old nets, the one named `old`, which does not count from the back.

    MyCaffe writes both: the old one counts where it is not 0.
    Raises: NetError where others give both, and where the bottom has no such axis.
    """
    both = p.has(old) and p.has("axis")
    if not p.has(old) or (both and dialect == "mycaffe" and getattr(p, old) == 0):
        return axis(p, "axis", rank)
    if both and dialect != "mycaffe":
        raise NetError(f"axis and {old} are both given", at=p.at(old), hint=f"{old} is the old name of axis: keep axis")
    value = int(getattr(p, old))
    if value >= rank:
        got = f"{value}, and the bottom has {rank} axes"
        raise NetError(f"{old} is out of range", at=p.at(old), expected=f"0 to {rank - 1}", got=got)
    return value
