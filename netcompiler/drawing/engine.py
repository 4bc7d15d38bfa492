"""Nodes of given sizes -> their places, by Graphviz, which the pygraphviz wheel brings along: no command, no network.

Graphviz is given sizes and no text, so that it asks no font, and finds the same places on every machine.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..errors import NetError
from .cards import Card, Text
from .folding import View
from .model import Edge

Point = tuple[float, float]
MARGIN = 14  # of a frame, around what it holds
CLEAR = 3  # around cells, so that no line runs along a box's rim
HEADER = 20  # of a frame, for its text
BARE = 'BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0"'


@dataclass(frozen=True, slots=True, eq=False)
class Wire:
    """What is drawn from one node to another: a whole edge, or what several share. Nodes are `n` and a box's id, or joints.

    port: the top that it leaves from; None at a joint.  fold: that which its target, a joint, lies in; None: in none.
    """

    source: str
    target: str
    port: int | None
    edges: tuple[Edge, ...]
    fold: int | None = None

    @property
    def parts(self) -> bool:
        """Whether it ends at a joint."""
        return self.target.startswith("j")


@dataclass(frozen=True, slots=True)
class Places:
    """What Graphviz finds, y counted downwards: corners of nodes and frames; splines of wires, and corners of their heads."""

    width: float
    height: float
    nodes: dict[str, tuple[Point, Point]]
    frames: dict[int, tuple[Point, Point]]
    wires: dict[int, tuple[tuple[Point, ...], tuple[Point, ...]]]


def places(view: View, wires: list[Wire], cards: dict[int, Card], headers: list[Text], across: bool) -> Places:
    """The places of cells, frames with room for their headers, and wires.

    Raises: NetError where Graphviz is not installed.
    """
    found = _run(_source(view, wires, cards, headers, across))
    (left, bottom), (right, top) = _extent(found)
    nodes, frames, lines = {}, {}, {}
    for thing in found.get("objects", ()):
        (x0, y0), (x1, y1) = _extent(thing)
        corners = (x0 - left, top - y1), (x1 - left, top - y0)
        if thing["name"].startswith("cluster_f"):
            frames[int(thing["name"][9:])] = corners
        else:
            nodes[thing["name"]] = corners
    for thing in found.get("edges", ()):
        curve, head = (tuple((x - left, top - y) for x, y in _points(thing, part)) for part in ("_draw_", "_hdraw_"))
        lines[int(thing["id"])] = curve, head
    return Places(right - left, top - bottom, nodes, frames, lines)


def _points(thing: Any, part: str = "_draw_") -> list[Point]:
    """The points of the one thing that Graphviz draws of a node, an edge, a cluster, or the whole; y counts upwards."""
    return [(x, y) for operation in thing.get(part, ()) for x, y in operation.get("points", ())]


def _extent(thing: Any) -> tuple[Point, Point]:
    """The lower left and the upper right corner."""
    xs, ys = zip(*_points(thing), strict=True)
    return (min(xs), min(ys)), (max(xs), max(ys))


def _source(view: View, wires: list[Wire], cards: dict[int, Card], headers: list[Text], across: bool) -> str:
    """The graph in DOT, in points, of which one is a pixel here."""
    direction, side = ("LR", "e") if across else ("TB", "s")
    out = [
        "digraph {",
        f"graph [rankdir={direction}, nodesep={0.4 if across else 0.32}, ranksep={0.5 if across else 0.38}];",
        'node [shape=box, fixedsize=true, label="", margin=0];',
        f"edge [arrowsize=0.62, tailport={side}];",
    ]
    ports = set()
    for box in view.boxes:
        one = cards[box.id]
        if len(one.pills) > 1:
            more = f"width=0, height=0, margin={CLEAR / 72:.5f}"
            out.append(f"n{box.id} [fixedsize=false, {more}, label=<{_table(one, across)}>];")
            ports.add(f"n{box.id}")
        else:
            wide, high = ((size + 2 * CLEAR) / 72 for size in one.cell)
            out.append(f"n{box.id} [width={wide:.5f}, height={high:.5f}];")
    out += [_JOINT.format(wire.target) for wire in wires if wire.parts and wire.fold is None]
    out += _clusters(view, wires, headers)
    fan_out = Counter((wire.source, wire.port) for wire in wires)
    fan_in = Counter(wire.target for wire in wires)
    for k, wire in enumerate(wires):
        more = (
            f', tailport="p{wire.port}:{side}"' if wire.source in ports else ", tailport=c" if wire.port is None else ""
        )
        if wire.port is not None and all(edge.label for edge in wire.edges):
            more += ", weight=0"  # labels give way, and part late
        elif fan_out[wire.source, wire.port] == fan_in[wire.target] == 1:
            more += ", weight=6"  # a chain runs straight
        if wire.parts:
            more += ", arrowhead=none, headport=c"
        out.append(f"{wire.source} -> {wire.target} [id={k}{more}];")
    return "\n".join([*out, "}"])


_JOINT = "{} [width=0.06, height=0.06];"


def _table(one: Card, across: bool) -> str:
    """A node of several ports: a table without text, of the cell's size, whose last row (or column) has one for each pill."""

    def part(wide: float, high: float, more: str = "") -> str:
        return f'<TD FIXEDSIZE="TRUE" WIDTH="{wide:.0f}" HEIGHT="{high:.0f}"{more}></TD>'

    ports = [f' PORT="p{p.top}"' for p in one.pills]
    wide, high = one.cell
    if across:
        shares = _shares([(p.y, p.height) for p in one.pills], high)
        cells = [part(wide - one.width, share, port) for share, port in zip(shares, ports, strict=True)]
        first = part(one.width, high, f' ROWSPAN="{len(cells)}"')
        rows = [first + cells[0], *cells[1:]]
    else:
        shares = _shares([(p.x, p.width) for p in one.pills], wide)
        cells = [part(share, high - one.height, port) for share, port in zip(shares, ports, strict=True)]
        rows = [part(wide, one.height, f' COLSPAN="{len(cells)}"'), "".join(cells)]
    return f"<TABLE {BARE}>" + "".join(f"<TR>{row}</TR>" for row in rows) + "</TABLE>"


