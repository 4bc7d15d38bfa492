"""Two graphs -> what differs: layers matched by name and then by structure, their settings, shapes, figures and weights.

A Diff says nothing about how it is shown: text, JSON and pictures are made from it, in the words at the end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import SequenceMatcher
from fractions import Fraction
from math import isfinite
from typing import Any
from zlib import crc32

import numpy as np

from . import stats
from .fillers import Filler
from .graph import UNKNOWN, Array, Graph, Node, Shape, Value, dims
from .layers import Layer
from .layers.base import InputLayer, short_number
from .layers.opaque import Opaque

Plain = str | int | float | bool | None
Blobs = Mapping[str, Sequence[Array]]
STATUSES = ("changed", "added", "removed", "affected", "training", "renamed", "same")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that two layers, or two nets, do not have in common; None: not known, or not there."""

    what: str
    a: Plain
    b: Plain


@dataclass(frozen=True, slots=True)
class WeightChange:
    """How far one blob of two layers differs.

    largest: the largest difference of two values; None where the shapes differ, or a value of one is no number.
    relative: that, by the largest magnitude in the first; None where this is 0.
    """

    blob: str
    a: Shape
    b: Shape
    equal: bool
    largest: float | None = None
    relative: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer of one net and its counterpart in the other, each by its index in its graph; None: it has none.

    status: changed: by its type, settings or bottoms;  affected: not itself, but its shapes or figures by other layers;
    training: only how it learns;  renamed: nothing but names differ;  same;  added, removed: only one of the two is there.
    changes: its own.  effects: its shapes and figures, or that it is understood in one of the nets only.
    training: fillers, multipliers, where gradients go.  names: of the layer and its tops.  weights: where both have any.
    """

    status: str
    a: int | None
    b: int | None
    changes: tuple[Change, ...] = ()
    effects: tuple[Change, ...] = ()
    training: tuple[Change, ...] = ()
    names: tuple[Change, ...] = ()
    weights: tuple[WeightChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Diff:
    """What `compare` found. pairs: in the order of the nets, removed layers where they stood.

    changes: of the nets as a whole.  weighed: how many blobs were compared.
    """

    a: Graph
    b: Graph
    pairs: tuple[Pair, ...]
    changes: tuple[Change, ...]
    totals: tuple[stats.Totals, stats.Totals]
    per_image: tuple[stats.TotalsPerImage, stats.TotalsPerImage]
    weighed: int = 0

    @property
    def equal(self) -> bool:
        """Whether nothing differs, not even a name."""
        weights = (w.equal for pair in self.pairs for w in pair.weights)
        return not self.changes and all(pair.status == "same" for pair in self.pairs) and all(weights)

    def count(self) -> dict[str, int]:
        """How many layers there are of each status."""
        found = [pair.status for pair in self.pairs]
        return {status: found.count(status) for status in STATUSES}

    def as_json(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return {
            "equal": self.equal,
            "a": _net_as_json(self.a, self.totals[0], self.per_image[0]),
            "b": _net_as_json(self.b, self.totals[1], self.per_image[1]),
            "changes": [asdict(change) for change in self.changes],
            "counts": self.count(),
            "weights_compared": self.weighed,
            "layers": [self._pair_as_json(pair) for pair in self.pairs],
        }

    def _pair_as_json(self, pair: Pair) -> dict[str, Any]:
        told = asdict(pair)
        for side, graph in (("a", self.a), ("b", self.b)):
            i = told.pop(side)
            told[side] = None if i is None else _node_as_json(graph.nodes[i])
        return told


def compare(a: Graph, b: Graph, blobs_a: Blobs | None = None, blobs_b: Blobs | None = None) -> Diff:
    """What differs between two nets, built whole or in part.

    blobs_a, blobs_b: `{layer: [arrays]}`; the weights are compared where both are given.
    Where the batches differ, that is told of the nets, and shapes and figures of layers are compared for one image.
    """
    rows = stats.figures(a), stats.figures(b)
    totals = stats.totals(a, rows[0]), stats.totals(b, rows[1])
    batches = (totals[0].images, totals[1].images) if totals[0].images != totals[1].images else (1, 1)
    both = _Both(a, b, rows, batches)
    pairs, weighed = [], 0
    for i, j in _in_order(both.matched, len(a.nodes), len(b.nodes)):
        if i is None or j is None:
            pairs.append(Pair("added" if i is None else "removed", i, j))
            continue
        weights: tuple[WeightChange, ...] = ()
        if blobs_a is not None and blobs_b is not None:
            weights = tuple(_weigh(a.nodes[i], b.nodes[j], blobs_a, blobs_b))
            weighed += len(weights)
        pairs.append(both.pair(i, j, weights))
    changes = _unequal(
        ("name", a.name, b.name),
        ("phase", a.phase, b.phase),
        ("batch", totals[0].images, totals[1].images),
        ("faults", len(a.faults), len(b.faults)),
    )
    shares = [stats.totals_per_image(t, r) for t, r in zip(totals, rows, strict=True)]
    return Diff(a, b, tuple(pairs), changes, totals, (shares[0], shares[1]), weighed)


def match(a: Sequence[Node], b: Sequence[Node]) -> list[tuple[int, int]]:
    """Which layers of two nets are each other's counterparts, by index.

    First those of one name. Between those that stand in the same order, what is left: the longest runs of layers alike
    in type, settings and shapes, then in type and settings, then in type, then in what they are for and make.
    """
    places: dict[str, list[int]] = {}
    for j, node in enumerate(b):
        places.setdefault(node.name, []).append(j)
    found = []
    for i, node in enumerate(a):
        if places.get(node.name):
            found.append((i, places[node.name].pop(0)))
    for key in _KEYS:
        for free_a, free_b in _gaps(found, len(a), len(b)):
            runs = SequenceMatcher(None, [key(a[i]) for i in free_a], [key(b[j]) for j in free_b], autojunk=False)
            for run in runs.get_matching_blocks():
                found += ((free_a[run.a + k], free_b[run.b + k]) for k in range(run.size))
    return sorted(found)


def _settings(node: Node) -> Hashable:
    return node.layer.kind, tuple(node.layer.settings().items())


_KEYS: tuple[Callable[[Node], Hashable], ...] = (
    lambda node: (_settings(node), node.top_shapes),
    _settings,
    lambda node: node.layer.kind,
    lambda node: (node.layer.category, *(v.blob for v in node.tops[:1])),
)


def _gaps(pairs: list[tuple[int, int]], n_a: int, n_b: int) -> list[tuple[list[int], list[int]]]:
    """What is not matched on either side, from one pair to the next of those that stand in the same order."""
    taken_a, taken_b = ({pair[side] for pair in pairs} for side in (0, 1))
    gaps, start_a, start_b = [], 0, 0
    for stop_a, stop_b in (*increasing(pairs), (n_a, n_b)):
        free_a = [i for i in range(start_a, stop_a) if i not in taken_a]
        free_b = [j for j in range(start_b, stop_b) if j not in taken_b]
        if free_a and free_b:
            gaps.append((free_a, free_b))
        start_a, start_b = stop_a + 1, stop_b + 1
    return gaps


def increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most of the pairs that stand in one order on both sides: a longest increasing subsequence."""
    ends: list[int] = []  # the least b that a run of each length ends with
    tails: list[int] = []  # and the pair that it belongs to
    before: dict[int, int] = {}
    ordered = sorted(pairs)
    for k, (_, b) in enumerate(ordered):
        length = bisect_left(ends, b)
        ends[length : length + 1] = [b]
        tails[length : length + 1] = [k]
        before[k] = tails[length - 1] if length else -1
    run, k = [], tails[-1] if tails else -1
    while k >= 0:
        run.append(ordered[k])
        k = before[k]
    return run[::-1]


