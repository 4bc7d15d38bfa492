"""Nodes of an optimised graph -> modules that are faster than their layers' own forward, one file per library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..graph import Graph, Node, Value
from ..layers.convolution import Convolution
from ..layers.eltwise import Eltwise
from ..layers.inner_product import InnerProduct
from ..layers.lrn import LRN
from ..layers.pooling import Pooling

if TYPE_CHECKING:
    from ..layer_module import LayerModule

# Layers whose tops are memory of their own, in which nothing but the values themselves is kept.
_OWN = (Convolution, Eltwise, InnerProduct, LRN, Pooling)


def chosen(node: Node) -> type[LayerModule] | None:
    """The class of module that runs a node better than its layer's own forward; None: there is none.

    A module asks at each call whether it can run what it is given, and else does as the layer says: nets move between
    devices, and shapes change.
    """
    from . import grid, lrn, onednn

    for kind in (lrn.FastLRN, grid.KeptGrid):
        if kind.takes(node):
            return kind
    if onednn.Product.takes(node):
        return onednn.Product
    return onednn.PackedConvolution if onednn.takes(node) else None


def overwritable(graph: Graph) -> set[Node]:
    """The convolutions with a sum that may write their top over the bottom that they add.

    That bottom is read by nobody behind them, is neither input nor output of the net nor what is convolved, and shares its
    memory with no other value.
    """
    makers: Mapping[Value, Node] = {value: node for node in graph.nodes for value in node.tops}
    last = {value: node for node in graph.nodes for value in node.bottoms}
    found = set()
    for node in graph.nodes:
        if isinstance(node.layer, Convolution) and node.layer.summed:
            convolved, added = node.bottoms
            users = (makers[added], *graph.readers(added))
            alone = all(isinstance(user.layer, _OWN) for user in users)
            if last[added] is node and added not in graph.outputs and added != convolved and alone:
                found.add(node)
    return found
