"""Two Layouts -> the same, with what belongs together at one height: room is put between ranks where the other has more."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..compare import increasing
from .layout import Layout

Cut = tuple[float, float]  # a height, and how much room is put there


@dataclass(frozen=True, slots=True)
class _Ranks:
    """The ranks of a layout from the top, as boxes stand beside one another, and where there is nothing but lines.

    rank: of each box, by id.  above: for each rank, a height between it and the one before it.
    """

    rank: dict[int, int]
    above: tuple[float, ...]


def level(a: Layout, b: Layout, partners: Mapping[int, int]) -> tuple[Layout, Layout]:
    """Both, as high as they must be for boxes of `a` to stand at the height of their partners in `b`.

    Of boxes whose order differs, as many as can be; the others stay where they are.
    """
    ranks, tops = (_ranks(a), _ranks(b)), ({card.box.id: y for card, _, y in layout.cards} for layout in (a, b))
    top_a, top_b = tops
    votes = Counter((ranks[0].rank[i], ranks[1].rank[j]) for i, j in partners.items() if i in top_a and j in top_b)
    first: dict[tuple[int, int], tuple[float, float]] = {}
    for i, j in partners.items():
        if i in top_a and j in top_b:
            first.setdefault((ranks[0].rank[i], ranks[1].rank[j]), (top_a[i], top_b[j]))
    cuts: tuple[list[Cut], list[Cut]] = [], []
    moved = [0.0, 0.0]
    for pair in increasing(_one_to_one(votes)):
        apart = first[pair][1] + moved[1] - first[pair][0] - moved[0]
        side = 0 if apart > 0 else 1
        if abs(apart) > 0.5:
            cuts[side].append((ranks[side].above[pair[side]], abs(apart)))
            moved[side] += abs(apart)
    return _stretched(a, cuts[0]), _stretched(b, cuts[1])


def _one_to_one(votes: Counter[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs of ranks, each in one pair at most: those that most boxes speak for."""
    found: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = set(), set()
    for pair, _ in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0])):
        if pair[0] not in taken[0] and pair[1] not in taken[1]:
            found.append(pair)
            taken[0].add(pair[0])
            taken[1].add(pair[1])
    return found


def _ranks(layout: Layout) -> _Ranks:
    """Boxes that overlap in height make one rank."""
    rank: dict[int, int] = {}
    above: list[float] = []
    end = float("-inf")
    for card, _, y in sorted(layout.cards, key=lambda placed: (placed[2], placed[1])):
        if y > end:
            above.append(_between(layout, end, y))
        rank[card.box.id] = len(above) - 1
        end = max(end, y + card.cell[1])
    return _Ranks(rank, tuple(above))


def _between(layout: Layout, low: float, high: float) -> float:
    """A height with room for more: in as few frames as can be, and there where most room is already."""
    if low == float("-inf"):
        return low
    edges = [edge for f in layout.frames for edge in (f.y, f.y + f.height + 8) if low < edge < high]
    stops = sorted([low, *edges, high])

    def held(at: float) -> int:
        return sum(f.y < at < f.y + f.height + 8 for f in layout.frames)

    middles = [((p + q) / 2, q - p) for p, q in zip(stops, stops[1:], strict=False)]
    return min(middles, key=lambda part: (held(part[0]), -part[1]))[0]


def _stretched(layout: Layout, cuts: list[Cut]) -> Layout:
    """With the room of each cut; what lies below it moves down."""
    if not cuts:
        return layout
    heights = [height for height, _ in cuts]
    sums = [0.0]
    for _, room in cuts:
        sums.append(sums[-1] + room)

    def down(y: float) -> float:
        return y + sums[bisect_left(heights, y)]

    def moved(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        return tuple((x, down(y)) for x, y in points)

    return replace(
        layout,
        height=layout.height + sums[-1],
        cards=tuple((card, x, down(y)) for card, x, y in layout.cards),
        lines=tuple(replace(line, points=moved(line.points), head=moved(line.head)) for line in layout.lines),
        frames=tuple(replace(f, y=down(f.y), height=down(f.y + f.height) - down(f.y)) for f in layout.frames),
        joints=moved(layout.joints),
        buses=tuple(
            replace(bus, points=moved(bus.points), head=moved(bus.head), dots=moved(bus.dots)) for bus in layout.buses
        ),
    )
