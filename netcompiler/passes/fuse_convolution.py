"""Merge what follows a convolution, element by element, into it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Self

from ..graph import Graph, Node, Value
from ..layers.convolution import Convolution
from ..layers.eltwise import Eltwise
from ..layers.relu import ReLU
from .affine import private


def fuse_sum(graph: Graph) -> Graph:
    """Let a Convolution add the other bottom of the sum that it is in.

    Given:   c = Convolution x;  s = Eltwise SUM c, y (with coeff or without)
    Result:  s = Convolution' x, y        weight' = coeff_c weight,  bias' = coeff_c bias
    When:    the sum has two different bottoms, and y's coeff is 1; c has no other reader, is no output and carries no loss
             weight; nothing is fused behind c already, and it is of a type that may have a second bottom; gradient flows
             into the sum (propagate_down is not false); c's blobs are bound and not shared by name, if its coeff is not 1.
             Of two convolutions the later one is taken.
    """
    uses = _Uses.of(graph)
    fused: dict[Node, Node] = {}  # by the sum
    gone: set[Node] = set()
    for node in graph.nodes:
        layer = node.layer
        if not isinstance(layer, Eltwise) or layer.operation != "SUM" or not all(node.propagate):
            continue
        if len(node.bottoms) != 2 or node.bottoms[0] == node.bottoms[1]:
            continue
        able = []
        coeff = layer.coeff or (1.0, 1.0)
        for mine, other, own, others in zip(node.bottoms, node.bottoms[::-1], coeff, coeff[::-1], strict=True):
            conv = uses.makers[mine]
            able_to_add = uses.only_one(conv) and conv.layer.n_bottom[1] > len(conv.bottoms)
            if others == 1 and conv not in gone and able_to_add and (own == 1 or private(conv)):
                able.append((uses.places[conv], conv, other, own))
        if able:
            _, conv, other, own = max(able, key=lambda found: found[0])
            fused[node] = _summed(conv, other, own, node)
            gone.add(conv)
    return graph.with_nodes(fused.get(n, n) for n in graph.nodes if n not in gone) if fused else graph


def fuse_relu(graph: Graph) -> Graph:
    """Let a Convolution cut its top off at 0.

    Given:   c = Convolution x (with a sum or without);  r = ReLU c (leaky or not)
    Result:  r = Convolution' x
    When:    c has no other reader, is no output and carries no loss weight; no ReLU is fused behind it already; gradient
             flows into the ReLU (propagate_down is not false).
    """
    uses = _Uses.of(graph)
    fused: dict[Node, Node] = {}  # by the convolution
    gone: set[Node] = set()
    for node in graph.nodes:
        if not isinstance(node.layer, ReLU) or not all(node.propagate):
            continue
        conv = uses.makers[node.bottoms[0]]
        if uses.only_one(conv, summed=True):
            assert isinstance(conv.layer, Convolution)
            layer = replace(conv.layer, relu=True, negative_slope=node.layer.negative_slope)
            fused[conv] = replace(conv, layer=layer, tops=node.tops, loss_weights=node.loss_weights)
            gone.add(node)
    return graph.with_nodes(fused.get(n, n) for n in graph.nodes if n not in gone) if fused else graph


@dataclass(frozen=True, slots=True)
class _Uses:
    """Who makes the values of a graph, at which place, and how often each is read."""

    makers: dict[Value, Node]
    places: dict[Node, int]
    reads: Counter[Value]

    @classmethod
    def of(cls, graph: Graph) -> Self:
        makers = {value: node for node in graph.nodes for value in node.tops}
        reads = Counter(value for node in graph.nodes for value in node.bottoms)
        reads.update(graph.outputs)
        return cls(makers, {node: i for i, node in enumerate(graph.nodes)}, reads)

    def only_one(self, node: Node, summed: bool = False) -> bool:
        """Whether a node is a Convolution with one top that is read once, and may take in what follows.

        summed: it may add another bottom already.
        """
        layer = node.layer
        if not isinstance(layer, Convolution) or layer.relu or (layer.summed and not summed):
            return False
        return len(node.tops) == 1 and self.reads[node.tops[0]] == 1 and not any(node.loss_weights)


def _summed(conv: Node, other: Value, scale: float, total: Node) -> Node:
    """The convolution that adds `other` to `scale` times what it was, in place of the sum."""
    assert isinstance(conv.layer, Convolution)
    blobs = conv.blobs if scale == 1 else tuple((scale * a).astype(a.dtype) for a in conv.blobs)
    propagate = (*conv.propagate, True) if conv.propagate else ()
    return replace(
        conv,
        layer=replace(conv.layer, summed=True),
        bottoms=(*conv.bottoms, other),
        tops=total.tops,
        blobs=blobs,
        propagate=propagate,
        loss_weights=total.loss_weights,
    )
