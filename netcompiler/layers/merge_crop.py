"""MergeCrop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Window, Windows
from .base import Layer, at_least, layer, not_in_place

if TYPE_CHECKING:
    from torch import Tensor

Switches = tuple[bool, bool]


@layer("MergeCrop")
@dataclass(frozen=True, slots=True)
class MergeCrop(Layer):
    """Cut the middle of the second bottom to the size of the first, and put its channels behind (STACK), or add it (ADD).

    bottom[0]: N x C x H x W      bottom[1]: N x C' x H2 x W2, no smaller
    top[0]: N x (C + C') x H x W, for ADD N x C x H x W
    forward: for each bottom, whether it counts or is taken for 0; both do. backward: whether it takes a gradient; the
    first does, the second does not unless the net says so.
    Source: naibaf7/caffe, src/caffe/layers/mergecrop_layer.cpp, mergecrop_layer.cu; for more channels in the second bottom
    than in the first its kernel mixes them up, here they are stacked.
    """

    category = "combine"
    n_bottom = (2, 2)

    operation: str = "STACK"
    forwards: Switches = (True, True)
    backwards: Switches = (True, False)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.mergecrop_param
        switches = []
        for name, usual in (("forward", (True, True)), ("backward", (True, False))):
            given = tuple(getattr(p, name))
            if len(given) > len(usual):
                raise NetError(f"too many {name}", at=p.at(name, len(usual)), expected="at most 2", got=len(given))
            switches.append((*given, *usual[len(given) :]))
        return cls(p.enum("operation"), *switches)

    def tops(self, bottoms: Shapes) -> Shapes:
        a, b = bottoms
        at_least(2, bottoms)
        alike = 1 if self.operation == "STACK" else 2
        if len(a) != len(b) or a[:alike] != b[:alike] or any(x > y for x, y in zip(a[2:], b[2:], strict=True)):
            expected = f"{dims(a[:alike])} first, and then no less than {dims(a[2:])}"
            raise NetError("the bottoms do not match", expected=expected, got=f"{dims(b)} at bottom 1")
        return ((a[0], a[1] + b[1], *a[2:]) if self.operation == "STACK" else a,)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        image, target = bottoms[bottom][2:], bottoms[0][2:]
        return tuple(Window.sliding(1, 1, -((b - a) // 2)) for a, b in zip(target, image, strict=True))

    def settings(self) -> dict[str, str]:
        shown = {} if self.operation == "STACK" else {"operation": self.operation}
        if self.forwards != (True, True):
            shown["forward"] = ", ".join(map(str, self.forwards))
        if self.backwards != (True, False):
            shown["backward"] = ", ".join(map(str, self.backwards))
        return shown

    def brief(self) -> str:
        return self.operation

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        a, b = bottoms
        for axis in range(2, a.dim()):
            b = b.narrow(axis, (b.shape[axis] - a.shape[axis]) // 2, a.shape[axis])
        parts = []
        for x, there, learns in zip((a, b), self.forwards, self.backwards, strict=True):
            sought = x if learns else x.detach()
            parts.append(sought if there else sought - sought.detach())
        return torch.cat(parts, 1) if self.operation == "STACK" else parts[0] + parts[1]
