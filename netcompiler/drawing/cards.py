"""Boxes -> Cards: every text of a box measured, cut where it is too long, and given its place.

Sizes are pixels of the picture at its natural size. Texts are measured with the widest of the fonts that a viewer may
have, so that none leaves its box; whole texts are in the tooltips.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING
from unicodedata import combining

from ..layers.base import short_number
from .folding import View
from .model import Box, Row, shape_text, short_count

if TYPE_CHECKING:
    from .marks import Mark

# Hundredths of the font size, from the space (32) to the tilde (126). The fonts that the pictures name differ; each of these
# is the width in the widest of them: mostly in DejaVu Sans, of some capitals in Helvetica, Arial and Liberation Sans.
_REGULAR = """
32 41 46 84 64 96 78 28 40 40 55 84 32 37 32 34 64 64 64 64 64 64 64 64 64 64 34 34 84 84 84 56 102 69 69 73 78 67 62
78 76 30 55 67 58 87 75 79 67 79 73 67 62 74 69 99 69 67 69 40 34 40 84 56 50 62 64 55 64 62 36 64 64 28 28 58 28 98
64 62 64 64 42 53 40 64 60 82 60 60 53 64 34 64 84"""
_BOLD = """
35 46 53 84 70 101 88 31 46 46 53 84 38 42 38 37 70 70 70 70 70 70 70 70 70 70 40 40 84 84 84 62 102 78 77 74 84 69 69
83 84 38 56 78 64 100 84 86 74 86 78 73 69 82 78 111 78 73 73 46 37 46 84 56 50 68 72 60 72 68 44 72 72 35 35 67 35
105 72 69 72 72 50 60 48 72 66 93 65 66 59 72 37 72 84"""
_WIDTHS = [{chr(32 + i): int(w) for i, w in enumerate(table.split())} for table in (_REGULAR, _BOLD)]
for _table in _WIDTHS:
    _table.update({"×": 84, "…": 100, "·": 38, "–": 56, "→": 100})
OTHER = 105  # of a character that is not in the table; those that are wider are squeezed by the viewer


def width(text: str, size: float, bold: bool = False) -> float:
    """The most pixels that a text takes.

    >>> width("conv1", 10), width("conv1", 10, bold=True)
    (30.5, 33.7)
    """
    return sum(_units(text, bold)) * size / 100


def _units(text: str, bold: bool) -> Iterator[int]:
    """The width of each character, in hundredths of the font size."""
    table = _WIDTHS[bold]
    return (table[c] if c in table else 0 if combining(c) else OTHER for c in text)


def is_measured(text: str) -> bool:
    """Whether all characters are in the table of widths."""
    return all(c in _WIDTHS[0] for c in text)


def cut(text: str, size: float, room: float, bold: bool = False) -> str:
    """The text, or as much of its beginning as there is room for, and an ellipsis.

    >>> cut("convolution", 10, 40), cut("conv", 10, 40)
    ('conv…', 'conv')
    """
    taken = [units * size / 100 for units in accumulate(_units(text, bold))]  # by so many characters
    if not taken or taken[-1] <= room:
        return text
    left = room - width("…", size, bold)
    return text[: bisect_right(taken, left)].rstrip() + "…"


@dataclass(frozen=True, slots=True)
class Style:
    """How a kind of text is set: its size, whether it is bold, and the class that gives it its colour."""

    name: str
    size: float
    bold: bool = False


NAME = Style("t-name", 13, True)
KIND = Style("t-kind", 11)
SETTING = Style("t-setting", 11)
FIGURE = Style("t-figure", 10)
ROW = Style("t-row", 10.5)
ROW_NAME = Style("t-rowname", 10)
SHAPE = Style("t-shape", 10)
BLOB = Style("t-blob", 10)
HEADING = Style("t-heading", 20, True)
CAPTION = Style("t-caption", 12)
FOLD = Style("t-fold", 13, True)
FOLD_NAME = Style("t-foldname", 11)
NOTE = Style("t-note", 10.5, True)


APART = 6.0  # texts in one line


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text: its base line, and where it starts, or has its middle or its end.

    `after` may follow it, APART from it, in a style of its own.
    """

    x: float
    y: float
    text: str
    style: Style
    anchor: str = "start"
    after: str = ""
    after_style: Style = KIND

    @property
    def width(self) -> float:
        own = width(self.text, self.style.size, self.style.bold)
        return own + APART + width(self.after, self.after_style.size, self.after_style.bold) if self.after else own

    @property
    def left(self) -> float:
        return self.x - self.width * {"start": 0, "middle": 0.5, "end": 1}[self.anchor]


