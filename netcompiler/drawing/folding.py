"""Repeated structure of a Picture -> Folds, and the Picture with its folds closed.

A fold is a run of equal copies: the same layer types with the same settings, in the same order, wired in the same way;
names and shapes may differ. In a chain, what goes into a copy comes from the copy before it, or from one place outside for
all of them; nothing but what is passed on leaves a copy, except the last one. Side by side, all copies read the same
places, and the same boxes read them. So a closed fold hides no edge but those from copy to copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix

import numpy as np

from .model import Box, Edge, Fold, Picture, Top

Place = tuple[int, int]  # a box and the index of one of its tops
WORK = 3_000_000  # reads of boxes that the search looks at before it gives up; a net of 2,000 layers needs few of them
LARGE = 4  # boxes of what folds already when it comes twice
MORE = 2  # boxes that the block before a chain may have more
TRIES = 12  # cuts of one period that are looked at, those that cross the fewest edges first


def folded(picture: Picture, least: int | None = None, keys: Sequence[object] = ()) -> Picture:
    """The same picture with its folds, inner ones before outer ones: whatever repeats at least `least` times.

    None: three times, and twice where that is LARGE boxes or more, as they are seen with the folds in them closed.
    keys: for each box, what it must have in common with its copies besides.
    """
    return replace(picture, folds=() if least is not None and least < 2 else tuple(_Search(picture, least, keys).run()))


@dataclass(frozen=True, slots=True)
class _Item:
    """What counts as one at some level: a box, or a fold found before. Boxes first .. first + count - 1.

    seen: how many of them are, when folds are closed.
    """

    first: int
    count: int
    seen: int
    label: int


class _Search:
    """Finds the folds of a picture, innermost first."""

    def __init__(self, picture: Picture, least: int | None, keys: Sequence[object] = ()) -> None:
        self.picture, self.least = picture, least
        self.reads: list[list[Place]] = [[] for _ in picture.boxes]
        self.readers: list[list[tuple[int, int]]] = [[] for _ in picture.boxes]  # of each box: (reader, top)
        for edge in picture.edges:
            self.reads[edge.target].append((edge.source, edge.top))
            self.readers[edge.source].append((edge.target, edge.top))
        self.crossing = self._crossings()
        self.labels: dict[object, int] = {}
        found = [(_label(box), keys[box.id] if keys else None) for box in picture.boxes]
        self.items = [_Item(k, 1, 1, self.label(what)) for k, what in enumerate(found)]
        self.work = 0
        self.failed: set[tuple[int, int, int]] = set()

    def label(self, what: object) -> int:
        return self.labels.setdefault(what, len(self.labels))

    def _crossings(self) -> list[int]:
        """For each box, how many places before it are read by it or behind it."""
        change = [0] * (len(self.picture.boxes) + 1)
        last: dict[Place, int] = {}
        for edge in self.picture.edges:
            last[edge.source, edge.top] = max(edge.target, last.get((edge.source, edge.top), 0))
        for (box, _), reader in last.items():
            change[box + 1] += 1
            if reader < len(self.picture.boxes):
                change[reader + 1] -= 1
        return [int(v) for v in np.cumsum(change)]

    def enough(self, seen: int) -> int:
        """How often so many boxes must come to be folded."""
        return self.least or (2 if seen >= LARGE else 3)

    def run(self) -> list[Fold]:
        folds: list[Fold] = []
        again = True
        while again:
            again = False
            period = 1
            while period <= len(self.items) // self.enough(LARGE) and self.work < WORK:
                found = self.of_period(period)
                folds += found
                again = again or bool(found)
                period += 1
        return folds

    def of_period(self, period: int) -> list[Fold]:
        """The folds whose copies are so many items long; they become items themselves."""
        labels = np.array([item.label for item in self.items])
        same = np.concatenate(([False], labels[:-period] == labels[period:], [False]))
        edges = np.flatnonzero(same[1:] != same[:-1])
        regions = [(int(a), int(b) + period) for a, b in zip(edges[::2], edges[1::2], strict=True)][::-1]
        folds: list[Fold] = []
        taken: list[tuple[int, int, int]] = []  # from which item to which, and how many copies
        while regions:
            start, end = regions.pop()
            met = next((one for one in taken if one[0] < end and start < one[1]), None)  # regions may share a copy
            if met:
                regions += [(start, met[0]), (met[1], end)]
                continue
            if end - start < period * self.enough(LARGE):
                continue
            found = self.best(start, end, period)
            if found is None:
                continue
            first, copies, fold = found
            taken.append((first, first + period * copies, copies))
            folds.append(fold)
            regions += [(start, first), (first + period * copies, end)]
        for first, end, copies in sorted(taken, reverse=True):
            members = self.items[first:end]
            label = self.label((copies, *(item.label for item in members[:period])))
            count, seen = (
                sum(item.count for item in members),
                sum(item.seen for item in members[: len(members) // copies]),
            )
            self.items[first:end] = [_Item(members[0].first, count, seen, label)]
        return sorted(folds, key=lambda fold: fold.copies[0][0])

    def best(self, start: int, end: int, period: int) -> tuple[int, int, Fold] | None:
        """The first item, the number of copies, and the fold, in a region of items that are alike a period apart.

        Of all ways to cut, the one through the fewest edges.
        """
        offsets = range(min(period, end - start - period * self.enough(LARGE) + 1))
        cuts = [(self.crossing[self.items[start + o + period].first], o) for o in offsets]
        for _, offset in sorted(cuts)[:TRIES]:
            first = start + offset
            size = sum(item.count for item in self.items[first : first + period])
            least = self.enough(sum(item.seen for item in self.items[first : first + period]))
            base = self.items[first].first
            copies = (end - first) // period
            key = (base, size, copies)
            if key in self.failed:
                continue
            run = self.longest(base, size, copies, least)
            if run is None:
                self.failed.add(key)
                continue
            skipped, count, side_by_side = run
            base += skipped * size
            members = tuple(tuple(range(base + c * size, base + (c + 1) * size)) for c in range(count))
            kin = "" if side_by_side else self.kin(members[0], members[1])
            return first + skipped * period, count, Fold(members, self.names(members), side_by_side, kin)
        return None

    def longest(self, base: int, size: int, copies: int, least: int) -> tuple[int, int, bool] | None:
        """Of copies of `size` boxes from box `base` on: how many to leave out, how many to fold, and in which way."""
        for side_by_side in (False, True):
            inputs = [self.inputs(base + c * size, size, 0 if side_by_side else size) for c in range(copies)]
            fits = self.alike_side_by_side if side_by_side else self.alike_in_chain
            found = (0, 0)
            start = 0
            while copies - start >= max(least, found[1] + 1):
                count = fits(inputs, base, size, start, copies)
                if count > found[1]:
                    found = (start, count)
                start += max(count, 1)
            if found[1] >= least:
                return (*found, side_by_side)
        return None

    def inputs(self, base: int, size: int, reach: int) -> list[tuple[int, int, int, int]]:
        """What each read of a copy refers to: (box, 0, place in the copy), (box, 1, place in the one before), (box, 2,
        the place in the picture), each with the top's index."""
        found = []
        for box in range(base, base + size):
            for source, top in self.reads[box]:
                if source >= base:
                    found.append((box - base, 0, source - base, top))
                elif source >= base - reach:
                    found.append((box - base, 1, source - base + reach, top))
                else:
                    found.append((box - base, 2, source, top))
        self.work += len(found) + size
        return found

    def alike_in_chain(
        self, inputs: Sequence[list[tuple[int, int, int, int]]], base: int, size: int, start: int, copies: int
    ) -> int:
        """How many copies from `start` on make a chain: each reads what the one before it passes on; 0 or 1 if none."""
        if start + 1 >= copies:
            return 1
        model = inputs[start + 1]
        passed = {(place, top) for _, way, place, top in model if way == 1}
        begin = base + start * size
        if not passed or not self.enters(inputs[start], model, begin, size):
            return 1
        end = start + 2
        while end < copies and inputs[end] == model:
            end += 1
        if any(way == 2 and place >= begin for _, way, place, _ in model):
            return 1
        last = start  # one that is read further on than in the next is the last one
        while last < end - 1 and not self.leaving(base + last * size, size, 2 * size):
            last += 1
        return last - start + (self.leaving(base + last * size, size, size) <= passed)

    def enters(
        self, first: list[tuple[int, int, int, int]], model: list[tuple[int, int, int, int]], begin: int, size: int
    ) -> bool:
        """Whether the first copy reads, from one place outside each, what the others read from the copy before them."""
        if len(first) != len(model):
            return False
        sources: dict[Place, Place] = {}
        common = {(place, top) for _, way, place, top in model if way == 2}
        for mine, theirs in zip(first, model, strict=True):
            box, way, place, top = mine
            if way == 1:  # in the copy before, which is no part of the chain
                place += begin - size
            if theirs[1] == 1:
                if box != theirs[0] or way == 0 or (place, top) in common:
                    return False
                if sources.setdefault((theirs[2], theirs[3]), (place, top)) != (place, top):
                    return False
            elif (box, 2 if way else 0, place, top) != theirs:
                return False
        return len(set(sources.values())) == len(sources)

    def alike_side_by_side(
        self, inputs: Sequence[list[tuple[int, int, int, int]]], base: int, size: int, start: int, copies: int
    ) -> int:
        """How many copies from `start` on read the same places and are read by the same boxes."""
        model, begin = inputs[start], base + start * size
        if not any(way == 2 for _, way, _, _ in model):
            return 1
        end = start + 1
        while end < copies and inputs[end] == model:
            end += 1
        readers = [self.readers_outside(base + copy * size, size) for copy in range(start, end)]
        while len(readers) > 1:
            last = begin + len(readers) * size
            alike = [r == readers[0] and all(reader >= last for reader, *_ in r) for r in readers]
            if all(alike):
                return len(readers)
            readers = readers[: max(alike.index(False), 1)]
        return 1

    def leaving(self, base: int, size: int, reach: int) -> set[Place]:
        """The places of a copy that are read further on than `reach` boxes from its first."""
        self.work += size
        return {
            (box - base, top)
            for box in range(base, base + size)
            for reader, top in self.readers[box]
            if reader >= base + reach
        }

    def readers_outside(self, base: int, size: int) -> set[tuple[int, int, int]]:
        """(reader, place, top) of all reads of a copy from outside."""
        self.work += size
        return {
            (reader, box - base, top)
            for box in range(base, base + size)
            for reader, top in self.readers[box]
            if reader >= base + size
        }

    def kin(self, first: Sequence[int], second: Sequence[int]) -> str:
        """The name of the block right before a chain, if it is of the types of its copies; "" if not.

        It ends as they do, reads one place, and hands on its end alone.
        """
        end = first[0] - 1
        entering = {place for box in first for place in self.reads[box] if place[0] < first[0]}
        passed = {place for box in second for place in self.reads[box] if place[0] < second[0]}
        if len(entering) != 1 or len(passed) != 1 or entering != {(end, 0)}:
            return ""
        if _label(self.picture.boxes[end]) != _label(self.picture.boxes[passed.pop()[0]]):
            return ""
        for size in range(len(first), len(first) + MORE + 1):
            block = range(end - size + 1, end + 1)
            if block[0] < 0:
                break
            within = set(block)
            read = {place for box in block for place in self.reads[box] if place[0] not in within}
            alone = all(reader in within for box in block[:-1] for reader, _ in self.readers[box])
            kinds = iter(self.kinds(box) for box in block)
            if len(read) == 1 and alone and all(self.kinds(box) in kinds for box in first):
                return self.names([block])[0]
        return ""

    def kinds(self, box: int) -> list[str]:
        """The types of a box's layers."""
        return [row.kind for row in self.picture.boxes[box].rows]

    def names(self, copies: Sequence[Sequence[int]]) -> tuple[str, ...]:
        """What the copies are called: what the names of all their boxes begin or end with, or else their last box's name."""
        within = [[self.picture.boxes[k].name for k in copy] for copy in copies]
        begins = [commonprefix(names).rstrip(_JOINTS) for names in within]
        ends = [commonprefix([name[::-1] for name in names])[::-1].lstrip(_JOINTS) for names in within]
        for found in (begins, ends):
            if len(set(found)) == len(copies) and all(len(name) > 1 for name in found):
                return tuple(found)
        return tuple(names[-1] for names in within)


