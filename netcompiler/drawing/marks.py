"""What a picture says of a box when two nets are compared: a rim, a badge, and words. Shape tells as much as colour.

Badges are drawn, not written: no font has to have their signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .theme import INKS


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to differ: its words in the legend, the strokes of its badge, and how its rim is dashed; None: no rim."""

    words: str
    sign: str
    dash: str | None = None


KINDS = {
    "removed": Kind("removed", "M-4.5 0h9", "4 3"),
    "added": Kind("added", "M-4.5 0h9M0 -4.5v9", ""),
    "changed": Kind("changed", "M-4.5 -2h9M-4.5 2h9M2.6 -5l-5.2 10", "9 3"),
    "affected": Kind("shape or figures follow", "M-4.5 -1.4q2.2 -3 4.5 0t4.5 0M-4.5 2.8q2.2 -3 4.5 0t4.5 0", "0.1 4.5"),
    "weights": Kind("other weights", "M-5 -3.2l2.4 6.6l2.6 -5.4l2.6 5.4l2.4 -6.6"),
    "training": Kind("trained differently", "M0 -4.5v9M-3.9 -2.3l7.8 4.6M-3.9 2.3l7.8 -4.6"),
    "renamed": Kind("only renamed", "M-2.2 -4.4l4.6 4.4l-4.6 4.4"),
}
SAME = "same"
FADED = (SAME, "renamed", "training")  # what does the same in both nets
COLOURS = {  # of rims and badges; badges of the other kinds are in the colour of muted text
    "light": {"removed": "#b3261e", "added": "#00704f", "changed": "#9a5b00", "affected": "#9a5b00"},
    "dark": {"removed": "#ff8a80", "added": "#3ad6aa", "changed": "#ffb84d", "affected": "#ffb84d"},
}
RADIUS, SMALL = 9.0, 6.5  # of badges, at a box and at one of its rows
OUT = 4.0  # from a box to its rim


@dataclass(frozen=True, slots=True)
class Mark:
    """What is said of a box.

    kind: one of KINDS, or SAME.  rows: the kind of each of its layers, where they differ.
    notes: short lines in the box.  tip: before what the tooltip says.  anchor: what a page can link to.
    """

    kind: str
    rows: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tip: str = ""
    anchor: str = ""


def used(marks: Iterable[Mark]) -> list[str]:
    """The kinds that there are, in the order of KINDS."""
    found = {kind for mark in marks for kind in (mark.kind, *mark.rows)}
    return [kind for kind in KINDS if kind in found]


def badge(kind: str, x: float, y: float, radius: float = RADIUS) -> str:
    """A disc with the sign of a kind, around a point."""
    size = f" scale({radius / RADIUS:.2f})" if radius != RADIUS else ""
    return (
        f'<g class="badge m-{kind}" transform="translate({x:g} {y:g}){size}">'
        f'<circle r="{RADIUS:g}"/><path d="{KINDS[kind].sign}"/></g>'
    )


def swatch(kind: str) -> str:
    """For the legend, in 24 x 13 pixels."""
    if KINDS[kind].dash is None:
        return badge(kind, 15, 6.5, 7)
    return f'<rect class="mark m-{kind}" y="1" width="15" height="12" rx="3"/>{badge(kind, 16, 4, 7)}'


def css(theme: str) -> str:
    """The rules of a theme, as those of boxes are."""
    if theme == "auto":
        dark = "\n".join(_colours("dark"))
        return f"{css('light')}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    dashes = (f".nc .mark.m-{name}{{stroke-dasharray:{kind.dash}}}" for name, kind in KINDS.items() if kind.dash)
    fixed = [
        ".nc .mark{fill:none;stroke-width:2.6;stroke-linecap:butt}",
        ".nc .mark.m-affected{stroke-linecap:round}",
        *dashes,
        ".nc .badge path{fill:none;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}",
        ".nc .badge circle{stroke-width:1.5}",
        ".nc .faded .card,.nc .faded .strip,.nc .faded .over,.nc .faded .rim{fill-opacity:.4;stroke-opacity:.55}",
        ".nc .t-note{font-size:10.5px;font-weight:700}",
    ]
    return "\n".join([*fixed, *_colours(theme)])


def _colours(theme: str) -> Iterator[str]:
    ink, own = INKS[theme], COLOURS[theme]
    yield f".nc .t-note{{fill:{ink['text']}}}"
    yield f".nc .faded text{{fill:{ink['muted']}}}"
    yield f".nc .badge circle{{fill:{ink['muted']};stroke:{ink['paper']}}}"
    yield f".nc .badge path{{stroke:{ink['paper']}}}"
    for kind, colour in own.items():
        yield f".nc .mark.m-{kind}{{stroke:{colour}}}"
        yield f".nc .badge.m-{kind} circle{{fill:{colour}}}"
