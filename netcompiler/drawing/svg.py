"""Layouts -> SVG, written by ourselves: the same bytes for the same net, valid XML, no script, no font in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from ..layers.base import CATEGORIES
from ..stats import in_bytes
from .cards import APART, CAPTION, FOLD, HEADING, KIND, Card, Pill, Style, Text, cut, is_measured, width
from .lanes import Bus
from .layout import STACK, Frame, Layout, Line
from .marks import FADED, KINDS, OUT, SAME, SMALL, Mark, badge, css as css_of_marks, swatch, used
from .model import Picture, short_count
from .theme import css

EDGE = 24.0  # of the paper, around all
GAP = 48.0  # between two nets side by side
LEAST_WIDTH = 380.0  # of what stands above the nets
WORDS = {
    "combine": "joins and splits",
    "dense": "dense, recurrent",
    "shape": "shape, order",
    "loss": "loss, measure",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One net in its place in the picture. title: what stands over it where there are several; else its phase."""

    picture: Picture
    layout: Layout
    title: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above the nets, and what a reader hears who cannot see them. lines: parts, broken where they must be."""

    name: str
    lines: tuple[tuple[str, ...], ...]
    label: str
    description: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A whole picture: its text, and its size in pixels."""

    text: str
    width: float
    height: float


def sheet(panels: Sequence[Panel], theme: str, across: bool, fonts: str, heading: Heading | None = None) -> Sheet:
    """The whole picture: the name and the totals, what the colours mean, and the nets, side by side (across: stacked)."""
    heading = heading or _heading(panels)
    marks = [card.mark for panel in panels for card, _, _ in panel.layout.cards if card.mark]
    titles = [_titles(panel, len(panels) > 1) for panel in panels]
    if not across:
        titles = [(lines, max(high for _, high in titles)) for lines, _ in titles]  # nets begin at one height
    sizes = [
        (max([panel.layout.width, *(line.width for line in lines)]), panel.layout.height + high)
        for panel, (lines, high) in zip(panels, titles, strict=True)
    ]
    beside = max(w for w, _ in sizes) if across else sum(w for w, _ in sizes) + GAP * (len(panels) - 1)
    inner = max(LEAST_WIDTH, beside)
    head, top = _head(heading, panels, used(marks), inner)
    x, y = EDGE + (0 if across else (inner - beside) / 2), top
    body = []
    for panel, (lines, high), (wide, tall) in zip(panels, titles, sizes, strict=True):
        body.append(f'<g class="net" transform="translate({_n(x)} {_n(y)})">')
        body += [_text(line) for line in lines]
        body.append(f'<g transform="translate({_n(0 if across else (wide - panel.layout.width) / 2)} {_n(high)})">')
        body += _net(panel)
        body += ["</g>", "</g>"]
        x, y = (x, y + tall + GAP) if across else (x + wide + GAP, y)
    total_width = inner + 2 * EDGE
    total_height = (y - GAP if across else y + max(tall for _, tall in sizes)) + EDGE
    size = f'width="{_n(total_width)}" height="{_n(total_height)}"'
    text = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="nc" {size} viewBox="0 0 {_n(total_width)} {_n(total_height)}"'
        f' font-family="{fonts}" role="graphics-document" aria-roledescription="diagram"'
        f' aria-label="{_attribute(heading.label)}">',
        f"<title>{_escape(heading.name)}</title>",
        f"<desc>{_escape(heading.description)}</desc>",
        f"<style>\n{style(theme, bool(marks))}\n</style>",
        f'<rect class="paper" {size}/>',
        *head,
        *body,
        "</svg>",
    ]
    return Sheet("".join(f"{line}\n" for line in text), total_width, total_height)


def style(theme: str, marked: bool) -> str:
    """The rules of a picture, and of the marks in it."""
    return f"{css(theme)}\n{css_of_marks(theme)}" if marked else css(theme)


def _n(number: float) -> str:
    """A number to a tenth of a pixel."""
    text = f"{number:.1f}"
    return text[:-2] if text.endswith(".0") else text


_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML


def _escape(text: str) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", text), quote=False)


def escaped(text: str) -> str:
    """Text for an element or an attribute."""
    return escape(_FORBIDDEN.sub("\ufffd", text))


def _attribute(text: str) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", text).replace("\n", "; "))


# --- what stands above the nets ---


def _name(panels: Sequence[Panel]) -> str:
    return panels[0].picture.name or "net without a name"


def _heading(panels: Sequence[Panel]) -> Heading:
    """The name, and the totals of a single net."""
    name, first = _name(panels), panels[0].picture
    lines = ((first.phase, *_totals(first)),) if len(panels) == 1 else ()
    return Heading(name, lines, f"{name}: {', '.join(p.picture.phase for p in panels)}", _description(panels))


