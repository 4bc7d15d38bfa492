"""Graph -> figures per layer and in total: sums of what the layers themselves answer. docs/figures.md defines each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from .graph import UNKNOWN, Graph, Node, Value
from .layers.opaque import Opaque
from .windows import NOTHING, SAME, Window, Windows

FLOAT = 4  # bytes of one value as Caffe holds it


@dataclass(frozen=True, slots=True)
class Field:
    """A blob's receptive field: the part of an input that one of its pixels is made of, one number for each axis.

    input: the blob, the first of the net's inputs with height and width that this one is made of.
    size: pixels of the input from the first to the last, padding included; of the pixel that has most.
    stride: how far apart the fields of neighbours lie, in pixels of the input; None where they do not move evenly, as of
    a pixel that is made of the whole image.
    centre: the middle of pixel 0's field, in pixels of the input, whose own pixel 0 has its middle at 0.
    """

    input: str
    size: tuple[int, ...]
    stride: tuple[float | None, ...]
    centre: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """One layer's numbers; all None for a layer that is not understood, in a graph that was built in part.

    params: learned values that this layer owns; a shared array counts at its first layer, BatchNorm's statistics at none.
    macs: multiply-accumulates of Convolution, Deconvolution, InnerProduct and recurrent layers; bias and element-wise
    work do not count.
    weight_bytes: all blobs that the layer owns, statistics too.
    activation_bytes: its tops; 0 where they stand in the memory of its bottoms.
    moved_weight_bytes, moved_activation_bytes: what it reads and writes: all its blobs, shared ones too; bottoms and tops.
    fields: the receptive field of each top; None for one that is not made of an image.
    """

    params: int | None = None
    macs: int | None = None
    weight_bytes: int | None = None
    activation_bytes: int | None = None
    moved_weight_bytes: int | None = None
    moved_activation_bytes: int | None = None
    fields: tuple[Field | None, ...] = ()

    @property
    def known(self) -> bool:
        """Whether the layer is understood, and counted in totals."""
        return self.macs is not None

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity: two operations for each multiply-accumulate, per byte that the layer moves."""
        return intensity([self], 1)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a graph, and the peak of activation bytes when each blob is freed after its last reader.

    layers: all of them.  unknown: those of which nothing is known; where there are any, the sums are lower bounds.
    images: the batch, the first dim of the first input with height and width, or else of the first input.
    intensity: of the layers one by one, each reading its bottoms and writing its tops.
    """

    layers: int
    params: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    peak_activation_bytes: int
    unknown: int = 0
    images: int = 1
    intensity: float | None = None


@dataclass(frozen=True, slots=True)
class PerImage:
    """The figures that grow with the batch, for one image of it. The intensity is that of a batch of one."""

    macs: float | None
    activation_bytes: float | None
    intensity: float | None


@dataclass(frozen=True, slots=True)
class TotalsPerImage(PerImage):
    """A net's, with its peak."""

    peak_activation_bytes: float | None


def figures(graph: Graph) -> list[Figures]:
    """The figures of each node, in the graph's order."""
    owners, home, seen = graph.owners(), _homes(graph), fields(graph)
    return [_figures(node, owners, home, seen) for node in graph.nodes]


def totals(graph: Graph, rows: list[Figures] | None = None) -> Totals:
    """The sums that a net is known by. rows: the graph's figures, where they are at hand."""
    rows = figures(graph) if rows is None else rows
    return Totals(
        len(graph.nodes),
        sum(r.params or 0 for r in rows),
        sum(r.macs or 0 for r in rows),
        sum(r.weight_bytes or 0 for r in rows),
        sum(r.activation_bytes or 0 for r in rows),
        peak_activation_bytes(graph),
        sum(not r.known for r in rows),
        images(graph),
        intensity(rows, 1),
    )


def per_image(figures: Figures, images: int) -> PerImage:
    """One layer's share of one image."""
    macs, held = figures.macs, figures.activation_bytes
    return PerImage(_share(macs, images), _share(held, images), intensity([figures], images))


def totals_per_image(totals: Totals, rows: list[Figures]) -> TotalsPerImage:
    """A net's share of one image."""
    n = totals.images
    macs, held, peak = (_share(v, n) for v in (totals.macs, totals.activation_bytes, totals.peak_activation_bytes))
    return TotalsPerImage(macs, held, intensity(rows, n), peak)


def _share(figure: int | None, images: int) -> float | None:
    if figure is None:
        return None
    return figure // images if figure % images == 0 else figure / images


def images(graph: Graph) -> int:
    """The batch that the graph is built for."""
    shapes = [v.shape for v in _sources(graph)] + [v.shape for v in graph.inputs()]
    return next((max(shape[0], 1) for shape in shapes if shape), 1)


def intensity(rows: Iterable[Figures], images: int) -> float | None:
    """Operations per byte moved, in those layers that are known, for one image out of `images`."""
    macs = moved = 0
    for row in rows:
        macs += row.macs or 0
        moved += images * (row.moved_weight_bytes or 0) + (row.moved_activation_bytes or 0)
    return 2 * macs / moved if moved else None


