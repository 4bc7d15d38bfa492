"""Take out layers whose tops nobody reads."""

from __future__ import annotations

from ..graph import Graph


def drop_unread(graph: Graph) -> Graph:
    """Take out Silence, and what only it or nobody reads.

    Given:   y, z = Slice x;  Silence z;  w = Dead y       (z and w are no outputs)
    Result:  y, z = Slice x
    When:    none of the layer's tops is an output, is read by a layer that stays, or carries a loss weight; it is no
             input, which the caller may feed; it has no effect beside its tops.
    """
    need = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if node.layer.is_input or need.intersection(node.tops) or any(node.loss_weights) or node.layer.acts:
            kept.append(node)
            need.update(node.bottoms)
    return graph if len(kept) == len(graph.nodes) else graph.with_nodes(reversed(kept))