def _in_order(pairs: list[tuple[int, int]], n_a: int, n_b: int) -> Iterator[tuple[int | None, int | None]]:
    """All layers in the order of the second net; those that only the first has, behind what stood before them there."""
    partner = {j: i for i, j in pairs}
    kept = set(partner.values())
    gone = [i for i in range(n_a) if i not in kept]
    anchors = {j for _, j in increasing(pairs)}
    for j in range(n_b):
        if j in anchors:
            while gone and gone[0] < partner[j]:
                yield gone.pop(0), None
        yield partner.get(j), j
    for i in gone:
        yield i, None


class _Both:
    """Two graphs and which of their layers belong together."""

    def __init__(
        self, a: Graph, b: Graph, rows: tuple[list[stats.Figures], list[stats.Figures]], batches: tuple[int, int]
    ) -> None:
        self.graphs, self.rows, self.batches = (a, b), rows, batches
        self.matched = match(a.nodes, b.nodes)
        self.partner = dict(self.matched)
        self.has = set(self.partner), set(self.partner.values())
        self.made = tuple({v: (i, k) for i, n in enumerate(g.nodes) for k, v in enumerate(n.tops)} for g in (a, b))

    def pair(self, i: int, j: int, weights: tuple[WeightChange, ...]) -> Pair:
        """Two layers that belong together, and what differs."""
        a, b = self.graphs[0].nodes[i], self.graphs[1].nodes[j]
        own, training = _own_changes(a, b)
        changes, effects = (*own, *self.bottoms(a, b)), self.effects(i, j)
        names = _unequal(("name", a.name, b.name), ("tops", _blobs(a.tops), _blobs(b.tops)))
        found = {"changed": changes, "affected": effects, "training": training, "renamed": names}
        status = next((status for status, some in found.items() if some), "same")
        return Pair(status, i, j, changes, effects, training, names, weights)

    def bottoms(self, a: Node, b: Node) -> tuple[Change, ...]:
        """The bottoms that come from layers which do not belong together."""
        if len(a.bottoms) != len(b.bottoms):
            return (Change("bottoms", _blobs(a.bottoms), _blobs(b.bottoms)),)
        found = []
        for k, (x, y) in enumerate(zip(a.bottoms, b.bottoms, strict=True)):
            theirs, ours = self.origin(0, x), self.origin(1, y)
            if (theirs and (self.partner[theirs[0]], theirs[1])) != ours:
                found.append(Change("bottom" if len(a.bottoms) == 1 else f"bottom {k}", x.blob, y.blob))
        return tuple(found)

    def origin(self, side: int, value: Value) -> tuple[int, int] | None:
        """The layer that makes a value, and as which top; past layers that only one net has: they are told of already."""
        node, top = self.made[side][value]
        while node not in self.has[side]:
            bottoms = self.graphs[side].nodes[node].bottoms
            if not bottoms:
                return None
            node, top = self.made[side][bottoms[0]]
        return node, top

    def effects(self, i: int, j: int) -> tuple[Change, ...]:
        """Shapes and figures, for one image where the batches differ."""
        a, b = self.graphs[0].nodes[i], self.graphs[1].nodes[j]
        known = [not isinstance(node.layer, Opaque) for node in (a, b)]
        if known[0] != known[1]:
            return (Change("understood", *known),)
        shapes = []
        for k, (x, y) in enumerate(zip(a.tops, b.tops, strict=False)):
            if self.scaled(0, x.shape) != self.scaled(1, y.shape):
                what = "shape" if len(a.tops) == len(b.tops) == 1 else f"shape {k}"
                shapes.append(Change(what, dims(x.shape), dims(y.shape)))
        told = [self.figures(side, k) for side, k in ((0, i), (1, j))]
        return (*shapes, *_unequal(*((name, told[0][name], told[1][name]) for name in told[0])))

    def scaled(self, side: int, shape: Shape) -> object:
        if shape == UNKNOWN or not shape:
            return shape
        return (Fraction(shape[0], self.batches[side]), *shape[1:])

    def figures(self, side: int, i: int) -> dict[str, Plain]:
        row = self.rows[side][i]
        share = stats.per_image(row, self.batches[side])
        field = next((f for f in row.fields if f), None)
        return {
            "params": row.params,
            "macs": share.macs,
            "activation_bytes": share.activation_bytes,
            "field": " x ".join(map(str, field.size)) if field else None,
            "stride": " x ".join("-" if s is None else f"{s:.6g}" for s in field.stride) if field else None,
        }


