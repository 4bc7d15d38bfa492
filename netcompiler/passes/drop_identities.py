"""Take out layers that hand their bottom on as it is."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Graph, Value


def drop_identities(graph: Graph) -> Graph:
    """Take out Dropout in TEST, Split, and whatever else says that it changes nothing.

    Given:   d = Dropout x;  y = InnerProduct d
    Result:  y = InnerProduct x
    When:    the layer is an identity over these bottoms; no top of it is an output under another blob name than its
             bottom's; none of its tops carries a loss weight; gradient flows (propagate_down is not false).
    """
    stands_for: dict[Value, Value] = {}
    outputs = {v: v for v in graph.outputs}
    nodes = []
    for node in graph.nodes:
        bottoms = tuple(stands_for.get(v, v) for v in node.bottoms)
        renamed = bottoms and any(v in outputs and v.blob != bottoms[0].blob for v in node.tops)
        if node.layer.is_identity() and not renamed and not any(node.loss_weights) and all(node.propagate):
            stands_for.update(dict.fromkeys(node.tops, bottoms[0]))
        else:
            nodes.append(replace(node, bottoms=bottoms) if bottoms != node.bottoms else node)
    if not stands_for:
        return graph
    return replace(graph, nodes=tuple(nodes), outputs=tuple(stands_for.get(v, v) for v in graph.outputs))