@dataclass(frozen=True, slots=True)
class Strip:
    """The band of a stacked layer, over the whole width of its card."""

    y: float
    height: float
    category: str
    opaque: bool


@dataclass(frozen=True, slots=True)
class Pill:
    """What a box hands on: its shape, on the line that leaves it."""

    top: int
    x: float
    y: float
    width: float
    height: float
    text: Text
    output: bool


@dataclass(frozen=True, slots=True)
class Card:
    """A box as it is drawn. All places are relative to the upper left corner of its cell, which holds the pills as well.

    width, height: of the box.  cell: width and height of the cell.
    """

    box: Box
    width: float
    height: float
    cell: tuple[float, float]
    texts: tuple[Text, ...]
    strips: tuple[Strip, ...] = ()
    pills: tuple[Pill, ...] = ()
    tip: str = field(default="", repr=False)
    mark: Mark | None = None


PAD = 12.0  # between a box's side and its text
LEAST, MOST = 92.0, 250.0  # of a card's width
LINE = 15.0
STRIP = 19.0
STEM = 7.0  # of the line between a box and a pill
PILL = 17.0
PILL_PAD = 14.0  # its width beyond the text
BETWEEN = 6.0  # pills of one box
ALL_PILLS = 720.0  # the width of them all, where they are many


def card(box: Box, view: View, across: bool, mark: Mark | None = None) -> Card:
    """The card of a box; `across`: the picture runs from left to right.  mark: what is said of it besides."""
    head, room = box.rows[0], MOST - 2 * PAD
    lines: list[Parts] = [[(head.name or "no name", NAME)], _described(head, KIND, SETTING)]
    lines += [[(text, FIGURE)] for text in _figures(box)]
    lines += [[(text, NOTE)] for text in (mark.notes if mark else ())]
    rows = [_described(row, ROW, ROW_NAME) for row in box.rows[1:]]
    named = [[*row, ("", ROW), (layer.name, ROW_NAME)] for row, layer in zip(rows, box.rows[1:], strict=True)]
    pills = [(_pill_text(parts, len(box.tops)), output) for parts, output in _pill_parts(view, box)]
    wide = min(max(LEAST - 2 * PAD, *map(_line_width, [*lines, *named])), room) + 2 * PAD
    if not across:
        wide = max(wide, _span(pills, across))
    wide = _even(wide)
    texts, high = [], 4.0
    for line in lines:
        high += LINE + (2 if line[0][1] is NAME else 0)
        texts.append(written(line, PAD, high, wide - 2 * PAD))
    high += 8
    strips = []
    for row, layer in zip(rows, box.rows[1:], strict=True):
        strips.append(Strip(high, STRIP, layer.category, bool(layer.fault)))
        texts.append(written(row, PAD, high + 13.5, wide - 2 * PAD))
        left = wide - 2 * PAD - 2 * APART - texts[-1].width
        name = cut(layer.name, ROW_NAME.size, left)
        if len(name) > min(5, len(layer.name) - 1):
            texts.append(Text(wide - PAD, high + 13.5, name, ROW_NAME, "end"))
        high += STRIP
    if across:
        high = max(high, _span(pills, across))
    high = _even(high)
    placed, cell = _pills(pills, wide, high, across)
    told = "\n".join(text for text in (mark.tip if mark else "", tip(box, view)) if text)
    return Card(box, wide, high, cell, tuple(texts), tuple(strips), placed, told, mark)