def _blobs(values: Sequence[Value]) -> str:
    return ", ".join(v.blob for v in values)


def _unequal(*told: tuple[str, Plain, Plain]) -> tuple[Change, ...]:
    return tuple(Change(what, a, b) for what, a, b in told if a != b)


def _own_changes(a: Node, b: Node) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """How two layers differ by themselves, all settings as they are resolved; and what of that is for training only."""
    x, y = a.layer, b.layer
    if x.kind != y.kind:
        return (Change("type", x.kind, y.kind),), ()
    if isinstance(x, Opaque) != isinstance(y, Opaque):
        return (), ()  # one as the net writes it, the other resolved: told as an effect
    told = [{**_resolved(node.layer), **_placed(node)} for node in (a, b)]
    found = _unequal(*((name, told[0].get(name), told[1].get(name)) for name in dict.fromkeys((*told[0], *told[1]))))
    fillers = {f.name for f in fields(x) if isinstance(getattr(x, f.name), Filler)}  # type: ignore[arg-type]
    learning = _learning(a), _learning(b)
    both = ((name, learning[0][name], learning[1][name]) for name in learning[0] if name in learning[1])
    own = tuple(change for change in found if change.what not in fillers)
    return own, (*(change for change in found if change.what in fillers), *_unequal(*both))


