"""View -> Layout: where everything stands. Sizes are ours, so that no font is asked; Graphviz finds the places.

The engine comes with the pygraphviz wheel and runs in this process: no `dot` command, no network.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import NetError
from .cards import FOLD, FOLD_NAME, Card, Text, card, written
from .folding import View
from .model import Edge, Fold

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """An edge as it is drawn, or a part of several: a Bézier spline, and the corners of an arrowhead where there is one."""

    edges: tuple[Edge, ...]
    points: tuple[Point, ...]
    head: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """The card around a closed fold, with its header, placed from its upper left corner."""

    fold: Fold
    x: float
    y: float
    width: float
    height: float
    text: Text


@dataclass(frozen=True, slots=True)
class Layout:
    """Cards with the upper left corners of their cells, lines and frames; all within width x height, outer frames first."""

    width: float
    height: float
    cards: tuple[tuple[Card, float, float], ...]
    lines: tuple[Line, ...]
    frames: tuple[Frame, ...]
    joints: tuple[Point, ...]  # where a line that comes into a frame parts


MARGIN = 14  # of a frame, around what it holds
HEADER = 20  # of a frame, for its text
STACK = 7.0  # how far the cards behind a frame reach out
FRAME_MOST = 300.0  # of a frame's header
INSET = 6.0  # between a frame and the lines inside it


def lay_out(view: View, across: bool = False) -> Layout:
    """The places of all that is seen; `across`: from left to right.

    Raises: NetError where Graphviz is not installed.
    """
    cards = {box.id: card(box, view, across) for box in view.boxes}
    if not cards:
        return Layout(0, 0, (), (), (), ())
    headers = [_header(fold) for fold in view.folds]
    wires = _wires(view)
    found = _engine(_source(view, wires, cards, headers, across))
    (left, bottom), (right, top) = _extent(found)
    placed, frames, joints = [], {}, []
    for thing in found.get("objects", ()):
        (x0, y0), (x1, y1) = _extent(thing)
        if thing["name"].startswith("cluster_f"):
            index = int(thing["name"][9:])
            corner, size = (x0 - left, top - y1), (x1 - x0 - STACK, y1 - y0 - STACK)
            frames[index] = Frame(view.folds[index], *corner, *size, headers[index])
        elif thing["name"].startswith("j"):
            joints.append(((x0 + x1) / 2 - left, top - (y0 + y1) / 2))
        else:
            one = cards[int(thing["name"][1:])]
            placed.append((one, (x0 + x1 - one.cell[0]) / 2 - left, top - (y0 + y1 + one.cell[1]) / 2))
    lines = []
    for thing in found.get("edges", ()):
        curve, head = (tuple((x - left, top - y) for x, y in _points(thing, part)) for part in ("_draw_", "_hdraw_"))
        wire = wires[int(thing["id"])]
        frame = frames.get(_shared_fold(view, wire))
        if frame:
            held = [((x, y), (x + c.cell[0], y + c.cell[1])) for c, x, y in placed if c.box.id in frame.fold.copies[0]]
            curve = _confined(curve, frame, held)
        lines.append(Line(wire.edges, curve, head))
    return Layout(
        right - left,
        top - bottom,
        tuple(sorted(placed, key=lambda p: p[0].box.id)),
        tuple(lines),
        tuple(frames[k] for k in sorted(frames)),
        tuple(joints),
    )


def _shared_fold(view: View, wire: _Wire) -> int:
    """The innermost fold that holds both ends of a wire; -1 if none does."""
    target = wire.edges[0].target
    if wire.source.startswith("n"):
        source = wire.edges[0].source
        return max((k for k, f in enumerate(view.folds) if {source, target} <= set(f.copies[0])), default=-1)
    return max((k for k, f in enumerate(view.folds) if target in f.copies[0]), default=-1)


def _confined(curve: Sequence[Point], frame: Frame, cards: list[tuple[Point, Point]]) -> tuple[Point, ...]:
    """A curve that stays in its frame: what reaches out is drawn in, as far as the cards beside it leave room."""
    ends = (curve[0], curve[-1])
    points = list(curve)
    for axis, (start, size) in enumerate(((frame.x, frame.width), (frame.y, frame.height))):
        low, high = start + INSET, start + size - INSET
        other = [p[1 - axis] for p in points]
        beside = [c for c in cards if c[0][1 - axis] < max(other) and c[1][1 - axis] > min(other)]
        for sign, limit in ((1, high), (-1, -low)):
            reach = max(sign * p[axis] for p in points)
            fixed = max(sign * p[axis] for p in (*ends, *(c[sign > 0] for c in beside)))
            if reach <= limit or fixed >= limit:
                continue
            shrink = (limit - fixed) / (reach - fixed)
            for k, p in enumerate(points):
                if sign * p[axis] > fixed:
                    moved = sign * (fixed + (sign * p[axis] - fixed) * shrink)
                    points[k] = (moved, p[1]) if axis == 0 else (p[0], moved)
    return tuple(points)


def _points(thing: Any, part: str = "_draw_") -> list[Point]:
    """The points of the one thing that Graphviz draws of a node, an edge, a cluster, or the whole; y counts upwards."""
    return [(x, y) for operation in thing.get(part, ()) for x, y in operation.get("points", ())]


def _extent(thing: Any) -> tuple[Point, Point]:
    """The lower left and the upper right corner."""
    xs, ys = zip(*_points(thing), strict=True)
    return (min(xs), min(ys)), (max(xs), max(ys))


def _header(fold: Fold) -> Text:
    """What a frame says: how often, and the first and the last name."""
    names = f"{fold.names[0]} … {fold.names[-1]}" + (", side by side" if fold.side_by_side else "")
    return written([(f"× {len(fold.copies)}", FOLD), (names, FOLD_NAME)], MARGIN, 6 + HEADER * 0.75, FRAME_MOST)


@dataclass(frozen=True, slots=True)
class _Wire:
    """What Graphviz is to draw from one node to another: a whole edge, or what several share."""

    source: str
    target: str
    port: int | None
    edges: tuple[Edge, ...]
    fold: int | None = None  # the frame that the target, a joint, lies in


def _wires(view: View) -> list[_Wire]:
    """The edges; those that come from one top into one frame come in together, and part inside it."""
    wires = [_Wire(f"n{e.source}", f"n{e.target}", e.top, (e,)) for e in view.edges]
    joints = 0
    for k, fold in enumerate(view.folds):
        inside = {f"n{box}" for box in fold.copies[0]}
        inside |= {
            w.target for w in wires if w.fold is not None and set(view.folds[w.fold].copies[0]) <= set(fold.copies[0])
        }
        entering: dict[tuple[str, int | None], list[_Wire]] = {}
        for wire in wires:
            if wire.target in inside and wire.source not in inside:
                entering.setdefault((wire.source, wire.port), []).append(wire)
        for (source, port), group in entering.items():
            if len(group) > 1:
                joint = f"j{joints}"
                joints += 1
                parted = [_Wire(joint, w.target, None, w.edges, w.fold) for w in group]
                together = _Wire(source, joint, port, tuple(e for w in group for e in w.edges), k)
                at = wires.index(group[0])
                wires = [w for w in wires if w not in group]
                wires[at:at] = [together, *parted]
    return wires


def _source(view: View, wires: list[_Wire], cards: dict[int, Card], headers: list[Text], across: bool) -> str:
    """The graph in DOT, in points (of which one is a pixel here): nodes n0, n1 ... without text, of our sizes."""
    direction, side = ("LR", "e") if across else ("TB", "s")
    out = [
        "digraph {",
        f"graph [rankdir={direction}, nodesep={0.4 if across else 0.32}, ranksep=0.44];",
        'node [shape=box, fixedsize=true, label="", margin=0];',
        f"edge [arrowsize=0.62, tailport={side}];",
    ]
    ports = set()
    for box in view.boxes:
        one = cards[box.id]
        if len(one.pills) > 1:
            out.append(f"n{box.id} [fixedsize=false, width=0, height=0, label=<{_table(one, across)}>];")
            ports.add(f"n{box.id}")
        else:
            out.append(f"n{box.id} [width={one.cell[0] / 72:.5f}, height={one.cell[1] / 72:.5f}];")
    out += _clusters(view, wires, headers)
    fan_out = Counter((wire.source, wire.port) for wire in wires)
    fan_in = Counter(wire.target for wire in wires)
    for k, wire in enumerate(wires):
        more = f', tailport="p{wire.port}:{side}"' if wire.source in ports else ", tailport=c" if wire.port is None else ""
        if fan_out[wire.source, wire.port] == fan_in[wire.target] == 1:
            more += ", weight=6"
        elif all(edge.label for edge in wire.edges):
            more += ", weight=0"
        if wire.fold is not None:
            more += ", arrowhead=none, headport=c"
        out.append(f"{wire.source} -> {wire.target} [id={k}{more}];")
    return "\n".join([*out, "}"])


def _table(one: Card, across: bool) -> str:
    """A node of several ports: a table without text, of the cell's size, whose last row (or column) has one for each pill."""
    head = 'BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0"'

    def part(wide: float, high: float, more: str = "") -> str:
        return f'<TD FIXEDSIZE="TRUE" WIDTH="{wide:.0f}" HEIGHT="{high:.0f}"{more}></TD>'

    ports = [f' PORT="p{p.top}"' for p in one.pills]
    if across:
        side = one.cell[0] - one.width
        shares = _shares([(p.y, p.height) for p in one.pills], one.cell[1])
        cells = [part(side, share, port) for share, port in zip(shares, ports, strict=True)]
        first = part(one.width, one.cell[1], f' ROWSPAN="{len(cells)}"')
        return (
            f"<TABLE {head}>"
            + "".join(f"<TR>{first if not k else ''}{c}</TR>" for k, c in enumerate(cells))
            + "</TABLE>"
        )
    side = one.cell[1] - one.height
    shares = _shares([(p.x, p.width) for p in one.pills], one.cell[0])
    cells = [part(share, side, port) for share, port in zip(shares, ports, strict=True)]
    first = part(one.cell[0], one.height, f' COLSPAN="{len(cells)}"')
    return f"<TABLE {head}><TR>{first}</TR><TR>{''.join(cells)}</TR></TABLE>"


