"""Which values of a graph stand in u8, and which share one format."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..graph import Graph, Value
from ..kernels import int8
from ..layers.convolution import Convolution


@dataclass(frozen=True, slots=True)
class Plan:
    """For some nodes in int8, by their places in the graph.

    wanted: what some node reads in u8.  packed: those of them that their maker writes in u8.  moving: the nodes that only
    move u8.
    """

    wanted: frozenset[Value]
    packed: frozenset[Value]
    moving: frozenset[int]

    @classmethod
    def of(cls, graph: Graph, quantized: Collection[int]) -> Plan:
        """The plan that keeps values in u8 from one int8 node to the next.

        A value is packed where an int8 node reads it, or a node that moves it to one. Inputs and outputs of the net never are.
        """
        wanted: set[Value] = set()
        packed: set[Value] = set()
        moving = set()
        for place, node in reversed(list(enumerate(graph.nodes))):
            alone = len(node.tops) == 1 and not node.layer.is_input and node.tops[0] not in graph.outputs
            if alone and node.tops[0] in wanted:
                packed.add(node.tops[0])
            whole = alone and node.tops[0] in packed
            if place in quantized:
                wanted.add(node.bottoms[0])
                if isinstance(node.layer, Convolution) and node.layer.summed and whole:
                    wanted.add(node.bottoms[1])
            elif whole and int8.moves(node):
                moving.add(place)
                wanted.update(node.bottoms)
        return cls(frozenset(wanted), frozenset(packed), frozenset(moving))

    def families(self, graph: Graph) -> dict[Value, Value]:
        """For each wanted value the one whose format it takes: moved values have one format from end to end."""
        head = {value: value for value in self.wanted}

        def root(value: Value) -> Value:
            while head[value] != value:
                value = head[value]
            return value

        for place in sorted(self.moving):
            node = graph.nodes[place]
            for value in node.bottoms:
                head[root(value)] = root(node.tops[0])
        return {value: root(value) for value in self.wanted}