def _description(panels: Sequence[Panel]) -> str:
    """What a reader hears who cannot see the picture."""
    return " ".join(
        f"{p.picture.phase}: {'; '.join(_totals(p.picture))}. From {_names(p, True)} to {_names(p, False)}."
        for p in panels
    )


def _names(panel: Panel, inputs: bool) -> str:
    boxes = panel.picture.boxes
    names = [b.name for b in boxes if (b.category == "data" if inputs else any(t.output for t in b.tops))]
    return ", ".join(names[:6]) + (" …" if len(names) > 6 else "") or "nothing"


def _totals(picture: Picture) -> list[str]:
    totals = picture.totals
    least = "at least " if totals.get("unknown") else ""
    layers = totals["layers"]
    found = [f"{layers:,} layer" + ("s" if layers != 1 else "")]
    if totals["params"] or not least:
        found.append(f"{least}{short_count(totals['params'])} parameters")
    if totals["macs"] or not least:
        found.append(f"{least}{short_count(totals['macs'])} MACs")
    held = ("activation_bytes", "activations, all kept"), ("peak_activation_bytes", "activations at the peak")
    for name, what in (("weight_bytes", "weights"), held[picture.phase == "TEST"]):
        if totals[name]:
            found.append(f"{least}{in_bytes(totals[name])} of {what}")
    if totals.get("images", 1) > 1:
        found.append(f"batch of {totals['images']:,}")
    if picture.faults:
        found.append(f"{len(picture.faults)} fault" + ("s" if len(picture.faults) != 1 else ""))
    return found


def _head(heading: Heading, panels: Sequence[Panel], marks: Sequence[str], inner: float) -> tuple[list[str], float]:
    """The name, what is said of all, and what the marks and the colours mean; and where the nets begin."""
    y = EDGE + (20 if heading.name else -20)
    out = [_text(Text(EDGE, y, cut(heading.name, HEADING.size, inner, True), HEADING))]
    for parts in heading.lines:
        for line in _wrapped(parts, inner, CAPTION):
            y += 19
            out.append(_text(Text(EDGE, y, line, CAPTION)))
    y += 14
    if marks:
        told, y = _entries([(swatch(kind), KINDS[kind].words) for kind in marks], inner, y)
        out += told
        y += 9
    legend, y = _legend(panels, inner, y)
    return out + legend, y + 22


def _titles(panel: Panel, shown: bool) -> tuple[list[Text], float]:
    """The phase and the totals over each of several nets, and the height that they take."""
    if not shown:
        return [], 0.0
    title = cut(panel.title or panel.picture.phase, FOLD.size, max(panel.layout.width, 260.0), True)
    lines, y = [Text(0, 14, title, FOLD)], 14.0
    for line in _wrapped(_totals(panel.picture), max(panel.layout.width, 260.0), CAPTION):
        y += 18
        lines.append(Text(0, y, line, CAPTION))
    return lines, y + 16


def _wrapped(parts: Sequence[str], room: float, style: Style) -> list[str]:
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]} · {part}" if lines else part
        if lines and width(longer, style.size) <= room:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _legend(panels: Sequence[Panel], inner: float, y: float) -> tuple[list[str], float]:
    """A swatch and a word for each category and each mark that the picture has; and where it ends."""
    boxes = [card.box for panel in panels for card, _, _ in panel.layout.cards]
    used = {row.category for box in boxes for row in box.rows}
    entries = [(_outline(c, 20, 13, 1, ""), WORDS.get(c, c)) for c in CATEGORIES if c in used]
    if any(box.opaque for box in boxes):
        entries.append((_outline("other", 20, 13, 1, " opaque"), "not understood"))
    if any(panel.layout.frames for panel in panels):
        stack = "".join(f'<rect class="frame" x="{k}" y="{k}" width="16" height="9" rx="2"/>' for k in (4, 2, 0))
        entries.append((stack, "repeated"))
    if any(pill.output for panel in panels for card, _, _ in panel.layout.cards for pill in card.pills):
        entries.append(('<rect class="output" x="0.5" y="0.5" width="20" height="12" rx="6"/>', "output"))
    return _entries(entries, inner, y)


def _entries(entries: Sequence[tuple[str, str]], inner: float, y: float) -> tuple[list[str], float]:
    """Small pictures and their words, in lines; and where they end."""
    out, x = ['<g class="legend">'], EDGE
    y += 6
    for picture, word in entries:
        size = 27 + width(word, KIND.size) + 16
        if x > EDGE and x + size - 16 > EDGE + inner:
            x, y = EDGE, y + 21
        out.append(f'<g transform="translate({_n(x)} {_n(y)})">{picture}{_text(Text(27, 10.5, word, KIND))}</g>')
        x += size
    return [*out, "</g>"], y + 13


# --- a net ---


