"""Diff -> a picture of both nets side by side, what belongs together at one height, and what differs marked.

What is the same is faded. Blocks fold where all copies differ in the same way, and as far as they do so in both nets: a
closed fold hides no difference but those that its first copy shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ..compare import COUNTS, WORDS, Change, Diff, Pair, Plain, growth, totals_rows, value_text, visible, weight_text
from ..errors import NetError
from . import Drawing
from .aligning import level
from .folding import LARGE, folded
from .layout import lay_out
from .marks import KINDS, SAME, Mark
from .model import Box, Fold, Picture, picture, typeset
from .svg import Heading, Panel, Sheet, sheet
from .theme import FONTS

SUFFIXES = (".svg", ".png", ".pdf", ".html")
LOUD = ("removed", "added", "changed")
MOST_NOTES = 3  # in a box
COUNTED = {
    "same": "the same",
    "training": "in training only",
    "affected": "affected by others",
    "weights": "with other weights",
}
Files = tuple[str, str]


class Difference(Drawing):
    """Two nets side by side. `svg` is the text of the picture, `save` writes it, or a page: .svg, .png, .pdf, .html.

    files: what the two are called.
    """

    def __init__(
        self, diff: Diff, files: Files, theme: str = "auto", fold: int | None = None, expand: bool = False
    ) -> None:
        self.diff, self.files = diff, files
        self.sides = tuple(_Side(diff, side) for side in ("a", "b"))
        pictures = [side.picture for side in self.sides]
        if not expand:
            found = [folded(side.picture, fold, side.keys) for side in self.sides]
            pictures = [*_agreeing(found[0], found[1], self.partners, fold)]
        super().__init__(pictures, "TB", theme)

    @property
    def names(self) -> list[str]:
        """What the two are called in short: their paths, without the folders that both begin with."""
        parts = [Path(file).parts or (file,) for file in self.files]
        while all(len(p) > 1 for p in parts) and parts[0][0] == parts[1][0]:
            parts = [p[1:] for p in parts]
        return [visible(str(Path(*p))) for p in parts]

    @cached_property
    def partners(self) -> dict[int, int]:
        """The boxes of the second net that those of the first belong to, by the layers that they begin with, or else by any."""
        a, b = self.sides
        pairs = ((pair.a, pair.b) for pair in self.diff.pairs if pair.a is not None and pair.b is not None)
        boxes = [(2 - a.heads[i] - b.heads[j], a.box_of[i], b.box_of[j]) for i, j in pairs]
        found: dict[int, int] = {}
        taken: set[int] = set()
        for _, p, q in sorted(boxes):
            if p not in found and q not in taken:
                found[p] = q
                taken.add(q)
        return dict(sorted(found.items()))

    @cached_property
    def _panels(self) -> list[Panel]:
        a, b = (
            lay_out(seen, False, {box.id: side.mark(box) for box in seen.boxes})
            for seen, side in zip(self._views, self.sides, strict=True)
        )
        return [
            Panel(seen.picture, layout, f"{letter} · {file}")
            for letter, seen, layout, file in zip(
                "AB", self._views, level(a, b, self.partners), self.names, strict=True
            )
        ]

    @cached_property
    def anchors(self) -> list[dict[int, str]]:
        """For each net, what a page can link to for each layer: its box; in a closed fold, that of the first copy."""
        found = []
        for seen, side in zip(self._views, self.sides, strict=True):
            first = {box: by for by, boxes in seen.stands_for.items() for box in boxes}
            found.append({layer: side.anchor(first[box]) for layer, box in side.box_of.items()})
        return found

    def _sheet(self, theme: str, fonts: str) -> Sheet:
        return sheet(self._panels, theme, self.across, fonts, self.heading)

    @cached_property
    def bare(self) -> str:
        """The picture as SVG, for a page that says itself what it shows."""
        heading = Heading("", (), self.heading.label, self.heading.description)
        return sheet(self._panels, self.theme, self.across, FONTS, heading).text

    @property
    def heading(self) -> Heading:
        """What stands above the nets."""
        a, b = map(visible, self.files)
        parts = (tuple(summary(self.diff)), tuple(totals(self.diff)))
        words = ". ".join("; ".join(line) for line in parts if line)
        name = " → ".join(self.names)
        return Heading(name, tuple(line for line in parts if line), f"difference of {a} and {b}", words)

    def _data(self, path: Path) -> bytes:
        if path.suffix not in SUFFIXES:
            what = "the format of a comparison is chosen by suffix"
            raise NetError(what, at=str(path), expected=", ".join(SUFFIXES), got=path.suffix or "no suffix")
        if path.suffix == ".html":
            from .difference_page import page

            return page(self).encode()
        return super()._data(path)


def draw_difference(
    diff: Diff,
    path: str | os.PathLike[str] | None = None,
    *,
    files: Files = ("the first net", "the second net"),
    theme: str = "auto",
    fold: int | None = None,
    expand: bool = False,
) -> Difference:
    """Draw what `compare` found; theme, fold and expand as for `draw`.

    Raises: NetError for a file that cannot be written, another suffix, and a library that is missing.
    """
    drawing = Difference(diff, files, theme, fold, expand)
    if path is not None:
        drawing.save(path)
    return drawing


def kind_of(pair: Pair) -> str:
    """How a layer is marked: its status, or that its weights differ, where that is more than its status says."""
    if pair.status in (SAME, "renamed", "training") and not all(w.equal for w in pair.weights):
        return "weights"
    return pair.status


class _Side:
    """One of the two nets: its picture, and what is said of its boxes."""

    def __init__(self, diff: Diff, side: str) -> None:
        self.side = side
        self.pairs: dict[int, Pair] = {i: pair for pair in diff.pairs if (i := getattr(pair, side)) is not None}
        self.picture: Picture = picture(getattr(diff, side))
        self.box_of = {row.layer: box.id for box in self.picture.boxes for row in box.rows}
        self.heads = {row.layer: k == 0 for box in self.picture.boxes for k, row in enumerate(box.rows)}

    def kinds(self, box: Box) -> list[str]:
        return [kind_of(self.pairs[row.layer]) for row in box.rows]

    @property
    def keys(self) -> list[object]:
        """What copies in a fold must have in common: how each of their layers differs."""
        return [
            tuple((kind_of(pair), pair.changes) for row in box.rows for pair in [self.pairs[row.layer]])
            for box in self.picture.boxes
        ]

    def anchor(self, box: int) -> str:
        return f"{self.side}-{box}"

    def mark(self, box: Box) -> Mark:
        """Of a box whose layers differ in several ways: changed, if one of them is, or is there in one net only."""
        kinds = self.kinds(box)
        kind = kinds[0]
        if len(set(kinds)) > 1:
            kind = "changed" if set(kinds) & set(LOUD) else next(k for k in KINDS if k in kinds)
        notes = [
            note for k, row in enumerate(box.rows) for note in _notes(self.pairs[row.layer], row.kind if k else "")
        ]
        if len(notes) > MOST_NOTES:
            notes = [*notes[: MOST_NOTES - 1], f"and {len(notes) - MOST_NOTES + 1} more"]
        tip = "\n".join(line for row in box.rows for line in self.told(row.name, self.pairs[row.layer]))
        plain = kinds[0] == kind and set(kinds[1:]) <= {SAME} or len(set(kinds)) == 1
        return Mark(kind, () if plain else tuple(kinds), tuple(notes), tip, self.anchor(box.id))

    def told(self, name: str, pair: Pair) -> Iterator[str]:
        """For the tooltip."""
        if kind_of(pair) == SAME:
            return
        yield f"{name}: {KINDS[kind_of(pair)].words}"
        for what, text in differences(pair):
            yield f"  {what}: {text}"


def _notes(pair: Pair, kind: str) -> Iterator[str]:
    """What a layer's own settings were and are, in short."""
    for change in pair.changes:
        what = "" if change.what == "type" else f"{change.what} "
        yield f"{kind + ': ' if kind and what else ''}{what}{change_text(change)}"


