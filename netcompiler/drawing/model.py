"""Graph -> Picture: what there is to see of a net, as plain data that every kind of picture is made from.

A box is a layer with the in-place layers that work on its top stacked into it, in their order. Nothing here knows where
anything will stand, or any layer type.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .. import stats
from ..errors import NetError, Span
from ..graph import UNKNOWN, Graph, Node, Shape, Value, dims
from ..layers import registry


@dataclass(frozen=True, slots=True)
class Row:
    """One layer.

    layer: its index in the graph.  text: the settings that matter, in short.  settings: all that differ from defaults.
    blobs: the shapes of its learned arrays.  figures: what stats tells.  file, first, last: where it is written; lines
    count from 1, 0: not known.  fault: why it is not understood; empty where it is.
    """

    layer: int
    name: str
    kind: str
    category: str
    text: str
    settings: dict[str, str]
    blobs: dict[str, Shape]
    figures: dict[str, Any]
    file: str = ""
    first: int = 0
    last: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Top:
    """What a box hands on. shape: None where it is not known.  output: whether nobody reads it."""

    blob: str
    shape: Shape | None
    output: bool


@dataclass(frozen=True, slots=True)
class Box:
    """A layer and those stacked into it; `id` is its index in the Picture.

    loss: whether it counts in the loss.  opaque: whether one of its layers is not understood.
    """

    id: int
    rows: tuple[Row, ...]
    tops: tuple[Top, ...]
    loss: bool = False
    opaque: bool = False

    @property
    def name(self) -> str:
        return self.rows[0].name

    @property
    def category(self) -> str:
        return self.rows[0].category

    def figure(self, name: str) -> int:
        """The sum of a figure over the layers of the box."""
        return sum(row.figures.get(name) or 0 for row in self.rows)


@dataclass(frozen=True, slots=True)
class Edge:
    """Box `target` reads, as its bottom of that index, a top of box `source`.

    label: whether it never carries a gradient back, as those of labels do.
    """

    source: int
    top: int
    target: int
    bottom: int
    label: bool = False


@dataclass(frozen=True, slots=True)
class Fold:
    """Equal structures, one after the other or side by side; all copies have equal boxes at equal places.

    copies: the ids of their boxes.  names: what the copies are called.  kin: what the block right before a chain is called, if
    it is of their types, but has other settings, or a box or two more, such as a projection.  Folds may lie within each other.
    """

    copies: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    side_by_side: bool = False
    kin: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """All that there is to see of a net; which folds are shown closed is for those to say who draw it."""

    name: str
    phase: str
    totals: dict[str, Any]
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    folds: tuple[Fold, ...] = ()
    faults: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return asdict(self)


def picture(graph: Graph) -> Picture:
    """The picture of a graph, with nothing folded."""
    figures = stats.figures(graph)
    stacks, home = _stacks(graph)
    faults = _faults(graph)
    read = {value for node in graph.nodes for value in node.bottoms}
    boxes, edges = [], []
    for i, stack in enumerate(stacks):
        nodes = [graph.nodes[k] for k in stack]
        rows = tuple(_row(k, graph.nodes[k], figures[k], faults.get(k, "")) for k in stack)
        tops = tuple(Top(v.blob, None if v.shape == UNKNOWN else v.shape, v not in read) for v in nodes[-1].tops)
        loss = any(weight for node in nodes for weight in node.loss_weights)
        boxes.append(Box(i, rows, tops, loss, any(row.fault for row in rows)))
        count = len(nodes[0].bottoms)
        known = registry.get(nodes[0].layer.kind, nodes[0].layer)
        labels = known.silent(count)
        edges += [Edge(*home[value], i, k, k in labels) for k, value in enumerate(nodes[0].bottoms)]
    totals = {k: v for k, v in asdict(stats.totals(graph, figures)).items() if v is not None}
    told = tuple(str(fault) for error in graph.faults for fault in error.all)
    return Picture(graph.name, graph.phase, totals, tuple(boxes), tuple(edges), faults=told)


def _stacks(graph: Graph) -> tuple[list[list[int]], dict[Value, tuple[int, int]]]:
    """The layers of each box, by index; and for each value its box and its place among the tops."""
    readers = Counter(value for node in graph.nodes for value in node.bottoms)
    stacks: list[list[int]] = []
    home: dict[Value, tuple[int, int]] = {}
    stackable: dict[Value, int] = {}  # the only top of a box, in which a layer in place may go on
    for i, node in enumerate(graph.nodes):
        alone = len(node.bottoms) == len(node.tops) == 1 and node.bottoms[0].blob == node.tops[0].blob
        if alone and readers[node.bottoms[0]] == 1 and node.bottoms[0] in stackable:
            box = stackable[node.bottoms[0]]
            stacks[box].append(i)
        else:
            box = len(stacks)
            stacks.append([i])
        home.update((value, (box, k)) for k, value in enumerate(node.tops))
        if len(node.tops) == 1 and node.bottoms:
            stackable[node.tops[0]] = box
    return stacks, home


def _faults(graph: Graph) -> dict[int, str]:
    """What is wrong with layers, by index: faults that name one, faults in its lines, and a type that nobody knows."""
    told = [fault for error in graph.faults for fault in error.all]
    named = {e.layer: e for e in reversed(told)}  # the first of each
    placed = [e for e in told if not e.layer]
    found: dict[int, str] = {}
    for i, node in enumerate(graph.nodes):
        mine = named.get(node.title) or next((e for e in placed if _within(e, node)), None)
        if mine:
            found[i] = mine.what
        elif node.layer.kind not in registry:
            found[i] = f'unknown layer type "{node.layer.kind}"' if node.layer.kind else "the layer has no type"
    return found


def _within(fault: NetError, node: Node) -> bool:
    """Whether a fault lies in the lines of this layer."""
    at, own = fault.at, node.at
    if own is None or not isinstance(at, Span) or at.file != own.file:
        return False
    return own.line <= at.line <= own.last and (at.line, at.column) >= (own.line, own.column)


def _row(index: int, node: Node, figures: stats.Figures, fault: str) -> Row:
    layer, at = node.layer, node.at
    return Row(
        index,
        node.name,
        layer.kind,
        layer.category,
        typeset(layer.brief()),
        layer.settings(),
        {name: spec.shape for name, spec in layer.blobs(node.bottom_shapes).items()},
        {k: v for k, v in (asdict(figures) | {"intensity": figures.intensity}).items() if v is not None},
        at.file if at else "",
        at.line if at else 0,
        max(at.last, at.line) if at else 0,
        fault,
    )


def typeset(text: str) -> str:
    """With a true multiplication sign between numbers.

    >>> typeset("3x3, max x3, 0x-1")
    '3×3, max x3, 0×-1'
    """
    return re.sub(r"(?<=\d)x(?=-?\d)", "×", text)


def shape_text(shapes: Iterable[Shape | None]) -> str:
    """A shape, or what several have in common: `1 × 64…256 × 56 × 56`.

    >>> shape_text([(1, 64, 7), (1, 96, 7), (1, 128, 7)]), shape_text([()]), shape_text([None])
    ('1 × 64…128 × 7', 'scalar', '?')
    """
    found = list(dict.fromkeys(shapes))
    known = [shape for shape in found if shape is not None]
    if len(known) < len(found) or len({len(shape) for shape in known}) != 1:
        return "?" if None in found else dims(known[0]).replace("x", "×") + " …"
    first, last = known[0], known[-1]
    sizes = [str(a) if len(set(d)) == 1 else f"{a}…{b}" for a, b, *d in zip(first, last, *known, strict=True)]
    return " × ".join(sizes) or "scalar"


def short_count(count: float) -> str:
    """A large number to three digits.

    >>> [short_count(n) for n in (7, 9408, 25557032, 11304366080)]
    ['7', '9.41k', '25.6M', '11.3G']
    """
    for unit in ("", "k", "M", "G"):
        if count < 999.5 or unit == "G":
            return f"{count:.3g}{unit}" if count < 999.5 else f"{count:,.0f}{unit}"
        count /= 1000
    raise AssertionError(count)