def _net(panel: Panel) -> Iterator[str]:
    for frame in panel.layout.frames:
        yield from _frame(frame)
    for line in panel.layout.lines:
        yield _line(line, panel.picture)
    for bus in panel.layout.buses:
        yield from _bus(bus, panel.picture)
    for frame in panel.layout.frames:
        yield from _header(frame)
    for x, y in panel.layout.joints:
        yield f'<circle class="head" cx="{_n(x)}" cy="{_n(y)}" r="2.6"/>'
    for card, x, y in panel.layout.cards:
        yield from _card(card, x, y)


def _frame(frame: Frame) -> Iterator[str]:
    """A stack of cards: the block is there more than once."""
    fold = frame.fold
    way = "side by side" if fold.side_by_side else "one after the other"
    words = f"{len(fold.copies)} times, {way}: {', '.join(fold.names)}"
    yield f'<g role="img" aria-label="{_attribute(words)}"><title>{_escape(words)}</title>'
    for shift in (STACK, STACK / 2, 0):
        yield (
            f'<rect class="frame" x="{_n(frame.x + shift)}" y="{_n(frame.y + shift)}"'
            f' width="{_n(frame.width)}" height="{_n(frame.height)}" rx="9"/>'
        )
    yield "</g>"


def _header(frame: Frame) -> Iterator[str]:
    """What a frame says, over the lines that come into it."""
    x, y = frame.x + frame.text.x, frame.y + frame.text.y
    yield f'<rect class="ground" x="{_n(x - 4)}" y="{_n(y - 13)}" width="{_n(frame.text.width + 8)}" height="18"/>'
    yield _text(replace(frame.text, x=x, y=y))


def _line(line: Line, picture: Picture) -> str:
    start, *rest = (f"{_n(x)} {_n(y)}" for x, y in line.points)
    curve = f"M{start}C{' '.join(rest)}"
    head = "".join(f"{'L' if k else 'M'}{_n(x)} {_n(y)}" for k, (x, y) in enumerate(line.head))
    edge = line.edges[0]
    source, targets = picture.boxes[edge.source], [picture.boxes[e.target].name for e in line.edges]
    words = f"{source.tops[edge.top].blob}: {source.name} to {', '.join(targets)}"
    arrow = f'<path class="head" d="{head}z"/>' if head else ""
    kind = "edge label" if all(e.label for e in line.edges) else "edge"
    return f'<g><title>{_escape(words)}</title><path class="{kind}" d="{curve}"/>{arrow}</g>'


def _bus(bus: Bus, picture: Picture) -> Iterator[str]:
    names = [f"{picture.boxes[e.source].name} to {picture.boxes[e.target].name}" for e in bus.edges]
    path = "".join(f"{'L' if k else 'M'}{_n(x)} {_n(y)}" for k, (x, y) in enumerate(bus.points))
    yield f'<g><title>{_escape(", ".join(names))}</title><path class="edge" d="{path}"/>'
    if bus.head:
        yield f'<path class="head" d="M{"L".join(f"{_n(x)} {_n(y)}" for x, y in bus.head)}z"/>'
    for x, y in bus.dots:
        yield f'<circle class="head" cx="{_n(x)}" cy="{_n(y)}" r="2.4"/>'
    yield "</g>"


def _card(card: Card, x: float, y: float) -> Iterator[str]:
    box = card.box
    words = f"{box.name}, " + ", then ".join(f"{row.kind} {row.text}".strip() for row in box.rows)
    if card.mark and card.mark.kind != SAME:
        words = "; ".join([words, KINDS[card.mark.kind].words, *card.mark.notes])
    yield (
        f'<g class="{_class(card.mark)}"{_anchor(card.mark)} data-box="{box.id}" role="img" aria-label="{_attribute(words)}"'
        f' transform="translate({_n(x)} {_n(y)})"><title>{_escape(card.tip)}</title>'
    )
    for pill in card.pills:
        yield _stem(card, pill)
    dashed = " opaque" if box.rows[0].fault else ""
    yield _outline(box.category, card.width, card.height, 2 if box.loss else 1, dashed, over=bool(card.strips))
    for k, strip in enumerate(card.strips):
        last = k == len(card.strips) - 1
        shape = _band(strip.y, card.width, strip.height, _corner(box.category) if last else 0, box.loss)
        yield f'<path class="strip {strip.category}{" opaque" if strip.opaque else ""}" d="{shape}"/>'
    if card.strips:
        yield f'<path class="over {box.category}-rim{dashed}" d="{_path(box.category, card.width, card.height, 0, box.loss)}"/>'
    for text in card.texts:
        yield _text(text)
    for pill in card.pills:
        if pill.output:
            yield (
                f'<rect class="output" x="{_n(pill.x)}" y="{_n(pill.y)}" width="{_n(pill.width)}"'
                f' height="{_n(pill.height)}" rx="{_n(pill.height / 2)}"/>'
            )
        yield _text(pill.text)
    if card.mark:
        yield from _marked(card, card.mark)
    yield "</g>"


