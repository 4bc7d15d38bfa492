"""Curves over iterations -> SVG, written by ourselves: panels one below the other, over one axis of iterations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, inf, isfinite, log10
from pathlib import Path

from ..errors import NetError
from ..files import atomic
from .cards import CAPTION, HEADING, KIND, ROW, SHAPE, Style, cut, width
from .svg import Sheet, escaped
from .theme import FONTS, INKS, RASTER_FONTS, css

SUFFIXES = (".svg", ".png", ".pdf")
SCALES = ("auto", "linear", "log")
Point = tuple[float, float]

EDGE = 24.0  # of the paper, around all
WIDE, HIGH = 640.0, 190.0  # of a panel's plot
APART = 30.0  # between panels
LOG_FROM = 1000.0  # largest over least value, from which a scale is logarithmic by itself
# Told apart by colour-blind readers too, after the palette of Okabe and Ito; from the ninth curve on, dashes differ as well.
COLOURS = {
    "light": ("#0072b2", "#d55e00", "#008060", "#a3487c", "#9a6200", "#4a5159", "#2788c2", "#7d7300"),
    "dark": ("#56b4e9", "#ff8442", "#2fc79b", "#df93bd", "#f0b030", "#c9ccd1", "#a9dcff", "#e0d640"),
}
DASHES = ("", "6 3", "2 3", "9 3 2 3")


@dataclass(frozen=True, slots=True)
class Curve:
    """A line: its name, its (iteration, value) by iteration, and what gives it its colour and its dashes."""

    name: str
    points: tuple[Point, ...]
    colour: int = 0
    dash: int = 0

    @property
    def finite(self) -> list[Point]:
        return [p for p in self.points if isfinite(p[1])]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over one another. scale: linear, log, or auto: log where values differ a thousandfold.

    best: "least" or "most", for what a tooltip calls the best value; "": none is.
    """

    title: str
    curves: tuple[Curve, ...]
    scale: str = "auto"
    best: str = ""


