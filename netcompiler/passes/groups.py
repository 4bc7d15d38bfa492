"""Which of a graph's nodes each node of its rewritten form stands for."""

from __future__ import annotations

from ..graph import Graph, Node


def groups(source: Graph, rewritten: Graph) -> list[tuple[Node, ...]]:
    """For each node of the rewritten graph the nodes of the source whose work it does, in their order.

    That is all from which its tops are made, as far back as its bottoms. Nodes whose work nobody does any more (Dropout in
    TEST, say) may be in none.
    """
    makers = {value: node for node in source.nodes for value in node.tops}
    places = {node: i for i, node in enumerate(source.nodes)}
    found = []
    for node in rewritten.nodes:
        seen, ahead = set(node.bottoms), list(node.tops)
        members: set[Node] = set() if node.tops else {node}  # one without tops is itself
        while ahead:
            value = ahead.pop()
            maker = makers.get(value)
            if value in seen or maker is None:
                continue
            seen.add(value)
            members.add(maker)
            ahead += maker.bottoms
        found.append(tuple(sorted(members, key=lambda member: places.get(member, 0))))
    return found