def change_text(change: Change) -> str:
    """`old → new`."""
    told = f"{value_text(change.what, change.a)} → {value_text(change.what, change.b)}"
    return typeset(told.replace(" x ", " × ") if change.what.split()[0] in ("shape", "field", "stride") else told)


def growth_text(a: Plain, b: Plain) -> str:
    """By how much a number grew."""
    return growth(a, b).replace("x ", "× ")


def differences(pair: Pair) -> Iterator[tuple[str, str]]:
    """Everything that differs: what, and how."""
    for change in (*pair.changes, *pair.effects, *pair.training, *pair.names):
        by = growth_text(change.a, change.b) if change.what in COUNTS else ""
        yield WORDS.get(change.what, visible(change.what)), change_text(change) + (f" ({by})" if by else "")
    for weight in pair.weights:
        if not weight.equal:
            yield f"weights of {weight.blob}", typeset(weight_text(weight).replace("->", "→").replace(" x ", " × "))


def summary(diff: Diff) -> list[str]:
    """How many layers differ, and how the nets do as a whole."""
    if diff.equal:
        return ["no differences"]
    found = [kind_of(pair) for pair in diff.pairs]
    counts = [f"{found.count(k):,} {COUNTED.get(k, k)}" for k in ("added", "removed", "changed") if k in found]
    counts += [f"{found.count(k):,} {COUNTED.get(k, k)}" for k in (*KINDS, SAME) if k in found and k not in LOUD]
    counts += [f"{change.what} {change_text(change)}" for change in diff.changes]
    return counts


