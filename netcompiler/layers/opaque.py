"""What stands for a layer that cannot be understood, in a graph that is for looking at only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from ..graph import UNKNOWN, Shapes
from ..schema import is_repeated
from ..text import Msg
from .base import ANY, Layer, registry, settings_line, short_number


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
    category: str = "other"  # type: ignore[misc]  # that of its type, where the type is known

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        given = []
        for field, value in msg.raw.ListFields():
            if field.name.endswith("_param") and field.message_type is not None and not is_repeated(field):
                given += [(f.name, _short(f, v)) for f, v in value.ListFields() if f.message_type is None]
        known = registry.get(msg.type)
        return cls(msg.type, len(set(msg.top)), tuple(given), known.category if known else "other")

    def tops(self, bottoms: Shapes) -> Shapes:
        return (UNKNOWN,) * self.n_tops

    def settings(self) -> dict[str, str]:
        return dict(self.given)

    def brief(self) -> str:
        left = dict(self.given)
        words = [left.pop("pool")] if "pool" in left else []
        for stem, letter in (("kernel", ""), ("stride", "s"), ("pad", "p"), ("dilation", "d"), ("group", "g")):
            sides = [left.pop(f"{stem}_{side}", "") for side in "hw"]
            size = left.pop(f"{stem}_size", "") or left.pop(stem, "") or "x".join(filter(None, sides))
            if size:
                words.append(f"{size}x{size}" if not letter and "x" not in size else letter + size)
        if "num_output" in left:
            words.append(left.pop("num_output"))
        return ", ".join(words) if words else settings_line(left)


def _short(field: Any, value: Any) -> str:
    """The value of a field, or the values of a repeated one, as text."""
    values = value if is_repeated(field) else (value,)
    if field.enum_type is not None:
        values = [field.enum_type.values_by_number[v].name for v in values]
    return "x".join(short_number(str(v)) for v in values)