_JOINTS = "/_-. "  # what stands between the parts of a name


def _label(box: Box) -> object:
    """What boxes must have in common to be called equal. A data layer, or one with a fault, equals itself only."""
    if box.category == "data" or any(row.fault for row in box.rows):
        return box.id
    return (box.loss, len(box.tops), *((row.kind, *row.settings.items()) for row in box.rows))


@dataclass(frozen=True, slots=True)
class View:
    """What is left to see of a picture when some of its folds are closed.

    boxes: those shown; a closed fold shows its first copy.  stands_for: for each of them, the ids of all boxes that it
    stands for.  edges: between shown boxes, each once.  folds: the closed ones that are seen, outer ones first; the boxes of
    `copies[0]` that are among those shown lie in it.
    """

    picture: Picture
    boxes: tuple[Box, ...]
    stands_for: dict[int, tuple[int, ...]]
    edges: tuple[Edge, ...]
    folds: tuple[Fold, ...]

    def ranks(self) -> dict[int, int]:
        """How many edges lead to each box from one that reads nothing, at most."""
        ranks = {box.id: 0 for box in self.boxes}
        outgoing: dict[int, list[int]] = {}
        for edge in self.edges:
            outgoing.setdefault(edge.source, []).append(edge.target)
        for box in self.boxes:  # in an order in which every edge points forward
            for target in outgoing.get(box.id, ()):
                ranks[target] = max(ranks[target], ranks[box.id] + 1)
        return ranks

    def members(self) -> list[list[int]]:
        """For each fold, the boxes shown in it, those of folds inside it too."""
        shown = {box.id for box in self.boxes}
        return [[k for k in fold.copies[0] if k in shown] for fold in self.folds]

    def innermost(self) -> dict[int, int]:
        """For each box in a fold, the innermost of these."""
        return {box: k for k, boxes in enumerate(self.members()) for box in boxes}  # later ones are further in

    def parents(self) -> list[int]:
        """For each fold, the one around it; -1: none."""
        held = [set(boxes) for boxes in self.members()]
        return [max((j for j in range(k) if boxes <= held[j]), default=-1) for k, boxes in enumerate(held)]

    def shapes(self, box: Box, top: int) -> list[tuple[int, ...] | None]:
        """The shapes of a top in all boxes that this one stands for."""
        return [self.picture.boxes[k].tops[top].shape for k in self.stands_for[box.id]]

    def top(self, box: Box, index: int) -> Top:
        """A top of a box; an output where it is one in any of the boxes that this one stands for."""
        top = box.tops[index]
        return replace(top, output=any(self.picture.boxes[k].tops[index].output for k in self.stands_for[box.id]))


