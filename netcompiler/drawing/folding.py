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
TRIES = 12  # cuts of one period that are looked at, those that cross the fewest edges first


def folded(picture: Picture, least: int = 3) -> Picture:
    """The same picture with its folds: whatever repeats at least so many times. Inner folds come before outer ones."""
    return replace(picture, folds=tuple(_Search(picture, least).run())) if least > 1 else replace(picture, folds=())


@dataclass(frozen=True, slots=True)
class _Item:
    """What counts as one at some level: a box, or a fold found before. Boxes first .. first + count - 1."""

    first: int
    count: int
    label: int


class _Search:
    """Finds the folds of a picture, innermost first."""

    def __init__(self, picture: Picture, least: int) -> None:
        self.picture, self.least = picture, least
        self.reads: list[list[Place]] = [[] for _ in picture.boxes]
        self.readers: list[list[tuple[int, int]]] = [[] for _ in picture.boxes]  # of each box: (reader, top)
        for edge in picture.edges:
            self.reads[edge.target].append((edge.source, edge.top))
            self.readers[edge.source].append((edge.target, edge.top))
        self.crossing = self._crossings()
        self.labels: dict[object, int] = {}
        self.items = [_Item(box.id, 1, self.label(_label(box))) for box in picture.boxes]
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

    def run(self) -> list[Fold]:
        folds: list[Fold] = []
        again = True
        while again:
            again = False
            period = 1
            while period <= len(self.items) // self.least and self.work < WORK:
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
        regions = [(int(a), int(b) + period) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        folds, taken = [], []
        while regions:
            start, end = regions.pop()
            if end - start < period * self.least:
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
            self.items[first:end] = [_Item(members[0].first, sum(item.count for item in members), label)]
        return sorted(folds, key=lambda fold: fold.copies[0][0])

    def best(self, start: int, end: int, period: int) -> tuple[int, int, Fold] | None:
        """The first item, the number of copies, and the fold, in a region of items that are alike a period apart.

        Of all ways to cut, the one through the fewest edges.
        """
        offsets = range(min(period, end - start - period * self.least + 1))
        cuts = [(self.crossing[self.items[start + o + period].first], o) for o in offsets]
        for _, offset in sorted(cuts)[:TRIES]:
            first = start + offset
            size = sum(item.count for item in self.items[first : first + period])
            base = self.items[first].first
            copies = (end - first) // period
            key = (base, size, copies)
            if key in self.failed:
                continue
            run = self.longest(base, size, copies)
            if run is None:
                self.failed.add(key)
                continue
            skipped, count, side_by_side = run
            base += skipped * size
            members = tuple(tuple(range(base + c * size, base + (c + 1) * size)) for c in range(count))
            return first + skipped * period, count, Fold(members, self.names(members), side_by_side)
        return None

    def longest(self, base: int, size: int, copies: int) -> tuple[int, int, bool] | None:
        """Of copies of `size` boxes from box `base` on: how many to leave out, how many to fold, and in which way."""
        for side_by_side in (False, True):
            inputs = [self.inputs(base + c * size, size, 0 if side_by_side else size) for c in range(copies)]
            fits = self.alike_side_by_side if side_by_side else self.alike_in_chain
            found = (0, 0)
            start = 0
            while copies - start >= max(self.least, found[1] + 1):
                count = fits(inputs, base, size, start, copies)
                if count > found[1]:
                    found = (start, count)
                start += max(count, 1)
            if found[1] >= self.least:
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
        for copy in range(start, end):
            far = self.leaving(base + copy * size, size, 2 * size)
            if far:  # then it is the last one, if what is read elsewhere is what it would pass on
                return copy - start + (far <= passed)
        return end - start - (not self.leaving(base + (end - 1) * size, size, size) <= passed)

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
