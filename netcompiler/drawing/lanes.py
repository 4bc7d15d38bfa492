"""Edges too long to find a way through a net -> buses beside it, as in a circuit diagram.

Graphviz needs a place for an edge in every rank that it passes. Where a net is densely connected (each layer reads all
before it) these are many times the boxes: it takes minutes, and nobody can follow the result. Then the longest edges run
beside the net: each top has one lane, each reader one branch, with a dot where the two are joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeVar

from .cards import Card
from .folding import View
from .model import Edge

Point = tuple[float, float]
K = TypeVar("K")
PLACES = 4, 800  # that edges may take, for each box and in any case
LONG = 4  # ranks that the edges left to Graphviz may pass where that is too much
LANE = 9.0  # between lanes
TURN = 5.0  # of an arrowhead, along its line


@dataclass(frozen=True, slots=True)
class Bus:
    """A lane from a top past all of its readers, or a branch into one of these: corners of a line, and its arrowhead.

    dots: where lanes are joined to a branch.
    """

    edges: tuple[Edge, ...]
    points: tuple[Point, ...]
    head: tuple[Point, ...] = ()
    dots: tuple[Point, ...] = ()


def without_long(view: View) -> tuple[list[Edge], list[Edge]]:
    """The edges that Graphviz is to route, and the longest ones, which would be too much for it; mostly none."""
    ranks = view.ranks()
    spans = [ranks[edge.target] - ranks[edge.source] - 1 for edge in view.edges]
    most = LONG if sum(spans) > PLACES[0] * len(view.boxes) + PLACES[1] else len(ranks)
    short = [edge for edge, span in zip(view.edges, spans, strict=True) if span <= most]
    return short, [edge for edge, span in zip(view.edges, spans, strict=True) if span > most]


Placed = Mapping[int, tuple[Card, float, float]]


def buses(
    edges: Sequence[Edge], placed: Placed, size: tuple[float, float], across: bool
) -> tuple[list[Bus], float, float]:
    """The buses of these edges, and the size of the whole with them."""
    width, height = size
    if not edges:
        return [], width, height
    turn = itemgetter(1, 0) if across else itemgetter(0, 1)  # below, "down" is the way that the net runs

    def down(box: int) -> tuple[float, float]:
        _, x, y = placed[box]
        start = turn((x, y))[1]
        return start, start + turn(placed[box][0].cell)[1]

    gaps = _gaps([down(box) for box in placed], turn(size)[1])
    side = turn(size)[0]
    leaving: dict[tuple[int, int], list[Edge]] = {}
    entering: dict[int, list[Edge]] = {}
    for edge in edges:
        leaving.setdefault((edge.source, edge.top), []).append(edge)
        entering.setdefault(edge.target, []).append(edge)
    branch_at = _shares({box: _gap(gaps, down(box)[0], False) for box in entering}, 0.55, 0.95)
    lane_at = _shares({key: _gap(gaps, down(key[0])[1], True) for key in leaving}, 0.1, 0.5)
    lanes = _lanes({key: (lane_at[key], max(branch_at[e.target] for e in group)) for key, group in leaving.items()})
    out = []
    for key, group in leaving.items():
        card, x, y = placed[key[0]]
        pill = card.pills[key[1]]
        start = turn((x + pill.x + pill.width / 2, y + pill.y + pill.height / 2))[0]
        lane, end = side + LANE * (lanes[key] + 2), max(branch_at[e.target] for e in group)
        corners = [(start, down(key[0])[1]), (start, lane_at[key]), (lane, lane_at[key]), (lane, end)]
        out.append(Bus(tuple(group), tuple(map(turn, corners))))
    for box, group in entering.items():
        card, x, y = placed[box]
        at = branch_at[box]
        feeding = sorted({side + LANE * (lanes[e.source, e.top] + 2) for e in group})
        middle = turn((x, y))[0] + turn(card.cell)[0] * 0.75
        tip = down(box)[0]
        head = [(middle - 2.2, tip - TURN), (middle, tip), (middle + 2.2, tip - TURN)]
        points = [(feeding[-1], at), (middle, at), (middle, tip - TURN)]
        dots = tuple(turn((lane, at)) for lane in feeding)
        out.append(Bus(tuple(group), tuple(map(turn, points)), tuple(map(turn, head)), dots))
    wide, high = (
        side + LANE * (max(lanes.values()) + 3),
        max(turn(size)[1], *(p[1] for b in out for p in map(turn, b.points))),
    )
    width, height = turn((wide, high))
    return out, width, height


def _gaps(spans: list[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """What lies between ranks, where no box stands, from one end of the net to the other."""
    gaps, reached = [], -24.0
    for start, stop in sorted(spans):
        if start > reached:
            gaps.append((reached, start))
        reached = max(reached, stop)
    return [*gaps, (reached, max(reached, end) + 24.0)]


def _gap(gaps: list[tuple[float, float]], at: float, below: bool) -> tuple[float, float]:
    """The first gap below a place, or the last one above it."""
    if below:
        return next(gap for gap in gaps if gap[0] >= at - 0.5)
    return next(gap for gap in reversed(gaps) if gap[1] <= at + 0.5)


def _shares(wanted: dict[K, tuple[float, float]], first: float, last: float) -> dict[K, float]:
    """A place of its own in its gap for each that wants one, between these parts of the gap."""
    users: dict[tuple[float, float], list[K]] = {}
    for key, gap in wanted.items():
        users.setdefault(gap, []).append(key)
    found = {}
    for (start, stop), keys in users.items():
        for k, key in enumerate(keys):
            found[key] = start + (stop - start) * (first + (last - first) * (k + 0.5) / len(keys))
    return found


def _lanes(spans: dict[K, tuple[float, float]]) -> dict[K, int]:
    """A lane for each span, such that no two meet in one."""
    ends: list[float] = []
    found = {}
    for key, (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        free = next((k for k, end in enumerate(ends) if end < start), len(ends))
        if free == len(ends):
            ends.append(stop)
        ends[free] = stop
        found[key] = free
    return found