def _shares(pills: list[tuple[float, float]], total: float) -> list[float]:
    """The parts of a side that are each pill's, with equal gaps: whole lengths that add up to the total."""
    gap = (total - sum(size for _, size in pills)) / len(pills)
    ends = [round(at + size + gap / 2) for at, size in pills]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _clusters(view: View, wires: list[Wire], headers: list[Text]) -> list[str]:
    """The frames, one inside another where folds are."""
    members, inside, parents = view.members(), view.innermost(), view.parents()
    out: list[str] = []

    def put(k: int) -> None:
        size = f'FIXEDSIZE="TRUE" WIDTH="{headers[k].width + MARGIN + 12:.0f}" HEIGHT="{HEADER}"'
        label = f"<TABLE {BARE}><TR><TD {size}></TD></TR></TABLE>"
        out.append(f"subgraph cluster_f{k} {{ margin={MARGIN}; labeljust=l; label=<{label}>;")
        out.extend(_JOINT.format(wire.target) for wire in wires if wire.fold == k)
        out.extend(f"n{box};" for box in members[k] if inside[box] == k)
        for child, parent in enumerate(parents):
            if parent == k:
                put(child)
        out.append("}")

    for k, parent in enumerate(parents):
        if parent < 0:
            put(k)
    return out


def _run(source: str) -> Any:
    """What Graphviz makes of DOT, in its JSON form."""
    try:
        import pygraphviz  # type: ignore[import-untyped]
    except ImportError:
        raise NetError("drawing needs libraries", hint="pip install 'netcompiler[draw]'") from None
    with contextlib.redirect_stderr(io.StringIO()):  # it says of every large graph that it may take long
        data = pygraphviz.AGraph(string=source).draw(prog="dot", format="json")
    return json.loads(data)
