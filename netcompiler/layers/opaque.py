"""What stands for a layer that cannot be understood, in a graph that is for looking at only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from ..graph import UNKNOWN, Shapes
from ..schema import is_repeated
from ..text import Msg
from .base import ANY, Layer


@dataclass(frozen=True, slots=True)
class Opaque(Layer):
    """A layer of an unknown type, one with a fault, or one that reads what such a layer makes.

    Its tops have the shape UNKNOWN. It has no blobs and cannot run; `given` are its settings as the net writes them.
    """

    n_bottom = (0, ANY)
    n_top = (0, ANY)

    kind: str  # type: ignore[misc]  # each has its own
    n_tops: int
    given: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        given = []
        for field, value in msg.raw.ListFields():
            if field.name.endswith("_param") and field.message_type is not None and not is_repeated(field):
                given += [(f.name, _short(v)) for f, v in value.ListFields() if f.message_type is None]
        return cls(msg.type, len(set(msg.top)), tuple(given))

    def tops(self, bottoms: Shapes) -> Shapes:
        return (UNKNOWN,) * self.n_tops

    def settings(self) -> dict[str, str]:
        return dict(self.given)


def _short(value: Any) -> str:
    return str(value) if isinstance(value, str | bytes | int | float) else "x".join(map(str, value))