def _figures(
    node: Node, owners: dict[str, tuple[Node, int]], home: dict[Value, Value], seen: dict[Value, Field]
) -> Figures:
    shapes = node.bottom_shapes, node.top_shapes
    if UNKNOWN in (*shapes[0], *shapes[1]) or isinstance(node.layer, Opaque):
        return Figures(fields=(None,) * len(node.tops))
    params = held = used = 0
    specs = node.layer.blobs(node.bottom_shapes).values()
    for i, (spec, param) in enumerate(zip(specs, node.params, strict=True)):
        owner, index = owners.get(param.name, (node, i))
        used += spec.count
        if owner is node and index == i:
            held += spec.count
            params += spec.count if spec.learned else 0
    macs = node.layer.macs(*shapes) if node.layer.counted else 0
    written = _bytes(v.shape for v in node.tops if home[v] == v)
    moved = _bytes((*shapes[0], *shapes[1]))
    return Figures(params, macs, FLOAT * held, written, FLOAT * used, moved, tuple(seen.get(v) for v in node.tops))


def _bytes(shapes: Iterable[tuple[int, ...]]) -> int:
    """Of blobs of these shapes; an unknown one adds nothing."""
    return FLOAT * sum(prod(shape) for shape in shapes if shape != UNKNOWN)


def _homes(graph: Graph) -> dict[Value, Value]:
    """For each value, the one in whose memory it stands: itself, unless its layer works in place or looks at its bottom."""
    home: dict[Value, Value] = {}
    for node in graph.nodes:
        stands = {v.blob: home[v] for v in node.bottoms}
        for top in node.tops:
            shared = home[node.bottoms[0]] if node.layer.views else stands.get(top.blob)
            home[top] = shared or top
    return home


def peak_activation_bytes(graph: Graph) -> int:
    """The most bytes of blobs alive at once in a forward: from a blob's maker to its last reader; outputs to the end."""
    home, last = _homes(graph), dict[Value, int]()
    for i, node in enumerate(graph.nodes):
        for value in (*node.bottoms, *node.tops):
            last[home[value]] = i
    last.update((home[v], len(graph.nodes)) for v in graph.outputs)
    let_go: dict[int, list[Value]] = {}
    for value, i in last.items():
        let_go.setdefault(i, []).append(value)
    held = peak = 0
    for i, node in enumerate(graph.nodes):
        held += _bytes(v.shape for v in node.tops if home[v] == v)
        peak = max(peak, held)
        held -= _bytes(v.shape for v in let_go.get(i, ()))
    return peak


def fields(graph: Graph) -> dict[Value, Field]:
    """The receptive field of each value that is made of an image."""
    sources = _sources(graph)
    return {v: _field(found, sources) for v, found in reaches(graph).items() if found}


def reaches(graph: Graph) -> dict[Value, dict[Value, Windows]]:
    """For each value and each image that it is made of: the windows of that image, one for each of its axes.

    Where branches meet, a pixel's field is the smallest rectangle that holds its fields in all of them.
    """
    found: dict[Value, dict[Value, Windows]] = {v: {v: (SAME,) * (len(v.shape) - 2)} for v in _sources(graph)}
    for node in graph.nodes:
        for j, top in enumerate(node.tops):
            if top not in found:
                found[top] = _reach(node, j, found) if top.shape != UNKNOWN else {}
    return found


def _sources(graph: Graph) -> list[Value]:
    """The images that come into a net: values with height, width or the like, that a layer makes of nothing."""
    first = [n for n in graph.nodes if not n.bottoms and not n.layer.blobs(())]
    return [v for n in first for v in n.tops if len(v.shape) > 2]


def _reach(node: Node, top: int, reach: dict[Value, dict[Value, Windows]]) -> dict[Value, Windows]:
    """The windows of each source that a pixel of a node's top is made of."""
    value, layer, found = node.tops[top], node.layer, dict[Value, Windows]()
    silent = layer.silent(len(node.bottoms))
    for i, bottom in enumerate(node.bottoms):
        if i in silent or not reach[bottom]:
            continue
        windows = layer.windows(node.bottom_shapes, node.top_shapes, i, top)
        if windows == NOTHING:
            continue
        if windows is None:
            windows = tuple(map(Window.whole, bottom.shape[2:]))
        sizes = value.shape[2:]
        for source, inner in reach[bottom].items():
            outer = _through(windows, inner, sizes)
            found[source] = _union(found[source], outer, sizes) if source in found else outer
    return found


def _through(outer: Windows, inner: Windows, sizes: tuple[int, ...]) -> Windows:
    """Axis by axis. An axis that the bottom does not have keeps its window, which is the same for all pixels."""
    return tuple(
        outer[k].after(window, _size(sizes, k)) if k < len(outer) else window for k, window in enumerate(inner)
    )


def _union(a: Windows, b: Windows, sizes: tuple[int, ...]) -> Windows:
    return tuple(x.beside(y, _size(sizes, k)) for k, (x, y) in enumerate(zip(a, b, strict=True)))


def _size(sizes: tuple[int, ...], axis: int) -> int:
    return sizes[axis] if axis < len(sizes) else 1


def _field(found: dict[Value, Windows], sources: list[Value]) -> Field:
    source = next(v for v in sources if v in found)
    windows = found[source]
    return Field(
        source.blob,
        tuple(w.size for w in windows),
        tuple(float(w.stride) if w.stride else None for w in windows),
        tuple(float(w.centre) for w in windows),
    )


def in_bytes(count: float) -> str:
    """A number of bytes as people write it.

    >>> in_bytes(96), in_bytes(602112), in_bytes(3.2e9)
    ('96 B', '602.1 kB', '3.2 GB')
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
