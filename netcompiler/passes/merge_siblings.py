"""Merge 1 x 1 convolutions that read the same blob."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import numpy as np

from ..fillers import Filler
from ..graph import Graph, Node, ParamSpec, Value
from ..layers.convolution import Convolution
from ..layers.slice import Slice
from .affine import private


def merge_siblings(graph: Graph) -> Graph:
    """Run 1 x 1 convolutions over one blob in one call, and cut its top into theirs.

    Given:   a = Convolution x;  b = Convolution x  (both 1 x 1, with the same stride, and both with the same ReLU or none)
    Result:  m = Convolution' x;  a, b = Slice m        weight' and bias' are theirs, one after the other
    When:    neither pads, has groups or adds another bottom; gradient flows into both (propagate_down is not false); their
             blobs are bound and not shared by name; no loss weight is on their tops. They need not stand side by side: x is
             there for all of them, so the merged one stands where the first stood.
    """
    families: dict[tuple[Value, Convolution], list[Node]] = {}
    for node in graph.nodes:
        if _fits(node):
            assert isinstance(node.layer, Convolution)
            alike = replace(node.layer, num_output=1, bias_term=True, weight_filler=Filler(), bias_filler=Filler())
            families.setdefault((node.bottoms[0], alike), []).append(node)
    merged: dict[Node, tuple[Node, ...]] = {}
    taken = {v.blob for n in graph.nodes for v in n.tops}
    for nodes in families.values():
        if len(nodes) > 1:
            merged.update(dict.fromkeys(nodes[1:], ()))
            merged[nodes[0]] = _merged(nodes, taken)
    if not merged:
        return graph
    return graph.with_nodes(new for n in graph.nodes for new in merged.get(n, (n,)))


def _fits(node: Node) -> bool:
    layer = node.layer
    if not isinstance(layer, Convolution) or layer.axis != 1 or layer.group != 1 or layer.summed:
        return False
    if any(k != 1 for k in layer.kernel) or any(layer.pad) or len(node.bottoms) != 1:
        return False
    return private(node) and all(node.propagate) and not any(node.loss_weights)


def _merged(nodes: list[Node], taken: set[str]) -> tuple[Node, Node]:
    """The convolution for all of these, and the slicing of its top."""
    first, layers = nodes[0], [n.layer for n in nodes]
    convolutions = [layer for layer in layers if isinstance(layer, Convolution)]
    counts = [layer.num_output for layer in convolutions]
    weight = np.concatenate([n.blobs[0] for n in nodes])
    bias = [n.blobs[1] if len(n.blobs) > 1 else np.zeros(len(n.blobs[0]), weight.dtype) for n in nodes]
    layer = replace(convolutions[0], num_output=sum(counts), bias_term=True)
    name = "+".join(n.name for n in nodes)
    blob = name
    while blob in taken:
        blob += "'"
    taken.add(blob)
    shape = first.top_shapes[0]
    top = Value(blob, 0, (shape[0], sum(counts), *shape[2:]))
    params = (ParamSpec(), ParamSpec())
    conv = replace(
        first, name=name, layer=layer, tops=(top,), params=params, blobs=(weight, np.concatenate(bias)), loss_weights=()
    )
    cut = Slice(len(nodes), 1, tuple(accumulate(counts))[:-1])
    tops = tuple(n.tops[0] for n in nodes)
    return conv, Node(name, cut, (top,), tops, at=first.at)