class Chart:
    """Panels of curves. `svg` is the text of the picture, `save` writes it: .svg, .png, .pdf.

    theme: light, dark, or auto: as the reader prefers.
    """

    def __init__(self, title: str, panels: Sequence[Panel], theme: str = "auto") -> None:
        self.title, self.panels, self.theme = title, tuple(panels), theme

    @cached_property
    def svg(self) -> str:
        """The picture as SVG."""
        return self._sheet(self.theme, FONTS).text

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it in the format of the suffix, whole or not at all; PNG and PDF light, unless the theme is dark.

        Raises: NetError for another suffix, a file that cannot be written, and a library that is missing.
        """
        suffix = Path(path).suffix
        if suffix not in SUFFIXES:
            what = "the format of curves is chosen by suffix"
            raise NetError(what, at=str(path), expected=", ".join(SUFFIXES), got=suffix or "no suffix")
        if suffix == ".svg":
            data = self.svg.encode()
        else:
            from . import raster

            drawn = self._sheet("dark" if self.theme == "dark" else "light", RASTER_FONTS)
            data = (raster.png if suffix == ".png" else raster.pdf)(drawn.text, drawn.width, drawn.height)
        with atomic(path) as file:
            file.write(data)

    def _sheet(self, theme: str, fonts: str) -> Sheet:
        iterations = [x for panel in self.panels for curve in panel.curves for x, _ in curve.points]
        across = _Axis.over(iterations, "linear", 8, tight=True)
        ups = [_Axis.over([y for c in p.curves for _, y in c.finite], p.scale, 5) for p in self.panels]
        left = EDGE + max([width(t, SHAPE.size) for up in ups for t in up.texts], default=0) + 10
        y = EDGE + 20
        body = [_text(EDGE, y, cut(self.title, HEADING.size, left + WIDE - EDGE, True), HEADING)]
        y += 8
        for panel, up in zip(self.panels, ups, strict=True):
            y += APART - 8
            drawn, y = _panel(panel, across, up, left, y)
            body += drawn
        y += 34
        body.append(_text(left + WIDE / 2, y, "iteration", KIND, "middle"))
        wide, high = left + WIDE + EDGE + 8, y + EDGE - 8
        size = f'width="{_n(wide)}" height="{_n(high)}"'
        words = "; ".join(f"{p.title}: {', '.join(map(_told, p.curves))}" for p in self.panels)
        text = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="nc" {size} viewBox="0 0 {_n(wide)} {_n(high)}"'
            f' font-family="{fonts}" role="graphics-document" aria-roledescription="chart"'
            f' aria-label="{escaped(self.title)}">',
            f"<title>{escaped(self.title)}</title>",
            f"<desc>{escaped(words)}</desc>",
            f"<style>\n{style(theme)}\n</style>",
            f'<rect class="paper" {size}/>',
            *body,
            "</svg>",
        ]
        return Sheet("".join(f"{line}\n" for line in text), wide, high)


def style(theme: str) -> str:
    """The rules of a theme; "auto" is light, and dark for readers who prefer it."""
    if theme == "auto":
        dark = "\n".join(_colours("dark"))
        return f"{css('auto')}\n{_fixed()}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    return f"{css(theme)}\n{_fixed(theme)}"


def _fixed(theme: str = "light") -> str:
    rules = [
        ".nc .grid{stroke-width:1;stroke-opacity:.28}",
        ".nc .axis{stroke-width:1.2;fill:none}",
        ".nc .curve{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}",
        ".nc .lost{fill:none;stroke-width:2}",
    ]
    return "\n".join([*rules, *_colours(theme)])


def _colours(theme: str) -> Iterator[str]:
    yield f".nc .grid,.nc .axis{{stroke:{INKS[theme]['line']}}}"
    yield f".nc .lost{{stroke:{INKS[theme]['fault']}}}"
    for i, colour in enumerate(COLOURS[theme]):
        yield f".nc .c{i}{{stroke:{colour}}}.nc .d{i}{{fill:{colour};stroke:none}}"


# --- axes ---


@dataclass(frozen=True, slots=True)
class _Axis:
    """The values from one end to the other, and those that are written beside it."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]
    texts: tuple[str, ...]

    @classmethod
    def over(cls, values: Sequence[float], scale: str, count: int, tight: bool = False) -> _Axis:
        """An axis over some values, with about `count` ticks. tight: it ends where they do, not at a tick."""
        positive = [v for v in values if v > 0]
        if positive and scale == "log":
            return cls._logarithmic(min(positive), max(positive), count)
        low, high = min(values, default=0.0), max(values, default=1.0)
        if scale == "auto" and low > 0 and high / low >= LOG_FROM:
            return cls._logarithmic(low, high, count)
        if low == high:
            low, high = low - abs(low) / 10 - (low == 0), high + abs(high) / 10 + (high == 0)
        step = _step((high - low) / count)
        first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
        if tight:
            inner = range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
        else:
            inner, low, high = range(first, last + 1), first * step, last * step
        ticks = [i * step for i in inner]
        digits = max(0, -floor(log10(step) + 1e-9))
        far = max(abs(low), abs(high))
        texts = [f"{t:.3g}" if far and (far >= 1e7 or far < 1e-3) else f"{t:,.{digits}f}" for t in ticks]
        return cls(low, high, False, tuple(ticks), tuple(texts))

    @classmethod
    def _logarithmic(cls, low: float, high: float, count: int) -> _Axis:
        first, last = floor(log10(low) + 1e-9), ceil(log10(high) - 1e-9)
        last = max(last, first + 1)
        every = ceil((last - first) / count)
        ticks = [10.0**k for k in range(first, last + 1, every)]
        if last - first <= 2:
            ticks = sorted(m * 10.0**k for k in range(first, last + 1) for m in (1, 2, 5) if m * 10.0**k <= 10.0**last)
        return cls(10.0**first, 10.0**last, True, tuple(ticks), tuple(f"{t:g}" for t in ticks))

    def place(self, value: float) -> float:
        """0 to 1: how far along the axis."""
        if self.log:
            return (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (value - self.low) / (self.high - self.low)


def _step(rough: float) -> float:
    """The next of 1, 2, 5, 10, 20, ..."""
    power = 10.0 ** floor(log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


# --- panels ---


def _panel(panel: Panel, across: _Axis, up: _Axis, left: float, y: float) -> tuple[list[str], float]:
    """A panel from its title down, and where its axis is."""
    out = [f'<g role="img" aria-label="{escaped(panel.title)}">', _text(left, y, panel.title, CAPTION)]
    x = left + width(panel.title, CAPTION.size) + 22
    for curve in panel.curves:
        name = cut(curve.name, ROW.size, WIDE / 2)
        wide = 24 + width(name, ROW.size) + 6 + width(_last(curve), SHAPE.size)
        if x + wide > left + WIDE:
            x, y = left, y + 17
        out += [
            f'<path class="curve c{curve.colour % 8}"{_dashes(curve)} d="M{_n(x)} {_n(y - 4)}h18"/>',
            _text(x + 24, y, name, ROW),
            _text(x + 30 + width(name, ROW.size), y, _last(curve), KIND),
        ]
        x += wide + 20
    top, bottom = y + 12, y + 12 + HIGH
    for value, text in zip(up.ticks, up.texts, strict=True):
        at = bottom - HIGH * up.place(value)
        out.append(f'<path class="grid" d="M{_n(left)} {_n(at)}h{_n(WIDE)}"/>')
        out.append(_text(left - 8, at + 3.5, text, SHAPE, "end"))
    for value, text in zip(across.ticks, across.texts, strict=True):
        at = left + WIDE * across.place(value)
        out.append(f'<path class="grid" d="M{_n(at)} {_n(top)}V{_n(bottom)}"/>')
        out.append(_text(at, bottom + 15, text, SHAPE, "middle"))
    out.append(f'<path class="axis" d="M{_n(left)} {_n(top)}V{_n(bottom)}h{_n(WIDE)}"/>')
    for curve in panel.curves:
        out += _curve(curve, panel, across, up, left, bottom)
    return [*out, "</g>"], bottom + 15


def _curve(curve: Curve, panel: Panel, across: _Axis, up: _Axis, left: float, bottom: float) -> Iterator[str]:
    """The line, broken where values are no numbers, with a cross where they begin to be none."""
    pieces: list[list[Point]] = [[]]
    lost: list[Point] = []
    for x, y in curve.points:
        if isfinite(y) and (y > 0 or not up.log):
            pieces[-1].append((left + WIDE * across.place(x), bottom - HIGH * up.place(y)))
        elif pieces[-1] or not lost:
            lost.append((x, y))
            pieces.append([])
    best = ""
    if panel.best and curve.finite:
        x, y = (max if panel.best == "most" else min)(curve.finite, key=lambda p: p[1])
        best = f", best {y:.6g} at {x:,.0f}"
    yield f"<g><title>{escaped(_told(curve) + best)}</title>"
    line = "".join(_line(_thinned(piece)) for piece in pieces if len(piece) > 1)
    if line:
        yield f'<path class="curve c{curve.colour % 8}"{_dashes(curve)} d="{line}"/>'
    for piece in pieces:
        if len(piece) == 1:
            yield f'<circle class="d{curve.colour % 8}" cx="{_n(piece[0][0])}" cy="{_n(piece[0][1])}" r="2.6"/>'
    yield "</g>"
    for x, y in lost:
        told = f"{curve.name} is {y:g} at iteration {x:,.0f}"
        at = left + WIDE * across.place(x)
        yield (
            f'<g><title>{escaped(told)}</title><path class="lost"'
            f' d="M{_n(at - 4)} {_n(bottom - 8)}l8 8m0 -8l-8 8"/></g>'
        )


def _line(points: Sequence[Point]) -> str:
    return "".join(f"{'L' if i else 'M'}{_n(x)} {_n(y)}" for i, (x, y) in enumerate(points))


def _thinned(points: Sequence[Point]) -> list[Point]:
    """The points, at most four to a half pixel across: the first, the highest, the lowest and the last look the same."""
    if len(points) < 8 * WIDE:
        return list(points)
    kept: list[Point] = []
    start = 0
    for i in range(1, len(points) + 1):
        if i == len(points) or floor(2 * points[i][0]) != floor(2 * points[start][0]):
            column = points[start:i]
            low, high = min(column, key=lambda p: p[1]), max(column, key=lambda p: p[1])
            kept += sorted({column[0], low, high, column[-1]})
            start = i
    return kept


def _dashes(curve: Curve) -> str:
    dash = DASHES[(curve.dash + curve.colour // 8) % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _last(curve: Curve) -> str:
    return f"{curve.points[-1][1]:.4g}" if curve.points else ""


def _told(curve: Curve) -> str:
    if not curve.points:
        return curve.name
    return f"{curve.name} {_last(curve)} at iteration {curve.points[-1][0]:,.0f}"


def _n(number: float) -> str:
    """A number to a tenth of a pixel."""
    assert abs(number) < inf
    text = f"{number:.1f}"
    return text[:-2] if text.endswith(".0") else text


def _text(x: float, y: float, text: str, style_: Style, anchor: str = "start") -> str:
    kind = style_.name if anchor == "start" else f"{style_.name} {anchor}"
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}">{escaped(text)}</text>'
