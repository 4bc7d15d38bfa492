"""Which of a graph's nodes each node of its rewritten form stands for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..graph import Graph, Node, Value

Key = tuple[str, int]  # a value in whatever shape: passes may thin one out


def groups(source: Graph, rewritten: Graph) -> list[tuple[Node, ...]]:
    """For each node of the rewritten graph the nodes of the source whose work it does, in their order.

    That is all from which its tops are made, as far back as its bottoms; a node that makes what the source has not is by
    itself. Nodes whose work nobody does any more (Dropout in TEST, say) may be in none.
    """
    makers = {key: node for node in source.nodes for key in _keys(node.tops)}
    places = {node: i for i, node in enumerate(source.nodes)}
    new = {key: node for node in rewritten.nodes for key in _keys(node.tops) if key not in makers}

    def known(values: Iterable[Value]) -> Iterator[Key]:
        """The values themselves, or of those that the source has not what they are made of."""
        for value in values:
            key = (value.blob, value.version)
            if key in new:
                yield from known(new[key].bottoms)
            else:
                yield key

    found = []
    for node in rewritten.nodes:
        seen, ahead = set(known(node.bottoms)), _keys(node.tops)
        members: set[Node] = set()
        while ahead:
            key = ahead.pop()
            if key in seen or key not in makers:
                continue
            seen.add(key)
            members.add(makers[key])
            ahead += _keys(makers[key].bottoms)
        found.append(tuple(sorted(members, key=lambda member: places[member])) or (node,))
    return found


def _keys(values: Iterable[Value]) -> list[Key]:
    return [(v.blob, v.version) for v in values]