def _resolved(layer: Layer) -> dict[str, Plain]:
    """All settings of a layer, defaults too; of a layer that is not understood, as the net writes them."""
    if isinstance(layer, Opaque):
        return dict(layer.given)
    left_out = {"shapes"} if isinstance(layer, InputLayer) else set()
    told = (f for f in fields(layer) if f.compare and f.name not in left_out)  # type: ignore[arg-type]
    return {f.name: _plain(getattr(layer, f.name)) for f in told}


def _plain(value: Any) -> Plain:
    """A setting as people write it."""
    if isinstance(value, Filler):
        rest = [f for f in fields(value) if f.name != "type" and getattr(value, f.name) != f.default]
        return ", ".join([value.type, *(f"{f.name} {short_number(str(getattr(value, f.name)))}" for f in rest)])
    if isinstance(value, tuple):
        return "x".join(str(_plain(v)) for v in value) or "none"
    if isinstance(value, bytes):
        return f"{len(value)} bytes, crc {crc32(value):08x}"
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # which equals itself, and which JSON knows
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _placed(node: Node) -> dict[str, Plain]:
    """What the net says of a layer besides its settings, where that is not the usual."""
    found: dict[str, Plain] = {}
    bottoms = {v.blob for v in node.bottoms}
    if any(v.blob in bottoms for v in node.tops):
        found["in place"] = True
    if any(node.loss_weights):
        found["loss_weight"] = "x".join(f"{w:g}" for w in node.loss_weights)
    names = [param.name for param in node.params]
    if any(names):
        found["shared params"] = ", ".join(name or "-" for name in names)
    return found


def _learning(node: Node) -> dict[str, Plain]:
    """How a layer's blobs are trained, and which bottoms take gradients."""
    found: dict[str, Plain] = {}
    specs = node.layer.blobs(node.bottom_shapes).items()
    for (blob, spec), param in zip(specs, node.params, strict=True):
        if spec.learned:
            found |= {f"{blob} lr_mult": param.lr_mult, f"{blob} decay_mult": param.decay_mult}
    return found | {"propagate_down": "all" if all(node.propagate) else "x".join(map(str, map(int, node.propagate)))}


def _weigh(a: Node, b: Node, blobs_a: Blobs, blobs_b: Blobs) -> Iterator[WeightChange]:
    """The blobs that both layers have, by index."""
    names = [*a.layer.blobs(a.bottom_shapes)] if not isinstance(a.layer, Opaque) else []
    for k, (x, y) in enumerate(zip(blobs_a.get(a.name, ()), blobs_b.get(b.name, ()), strict=False)):
        name = names[k] if k < len(names) else f"blob {k}"
        yield _difference(name, np.asarray(x), np.asarray(y))