def _shares(places: list[tuple[float, float]], total: float) -> list[float]:
    """The lengths of a side's equal gaps with one pill in each: whole numbers that add up to the total."""
    gap = (total - sum(size for _, size in places)) / len(places)
    ends = [round(at + size + gap / 2) for at, size in places]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _clusters(view: View, wires: list[_Wire], headers: list[Text]) -> list[str]:
    """The frames, one inside another where folds are."""
    members, inside, parents = view.members(), view.innermost(), view.parents()
    out: list[str] = []

    def put(k: int) -> None:
        wide = headers[k].width
        out.append(f"subgraph cluster_f{k} {{ margin={MARGIN}; label=<{_blank(wide)}>; labeljust=l;")
        out.extend(f"{w.target} [width=0.06, height=0.06];" for w in wires if w.fold == k)
        out.extend(f"n{box};" for box in members[k] if inside[box] == k)
        for child, parent in enumerate(parents):
            if parent == k:
                put(child)
        out.append("}")

    for k, parent in enumerate(parents):
        if parent < 0:
            put(k)
    return out


def _blank(wide: float) -> str:
    """Room for a header, in a form that Graphviz need not measure."""
    head = 'BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0"'
    return f'<TABLE {head}><TR><TD FIXEDSIZE="TRUE" WIDTH="{wide:.0f}" HEIGHT="{HEADER}"></TD></TR></TABLE>'


def _engine(source: str) -> Any:
    """What Graphviz makes of DOT, with the places in its JSON form."""
    try:
        import pygraphviz  # type: ignore[import-untyped]
    except ImportError:
        raise NetError("drawing needs libraries", hint="pip install 'netcompiler[draw]'") from None
    quiet = io.StringIO()  # it warns of every large graph
    with contextlib.redirect_stderr(quiet):
        data = pygraphviz.AGraph(string=source).draw(prog="dot", format="json")
    return json.loads(data)
