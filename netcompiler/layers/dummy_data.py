"""DummyData."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shape, Shapes, dims
from ..text import Msg
from .base import InputLayer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("DummyData")
@dataclass(frozen=True, slots=True)
class DummyData(InputLayer):
    """Blobs that fill themselves; the caller may feed some instead.

    top[i]: shape[i] of dummy_data_param, or num x channels x height x width of the older fields; of each list one entry
    serves all tops. So does one data_filler; without any the tops are 0.
    Constants stay; random fillers draw anew in each forward, from PyTorch's generator (torch.manual_seed).
    Source: Caffe, src/caffe/layers/dummy_data_layer.cpp.
    """

    fillers: tuple[Filler, ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p, count = msg.dummy_data_param, len(msg.top)
        sides = ("num", "channels", "height", "width")
        if any(p.has(name) for name in sides):
            if p.has("shape"):
                raise NetError("shape and the older fields are both given", at=p.at("shape"), hint="keep one kind")
            shapes = list(zip(*(_per_top(p, name, getattr(p, name), count) for name in sides), strict=True))
        else:
            shapes = _per_top(p, "shape", [tuple(s.dim) for s in p.shape], count)
        fillers = [Filler.read(f) for f in p.data_filler] or [Filler()]
        fillers = _per_top(p, "data_filler", fillers, count)
        for i, (filler, shape) in enumerate(zip(fillers, shapes, strict=True)):
            if filler.type == "bilinear" and (len(shape) != 4 or shape[2] != shape[3]):
                got = f"{dims(shape)} for top {i}"
                raise NetError("the bilinear filler makes square images", at="data_filler", expected="n x n", got=got)
        return cls(tuple(shapes), tuple(fillers))

    def forward(self, m: Any, *fed: Tensor | None) -> tuple[Tensor, ...]:
        made = zip(fed, self.shapes, self.fillers, strict=True)
        return tuple(_filled(f, shape or (), m.like) if x is None else x for x, shape, f in made)


def _per_top(p: Msg, name: str, values: Sequence[Any], count: int) -> list[Any]:
    """One value for each of `count` tops. Raises: NetError unless there is one for all, or one for each."""
    if len(values) not in (1, count):
        expected = f"1 or {count}, one per top" if count > 1 else "1"
        at = p.at(name, count) if len(values) > count else p.at(name)
        raise NetError(f"the wrong number of {name}", at=at, expected=expected, got=len(values))
    return list(values) * (count if len(values) == 1 else 1)


def _filled(f: Filler, shape: Shape, like: Tensor) -> Tensor:
    """A new tensor of `like`'s type and device, filled as fillers.py does it in numpy."""
    import numpy as np
    import torch

    fresh = like.new_empty(shape)
    if f.type == "constant":
        return fresh.fill_(f.value)
    if f.type == "uniform":
        return fresh.uniform_(0, 1) * (f.max - f.min) + f.min
    if f.type == "gaussian":
        values = fresh.normal_(f.mean, f.std)
        if f.sparse < 0:
            return values
        chance = min(1.0, f.sparse / max(shape[0] if shape else 1, 1))
        return values * torch.empty_like(values).bernoulli_(chance)
    if f.type == "xavier":
        side = sqrt(3.0 / f.fan(shape))
        return fresh.uniform_(-side, side)
    if f.type == "msra":
        return fresh.normal_(0, sqrt(2.0 / f.fan(shape)))
    if f.type in ("positive_unitball", "gaussian_unitball"):
        flat = fresh.reshape(shape[0] if shape else 1, prod(shape[1:]))
        if f.type == "positive_unitball":
            sizes = flat.uniform_(0, 1).sum(1, keepdim=True)
        else:
            sizes = (flat.normal_().square().sum(1, keepdim=True) + 1e-12).sqrt()
        return (flat / sizes).reshape(shape)
    return torch.from_numpy(f.fill(shape, np.random.default_rng(0))).to(like)  # bilinear: nothing random