def totals(diff: Diff) -> list[str]:
    """The totals that matter most: before and after."""
    found = []
    for what, a, b in totals_rows(diff):
        if what in ("params", "macs"):
            word, by = "parameters" if what == "params" else "MACs", growth_text(a, b)
            both = value_text(what, a) if a == b else f"{value_text(what, a)} → {value_text(what, b)}"
            found.append(f"{both} {word}{f' ({by})' if by else ''}")
    least = "at least " if any(t.unknown for t in diff.totals) else ""
    more = ["for one image"] if diff.totals[0].images != diff.totals[1].images else []
    return [least + found[0], *found[1:], *more]


def _agreeing(a: Picture, b: Picture, partners: Mapping[int, int], least: int | None) -> tuple[Picture, Picture]:
    """Both pictures with the folds that they agree in: runs of copies that are each other's partners, and that fold in
    both; and folds of boxes that only one of them has."""
    itself = {j: j for j in partners.values()}
    mine, theirs = [(fold, _copies(fold, partners)) for fold in a.folds], [(f, _copies(f, itself)) for f in b.folds]
    places = {copy: (g, k) for g, (_, copies) in enumerate(theirs) for k, copy in enumerate(copies) if copy}
    kept = [[_part(f, 0, len(f.copies)) for f, copies in own if not any(copies)] for own in (mine, theirs)]
    for fold, copies in mine:
        found = [places.get(copy, (-1, -2 * n)) for n, copy in enumerate(copies)]
        start = 0
        for n in range(1, len(found) + 1):
            if n < len(found) and found[n] == (found[n - 1][0], found[n - 1][1] + 1):
                continue
            (g, k), count = found[start], n - start
            if g >= 0 and count >= (least or (2 if len(fold.copies[0]) >= LARGE else 3)):
                kept[0].append(_part(fold, start, count))
                kept[1].append(_part(theirs[g][0], k, count))
            start = n
    return replace(a, folds=tuple(kept[0])), replace(b, folds=tuple(kept[1]))


def _copies(fold: Fold, partners: Mapping[int, int]) -> list[tuple[int, ...]]:
    """The partners of all boxes of each copy that have one."""
    return [tuple(partners[k] for k in copy if k in partners) for copy in fold.copies]


def _part(fold: Fold, start: int, count: int) -> Fold:
    """Some of the copies of a fold, one after the other; the block before them may differ in another way."""
    stop = start + count
    return replace(fold, copies=fold.copies[start:stop], names=fold.names[start:stop], kin="")