def _difference(name: str, a: Array, b: Array) -> WeightChange:
    """Two arrays, one perhaps in the 4-D shape of old files; where both hold no number at one place, they are alike."""
    if _modern(a.shape) != _modern(b.shape):
        return WeightChange(name, a.shape, b.shape, False)
    b = b.reshape(a.shape)
    if np.array_equal(a, b):
        return WeightChange(name, a.shape, b.shape, True, 0.0, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(np.subtract(b, a, dtype=np.float64))
        apart[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
        largest, size = float(apart.max(initial=0)), float(np.abs(a).max(initial=0))
    if not np.isfinite(largest):
        return WeightChange(name, a.shape, b.shape, False)
    relative = largest / size if size and np.isfinite(size) else None
    return WeightChange(name, a.shape, b.shape, largest == 0, largest, relative)


def _modern(shape: Shape) -> Shape:
    """A shape without what old files put in front to make it 4-D."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _net_as_json(graph: Graph, totals: stats.Totals, share: stats.TotalsPerImage) -> dict[str, Any]:
    return {
        "name": graph.name,
        "phase": graph.phase,
        "totals": {**asdict(totals), "per_image": asdict(share)},
        "faults": [str(e) for fault in graph.faults for e in fault.all],
    }


def _node_as_json(node: Node) -> dict[str, Any]:
    shapes = [None if v.shape == UNKNOWN else list(v.shape) for v in node.tops]
    told = {"name": node.name, "type": node.layer.kind, "settings": node.layer.settings(), "shapes": shapes}
    return told | ({"line": node.at.line} if node.at else {})


# --- in words ---

WORDS = {
    "macs": "MACs",
    "weight_bytes": "weights",
    "activation_bytes": "activations",
    "peak_activation_bytes": "peak of activations",
    "intensity": "operations per byte",
    "field": "receptive field",
    "stride": "field's stride",
}
BYTES = ("activation_bytes", "weight_bytes", "peak_activation_bytes")
COUNTS = ("params", "macs", *BYTES)


def value_text(what: str, value: Plain) -> str:
    """One side of a Change.

    >>> value_text("macs", 25557096), value_text("weight_bytes", 96), value_text("bias_term", True), value_text("axis", None)
    ('25,557,096', '96 B', 'true', '(none)')
    """
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and what in BYTES:
        return stats.in_bytes(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.6g}" if isinstance(value, float) else visible(value) or "(none)"


def growth(a: Plain, b: Plain) -> str:
    """By how much a number grew; nothing where it did not, or is none.

    >>> growth(100, 150), growth(100, 300), growth(0, 3), growth(5, 5)
    ('+50.0 %', 'x 3', '', '')
    """
    if not isinstance(a, int | float) or not isinstance(b, int | float) or not a or not b:
        return ""
    ratio = b / a
    if not 0.5 < ratio < 2:
        return f"x {ratio:.3g}"
    return f"{100 * (ratio - 1):+.1f} %" if abs(ratio - 1) >= 0.0005 else ""


def weight_text(change: WeightChange) -> str:
    """How far two blobs differ."""
    if change.a != change.b:
        return f"{dims(change.a)} -> {dims(change.b)}"
    if change.largest is None:
        return "values that are no finite numbers"
    share = f" ({100 * change.relative:.3g} % of the largest value)" if change.relative is not None else ""
    return f"by up to {change.largest:.4g}{share}"


def totals_rows(diff: Diff) -> list[tuple[str, Plain, Plain]]:
    """What both nets are in total, for one image where the batches differ."""
    (a, b), shares = diff.totals, diff.per_image
    x, y = shares if a.images != b.images else (a, b)
    names = ("macs", "activation_bytes", "peak_activation_bytes", "intensity")
    shared: dict[str, tuple[Plain, Plain]] = {name: (getattr(x, name), getattr(y, name)) for name in names}
    shared["weight_bytes"] = a.weight_bytes, b.weight_bytes
    order = ("macs", "weight_bytes", "activation_bytes", "peak_activation_bytes", "intensity")
    return [("layers", a.layers, b.layers), ("params", a.params, b.params), *((n, *shared[n]) for n in order)]


def visible(text: str) -> str:
    """Text of a file as it may be shown: what is not printable becomes visible, and does nothing.

    >>> visible("conv\\x1b[2J")
    'conv\\\\x1b[2J'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