def view(picture: Picture, closed: Iterable[Fold] | None = None) -> View:
    """The picture with these folds closed; all of them, unless told."""
    folds = sorted(picture.folds if closed is None else closed, key=lambda f: -len(f.copies) * len(f.copies[0]))
    shown = list(range(len(picture.boxes)))  # for each box, the one shown in its place
    ends = [(edge.source, edge.target) for edge in picture.edges]
    kept = list(picture.edges)
    seen = []
    for fold in folds:
        if shown[fold.copies[0][0]] != fold.copies[0][0]:
            continue  # within a copy that is not shown
        seen.append(fold)
        copy_of = {box: k for k, copy in enumerate(fold.copies) for box in copy}
        first = {box: first for copy in fold.copies for box, first in zip(copy, fold.copies[0], strict=True)}
        shown = [first.get(box, box) for box in shown]
        left = [k for k, (a, b) in enumerate(ends) if a not in copy_of or copy_of.get(b, copy_of[a]) == copy_of[a]]
        kept = [kept[k] for k in left]
        ends = [(first.get(a, a), first.get(b, b)) for a, b in (ends[k] for k in left)]
    stands_for: dict[int, list[int]] = {}
    for box, by in enumerate(shown):
        stands_for.setdefault(by, []).append(box)
    original: dict[tuple[int, int, int], Edge] = {}
    edges = []
    for edge, (source, target) in zip(kept, ends, strict=True):
        drawn = original.setdefault((source, edge.top, target), edge)
        if (drawn.source, drawn.target) == (edge.source, edge.target):
            edges.append(replace(edge, source=source, target=target))
    return View(
        picture,
        tuple(picture.boxes[k] for k in stands_for),
        {k: tuple(v) for k, v in stands_for.items()},
        tuple(edges),
        tuple(seen),
    )
