"""View -> Layout: where everything stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .cards import FOLD, FOLD_NAME, Card, Text, card, written
from .engine import CLEAR, HEADER, MARGIN, Point, Wire, places
from .folding import View
from .lanes import Bus, buses, without_long
from .marks import Mark
from .model import Edge, Fold


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
    """Cards with the upper left corners of their cells, lines and frames; all within width x height, outer frames first.

    joints: where a line parts.  buses: lines beside the net, for edges too long to find a way through it.
    """

    width: float
    height: float
    cards: tuple[tuple[Card, float, float], ...]
    lines: tuple[Line, ...]
    frames: tuple[Frame, ...]
    joints: tuple[Point, ...]
    buses: tuple[Bus, ...] = ()


STACK = 7.0  # how far the cards behind a frame reach out
FRAME_MOST = 300.0  # of a frame's header
INSET = 6.0  # between a frame and the lines inside it


def lay_out(view: View, across: bool = False, marks: Mapping[int, Mark] | None = None) -> Layout:
    """The places of all that is seen; `across`: from left to right.  marks: of boxes, by id.

    Raises: NetError where Graphviz is not installed.
    """
    if not view.boxes:
        return Layout(0, 0, (), (), (), ())
    cards = {box.id: card(box, view, across, (marks or {}).get(box.id)) for box in view.boxes}
    headers = [_header(fold) for fold in view.folds]
    short, long = without_long(view)
    wires = _labels_together(_wires(view, short), view)
    found = places(view, wires, cards, headers, across)
    placed = {}
    for box, one in cards.items():
        (x0, y0), (x1, y1) = found.nodes[f"n{box}"]
        placed[box] = one, (x0 + x1 - one.cell[0]) / 2, (y0 + y1 - one.cell[1]) / 2
    frames = [
        Frame(fold, x0, y0, x1 - x0 - STACK, y1 - y0 - STACK, text)
        for fold, text, ((x0, y0), (x1, y1)) in zip(
            view.folds, headers, (found.frames[k] for k in range(len(headers))), strict=True
        )
    ]
    members = [{f"n{box}" for box in boxes} for boxes in view.members()]
    for wire in wires:
        if wire.fold is not None:
            for k, held in enumerate(members):
                if k == wire.fold or held >= members[wire.fold]:
                    held.add(wire.target)
    lines = []
    for k, wire in enumerate(wires):
        curve, head = found.wires[k]
        around = [j for j, held in enumerate(members) if wire.source in held and wire.target in held]
        if around:
            beside = [found.nodes[name] for name in members[around[-1]] if name.startswith("n")]
            curve = _confined(curve, frames[around[-1]], beside)
        lines.append(Line(wire.edges, *_touching(curve, head, wire, placed, across)))
    joints = [_middle(found.nodes[wire.target]) for wire in wires if wire.parts]
    found_buses, width, height = buses(long, placed, (found.width, found.height), across)
    return Layout(width, height, tuple(placed.values()), tuple(lines), tuple(frames), tuple(joints), tuple(found_buses))


def _middle(corners: tuple[Point, Point]) -> Point:
    (x0, y0), (x1, y1) = corners
    return (x0 + x1) / 2, (y0 + y1) / 2


def _header(fold: Fold) -> Text:
    """What a frame says: how often, and the first and the last name; and how often with the like block before it."""
    names = f"{fold.names[0]} … {fold.names[-1]}" + (", side by side" if fold.side_by_side else "")
    if fold.kin:
        names += f" · {len(fold.copies) + 1} with {fold.kin}"
    return written([(f"× {len(fold.copies)}", FOLD), (names, FOLD_NAME)], MARGIN, 6 + HEADER * 0.75, FRAME_MOST)


def _wires(view: View, edges: Sequence[Edge]) -> list[Wire]:
    """The edges; those that come from one top into one frame come in together, and part inside it."""
    wires = [Wire(f"n{e.source}", f"n{e.target}", e.top, (e,)) for e in edges]
    joints: dict[str, int] = {}
    for k, boxes in enumerate(view.members()):
        inside = {f"n{box}" for box in boxes}
        inside |= {joint for joint, fold in joints.items() if set(view.members()[fold]) <= set(boxes)}
        entering: dict[tuple[str, int | None], list[Wire]] = {}
        for wire in wires:
            if wire.target in inside and wire.source not in inside:
                entering.setdefault((wire.source, wire.port), []).append(wire)
        parted: dict[Wire, list[Wire]] = {}
        for (source, port), group in entering.items():
            if len(group) > 1:
                joint = f"j{len(joints)}"
                joints[joint] = k
                together = Wire(source, joint, port, tuple(e for wire in group for e in wire.edges), k)
                parted |= {wire: [Wire(joint, wire.target, None, wire.edges, wire.fold)] for wire in group}
                parted[group[0]].insert(0, together)
        wires = [new for wire in wires for new in parted.get(wire, [wire])]
    return wires


def _labels_together(wires: Sequence[Wire], view: View) -> list[Wire]:
    """The same wires, but the labels that come from one top run as one line, and part above their readers."""
    ranks, framed = view.ranks(), view.innermost()
    groups: dict[tuple[str, int | None], list[Wire]] = {}
    for wire in wires:
        ends = [(edge.source, edge.target) for edge in wire.edges]
        plain = all(edge.label for edge in wire.edges) and not any(box in framed for end in ends for box in end)
        if plain and ranks[ends[0][1]] - ranks[ends[0][0]] > 1:
            groups.setdefault((wire.source, wire.port), []).append(wire)
    parted: dict[Wire, list[Wire]] = {}
    for group in groups.values():
        left = sorted(group, key=lambda wire: ranks[wire.edges[0].target])
        source, port = left[0].source, left[0].port
        while len(left) > 1:
            joint = f"jl{len(parted)}"
            here = [wire for wire in left if ranks[wire.edges[0].target] == ranks[left[0].edges[0].target]]
            parted[left[0]] = [Wire(source, joint, port, tuple(edge for wire in left for edge in wire.edges))]
            parted |= {wire: [*parted.get(wire, ()), Wire(joint, wire.target, None, wire.edges)] for wire in here}
            source, port = joint, None
            left = left[len(here) :]
        if left:
            parted[left[0]] = [Wire(source, left[0].target, port, left[0].edges)]
    return [new for wire in wires for new in parted.get(wire, [wire])]


def _touching(
    curve: Sequence[Point],
    head: Sequence[Point],
    wire: Wire,
    placed: Mapping[int, tuple[Card, float, float]],
    across: bool,
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """A curve and its head, drawn through what is clear around cells, up to these themselves."""
    points = list(curve)
    if wire.port is not None:
        card, x, y = placed[wire.edges[0].source]
        points[0] = (x + card.cell[0], points[0][1]) if across else (points[0][0], y + card.cell[1])
    if not head:
        return tuple(points), ()
    card, x, y = placed[wire.edges[0].target]
    (a, b), (right, below) = head[1], (x + card.cell[0], y + card.cell[1])
    dy = CLEAR if b < y else -CLEAR if b > below else 0
    dx = 0 if dy else CLEAR if a < x else -CLEAR if a > right else 0
    points[-2:] = [(a + dx, b + dy) for a, b in points[-2:]]
    return tuple(points), tuple((a + dx, b + dy) for a, b in head)


def _confined(curve: Sequence[Point], frame: Frame, cells: Sequence[tuple[Point, Point]]) -> tuple[Point, ...]:
    """A curve that stays in its frame: what reaches out is drawn in, as far as the cells beside it leave room."""
    points = list(curve)
    for axis, (start, size) in enumerate(((frame.x, frame.width), (frame.y, frame.height))):
        along = [p[1 - axis] for p in points]
        beside = [c for c in cells if c[0][1 - axis] < max(along) and c[1][1 - axis] > min(along)]
        for sign, limit in ((1, start + size - INSET), (-1, -start - INSET)):
            reach = max(sign * p[axis] for p in points)
            fixed = max(sign * p[axis] for p in (curve[0], curve[-1], *(c[sign > 0] for c in beside)))
            if reach <= limit or fixed >= limit:
                continue
            shrink = (limit - fixed) / (reach - fixed)
            for k, p in enumerate(points):
                if sign * p[axis] > fixed:
                    moved = sign * (fixed + (sign * p[axis] - fixed) * shrink)
                    points[k] = (moved, p[1]) if axis == 0 else (p[0], moved)
    return tuple(points)
