"""Where a fault is, and how it is told: Span and NetError."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text file; line and column count from 1, `excerpt` is the line itself.

    `last` is the line where the message that begins here ends; 0 where no message begins.
    """

    file: str
    line: int
    column: int
    excerpt: str = ""
    last: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def show(self) -> str:
        """The line with a caret below the column, tabs kept so that the caret stands right."""
        gutter = f"{self.line:5d} | "
        if len(self.excerpt) > 160:  # a file written on one line: show the neighbourhood only
            start = max(0, self.column - 60)
            return f"{gutter}{self.excerpt[start : start + 120]}\n      | {' ' * (self.column - 1 - start)}^"
        lead = "".join("\t" if c == "\t" else " " for c in self.excerpt[: self.column - 1])
        return f"{gutter}{self.excerpt}\n      | {lead}^"


MOST_SHOWN = 20  # further faults that one message spells out


class NetError(Exception):
    """A fault in what the user gave: a net, a weight file, an option.

    what: the fault in one phrase.  at: the file, or the place in it.  layer: `"conv1" (Convolution)`.
    expected, got: the two values that disagree.  hint: one thing to try.
    more: further faults of the same kind, reported together.
    """

    def __init__(
        self,
        what: str,
        *,
        at: Span | str | None = None,
        layer: str | None = None,
        expected: object = None,
        got: object = None,
        hint: str | None = None,
        more: Iterable[NetError] = (),
    ) -> None:
        self.what, self.at, self.layer = what, at, layer
        self.expected, self.got, self.hint = expected, got, hint
        self.more = tuple(more)
        super().__init__(what)

    def __str__(self) -> str:
        where = f"{self.at}: " if self.at else ""
        who = f"layer {self.layer}: " if self.layer else ""
        lines = [f"{where}{who}{self.what}"]
        for word, value in (("expected:", self.expected), ("got:", self.got), ("hint:", self.hint)):
            if value is not None:
                lines.append(f"  {word:9} {value}")
        if isinstance(self.at, Span) and self.at.excerpt.strip():
            lines += self.at.show().splitlines()
        lines += [str(e) for e in self.more[:MOST_SHOWN]]
        if len(self.more) > MOST_SHOWN:
            lines.append(f"... and {len(self.more) - MOST_SHOWN} more faults of this kind")
        return "\n".join(lines)

    @property
    def all(self) -> tuple[NetError, ...]:
        """This fault and those reported with it, one by one."""
        return (self, *(f for e in self.more for f in e.all))

    @staticmethod
    def join(faults: Iterable[NetError]) -> NetError:
        """One error that tells of all `faults`, of which there is at least one."""
        first, *rest = faults
        if not rest:
            return first
        joined = copy.copy(first)
        joined.more = (*first.more, *rest)
        return joined


def nearest(word: str, known: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known words most like `word`, best first; none when nothing is near."""
    folded = {k.lower(): k for k in known}
    return [folded[m] for m in difflib.get_close_matches(word.lower(), folded, count, cutoff)]


class ShapeUnknown(NetError):
    """The net is sound so far, but does not tell the shape of an input, the layer's top of index `top`: give it."""

    top = 0


class NetWarning(UserWarning):
    """What a user should know and need not act on: layers filled at random, weights not used."""
