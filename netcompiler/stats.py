"""Graph -> figures per layer and in total: sums of what the layers themselves answer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from .graph import Graph, Node, Value

FLOAT = 4  # bytes of one value as Caffe holds it


@dataclass(frozen=True, slots=True)
class Figures:
    """One layer's numbers.

    params: learned values that this layer owns; a shared array counts at its first layer, BatchNorm's statistics at none.
    macs: multiply-accumulates of Convolution, Deconvolution, InnerProduct and recurrent layers; bias and element-wise
    work do not count.  weight_bytes: all blobs that the layer owns, statistics too.  activation_bytes: its tops; 0 for a
    layer in place, which writes where its bottom stood.
    """

    params: int
    macs: int
    weight_bytes: int
    activation_bytes: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a graph, and the peak of activation bytes when each blob is freed after its last reader."""

    layers: int
    params: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    peak_activation_bytes: int


def figures(graph: Graph) -> list[Figures]:
    """The figures of each node, in the graph's order."""
    owners = graph.owners()
    return [_figures(graph, node, owners) for node in graph.nodes]


def _figures(graph: Graph, node: Node, owners: dict[str, tuple[Node, int]]) -> Figures:
    params = held = 0
    specs = node.layer.blobs(node.bottom_shapes).values()
    for i, (spec, param) in enumerate(zip(specs, node.params, strict=True)):
        owner, index = owners.get(param.name, (node, i))
        if owner is node and index == i:
            held += spec.count
            params += spec.count if spec.learned else 0
    macs = node.layer.macs(node.bottom_shapes, node.top_shapes) if node.layer.counted else 0
    in_place = {v.blob for v in node.bottoms}
    written = sum(prod(v.shape) for v in node.tops if v.blob not in in_place)
    return Figures(params, macs, FLOAT * held, FLOAT * written)


def totals(graph: Graph) -> Totals:
    """The sums that a net is known by."""
    rows = figures(graph)
    return Totals(
        len(graph.nodes),
        sum(r.params for r in rows),
        sum(r.macs for r in rows),
        sum(r.weight_bytes for r in rows),
        sum(r.activation_bytes for r in rows),
        peak_activation_bytes(graph),
    )


def peak_activation_bytes(graph: Graph) -> int:
    """The most bytes of blobs alive at once in a forward: from a blob's maker to its last reader; outputs to the end.

    An in-place layer needs no second buffer.
    """
    last = {v: len(graph.nodes) for v in graph.outputs}
    for i, node in enumerate(graph.nodes):
        for value in node.bottoms:
            last[value] = max(i, last.get(value, i))
    alive: dict[str, Value] = {}
    peak = 0
    for i, node in enumerate(graph.nodes):
        alive.update((v.blob, v) for v in node.tops)
        peak = max(peak, FLOAT * sum(prod(v.shape) for v in alive.values()))
        alive = {b: v for b, v in alive.items() if last.get(v, i) > i}
    return peak