def _class(mark: Mark | None) -> str:
    return "box" if mark is None else f"box is-{mark.kind}" + (" faded" if mark.kind in FADED else "")


def _anchor(mark: Mark | None) -> str:
    return f' id="{mark.anchor}"' if mark and mark.anchor else ""


def _marked(card: Card, mark: Mark) -> Iterator[str]:
    """The rim and the badge of a box, and the badges of those of its rows that differ from the others."""
    if mark.kind != SAME:
        if KINDS[mark.kind].dash is not None:
            shape = _path(card.box.category, card.width, card.height, -OUT, card.box.loss)
            yield f'<path class="mark m-{mark.kind}" d="{shape}"/>'
        yield badge(mark.kind, card.width + 1, -1)
    middles = [15.0, *(strip.y + strip.height / 2 for strip in card.strips)]
    for kind, y in zip(mark.rows, middles, strict=False):
        if kind != SAME:
            yield badge(kind, -OUT / 2, y, SMALL)


def _stem(card: Card, pill: Pill) -> str:
    """The line from a box to a pill; from left to right, to where its edges begin."""
    if pill.y > card.height:
        return f'<path class="stem" d="M{_n(pill.x + pill.width / 2)} {_n(card.height)}V{_n(pill.y)}"/>'
    end = pill.x if pill.output else card.cell[0]
    return f'<path class="stem" d="M{_n(card.width)} {_n(pill.y + pill.height / 2)}H{_n(end)}"/>'


def _corner(category: str) -> float:
    return {"data": 15.0, "combine": 12.0, "loss": 10.0}.get(category, 5.0)


def _outline(category: str, wide: float, high: float, rims: int, more: str, over: bool = False) -> str:
    """The shape of a box; a loss has two rims."""
    loss = rims > 1 or category == "loss"
    out = f'<path class="card {category}{more}" d="{_path(category, wide, high, 0, loss)}"/>'
    if rims > 1:
        out += f'<path class="rim {category}-rim" d="{_path(category, wide, high, 3, loss)}"/>'
    return out


def _path(category: str, wide: float, high: float, inset: float, chamfered: bool) -> str:
    """A rectangle with round corners; with cut ones for losses."""
    r = max(min(10.0 if chamfered else _corner(category), high / (3 if chamfered else 2)) - inset, 0)
    a, b, w, h = inset, inset, wide - 2 * inset, high - 2 * inset
    turns = [
        f"l{_n(dx)} {_n(dy)}" if chamfered else f"a{_n(r)} {_n(r)} 0 0 1 {_n(dx)} {_n(dy)}" for dx, dy in _TURNS(r)
    ]
    return (
        f"M{_n(a + r)} {_n(b)}h{_n(w - 2 * r)}{turns[0]}v{_n(h - 2 * r)}{turns[1]}h{_n(2 * r - w)}{turns[2]}"
        f"v{_n(2 * r - h)}{turns[3]}z"
    )


def _TURNS(r: float) -> tuple[tuple[float, float], ...]:
    return (r, r), (-r, r), (-r, -r), (r, -r)


def _band(y: float, wide: float, high: float, corner: float, chamfered: bool) -> str:
    """A strip over the whole width, whose lower corners are those of the box where it is the last."""
    r = min(corner, high)
    if not r:
        return f"M0 {_n(y)}h{_n(wide)}v{_n(high)}h{_n(-wide)}z"
    right = f"l{_n(-r)} {_n(r)}" if chamfered else f"a{_n(r)} {_n(r)} 0 0 1 {_n(-r)} {_n(r)}"
    left = f"l{_n(-r)} {_n(-r)}" if chamfered else f"a{_n(r)} {_n(r)} 0 0 1 {_n(-r)} {_n(-r)}"
    return f"M0 {_n(y)}h{_n(wide)}v{_n(high - r)}{right}h{_n(2 * r - wide)}{left}z"


def _text(text: Text) -> str:
    """One line. A text with characters of unknown width is made to fit: wide scripts and signs differ from font to font."""
    if not text.text:
        return ""
    kind = text.style.name if text.anchor == "start" else f"{text.style.name} {text.anchor}"
    fit = (
        "" if is_measured(text.text + text.after) else f' textLength="{_n(text.width)}" lengthAdjust="spacingAndGlyphs"'
    )
    after = ""
    if text.after:
        after = f'<tspan class="{text.after_style.name}" dx="{_n(APART)}">{_escape(text.after)}</tspan>'
    return f'<text class="{kind}" x="{_n(text.x)}" y="{_n(text.y)}"{fit}>{_escape(text.text)}{after}</text>'