def _even(size: float) -> float:
    """Whole and even, so that middles are whole as well."""
    return float(-(-size // 2) * 2)


def _figures(box: Box) -> list[str]:
    words = [(box.figure("params"), "params"), (box.figure("macs"), "MACs")]
    line = " · ".join(f"{short_count(count)} {what}" for count, what in words if count)
    return [line] if line else []


def _described(row: Row, kind: Style, setting: Style) -> Parts:
    """A layer's type and the settings that matter."""
    name = (row.kind or "no type", kind)
    return [name, (row.text, setting)] if row.text else [name]


Parts = list[tuple[str, Style]]


def _line_width(parts: Parts) -> float:
    return sum(width(text, style.size, style.bold) for text, style in parts) + APART * (len(parts) - 1)


def written(parts: Parts, x: float, y: float, room: float, anchor: str = "start") -> Text:
    """One or two texts after one another, cut to the room that there is."""
    text, style = parts[0]
    first = Text(x, y, cut(text, style.size, room, style.bold), style, anchor)
    if len(parts) > 1:
        text, style = parts[1]
        after = cut(text, style.size, room - first.width - APART, style.bold)
        if after != "…":
            return replace(first, after=after, after_style=style)
    return first


def _pill_parts(view: View, box: Box) -> list[tuple[Parts, bool]]:
    """The pills of a box: the blob's name where it is not the layer's, and the shape; and whether it is an output."""
    pills = []
    for index in range(len(box.tops)):
        top = view.top(box, index)
        parts = [(shape_text(view.shapes(box, index)), SHAPE)]
        if len(box.tops) > 1 or top.blob != box.name:
            parts.insert(0, (top.blob, BLOB))
        pills.append((parts, top.output))
    return pills


def _pill_text(parts: Parts, count: int) -> Text:
    """What stands in a pill, cut where many pills must share a side."""
    room = (MOST if count < 3 else max(ALL_PILLS / count - BETWEEN, 36.0)) - PILL_PAD
    (name, style), *shape = parts
    if shape:  # of the two, the shape matters more
        left = room - APART - width(shape[0][0], SHAPE.size)
        parts = [(cut(name, style.size, left), style), *shape] if left > 0.3 * room else shape
    return written(parts, 0, 0, room, "middle")


def _pill_width(pill: tuple[Text, bool]) -> float:
    return _even(pill[0].width + PILL_PAD)


def _span(pills: Sequence[tuple[Text, bool]], across: bool) -> float:
    """The width, or across the height, that the pills of a box need."""
    return sum(BETWEEN + (PILL if across else _pill_width(pill)) for pill in pills)


def _pills(
    pills: Sequence[tuple[Text, bool]], wide: float, high: float, across: bool
) -> tuple[tuple[Pill, ...], tuple[float, float]]:
    """The pills in their places below a box (or to its right), and the cell that holds all."""
    if not pills:
        return (), (wide, high)
    gap = BETWEEN + ((high if across else wide) - _span(pills, across)) / len(pills)
    placed, at = [], gap / 2
    for index, (text, output) in enumerate(pills):
        size = _pill_width((text, output))
        x, y = (wide + STEM, at) if across else (at, high + STEM)
        raised = 8.5 if across and not output else 0  # above the line, which runs on
        placed.append(Pill(index, x, y, size, PILL, replace(text, x=x + size / 2, y=y + 12.2 - raised), output))
        at += (PILL if across else size) + gap
    if across:
        return tuple(placed), (wide + STEM + max(p.width for p in placed), high)
    return tuple(placed), (wide, high + STEM + PILL)


def tip(box: Box, view: View) -> str:
    """All that is known of a box, for its tooltip."""
    lines: list[str] = []
    for row in box.rows:
        lines.append(f"{row.name} ({row.kind})" if row.kind else row.name)
        if row.fault:
            lines.append(f"  not understood: {row.fault}")
        lines += [f"  {name}: {short_number(value)}" for name, value in row.settings.items()]
        lines += [f"  blob {name}: {shape_text([shape])}" for name, shape in row.blobs.items()]
        lines += [f"  {what}: {row.figures[key]:,}" for key, what in _TOLD.items() if row.figures.get(key)]
        if row.figures.get("macs"):
            lines.append(f"  operations per byte: {row.figures['intensity']:.4g}")
        lines += [f"  receptive field: {text}" for text in _fields(row)]
        if row.first:
            lines.append(f"  line {row.first}" + (f" to {row.last}" if row.last > row.first else ""))
    lines += [f"top {top.blob}: {shape_text(view.shapes(box, k))}" for k, top in enumerate(box.tops)]
    count = len(view.stands_for[box.id])
    if count > 1:
        names = [view.picture.boxes[k].name for k in view.stands_for[box.id]]
        lines.append(f"stands for {count}: {names[0]} … {names[-1]}")
    return "\n".join(lines)


_TOLD = {
    "params": "parameters",
    "macs": "multiply-accumulates",
    "weight_bytes": "bytes of weights",
    "activation_bytes": "bytes of activations",
}


def _fields(row: Row) -> Iterable[str]:
    """The receptive fields in words, where stats tells them."""
    for found in row.figures.get("fields", ()):
        if found:
            stride = " × ".join("none" if s is None else f"{s:g}" for s in found["stride"])
            centre = ", ".join(f"{c:g}" for c in found["centre"])
            yield f"{' × '.join(map(str, found['size']))}, stride {stride}, centre {centre}"
