"""Compute at once only the pixels that strided 1 x 1 convolutions read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from ..graph import Graph, Node, Shape, Value
from ..layers.convolution import Convolution
from ..layers.eltwise import Eltwise
from ..layers.elu import ELU
from ..layers.pooling import Pooling
from ..layers.prelu import PReLU
from ..layers.relu import ReLU
from ..layers.sigmoid import Sigmoid
from ..layers.tan_h import TanH
from .affine import affine

POINTWISE = (ReLU, PReLU, ELU, Sigmoid, TanH, Eltwise)  # what they make of a pixel, they make of that pixel alone


def pull_strides(graph: Graph) -> Graph:
    """Move the strides of 1 x 1 convolutions to the convolution that makes what they read.

    Given:   c = Convolution x;  s = Eltwise c, y;  r = ReLU s;  a, b = Convolution r  (both 1 x 1, of stride 2)
    Result:  c = Convolution' x  (its stride times 2);  y' = Pooling y  (1 x 1, of stride 2);  s = Eltwise c, y';
             r = ReLU s;  a, b = Convolution' r  (stride 1)
    When:    each reader of r is such a convolution, unpadded and with one bottom, and all have one stride; r is no output,
             carries no loss weight, and is made of convolutions by layers that work pixel by pixel: POINTWISE ones, and
             affine ones with fixed statistics. A bottom of these that is read elsewhere, such as y, is thinned out by
             itself; where all would be, nothing changes. c has one bottom and one top.
    The ResNets as published (He et al. 2015) have their strides there: of three of their blocks a quarter is left to do.
    """
    thin = _Thin.of(graph)
    if not thin.by:
        return graph
    nodes: list[Node] = []
    thinned: dict[tuple[Value, Shape], Value] = {}
    taken = {v.blob for n in graph.nodes for v in n.tops}
    for node in graph.nodes:
        stride = thin.by.get(node.tops[0], ()) if len(node.tops) == 1 else ()
        bottoms = []
        for value in node.bottoms:
            if stride and not isinstance(node.layer, Convolution) and value not in thin.by:
                if (value, stride) not in thinned:
                    nodes.append(_every(value, stride, taken))
                    thinned[value, stride] = nodes[-1].tops[0]
                bottoms.append(thinned[value, stride])
            else:
                bottoms.append(_thinner(value, thin.by.get(value, ())))
        layer = node.layer
        if isinstance(layer, Convolution) and (stride or node.bottoms[0] in thin.by):
            done = node.bottoms[0] in thin.by
            layer = replace(layer, stride=(1,) * len(layer.stride) if done else _times(layer.stride, stride))
        tops = (_thinner(node.tops[0], stride),) if stride else node.tops
        nodes.append(replace(node, layer=layer, bottoms=tuple(bottoms), tops=tops))
    return graph.with_nodes(nodes)


@dataclass(frozen=True, slots=True)
class _Thin:
    """by: values of which their readers need every n-th pixel only, and n along each axis."""

    graph: Graph
    readers: dict[Value, list[Node]] = field(default_factory=dict)
    by: dict[Value, Shape] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> Self:
        found = cls(graph)
        for node in graph.nodes:
            for value in node.bottoms:
                found.readers.setdefault(value, []).append(node)
        for node in reversed(graph.nodes):
            stride = found.wanted(node)
            if stride:
                found.by[node.tops[0]] = stride
        for node in graph.nodes:  # where no convolution would have less to do, nothing is gained
            if not isinstance(node.layer, Convolution) and found.by.keys().isdisjoint(node.bottoms):
                for value in node.tops:
                    found.by.pop(value, None)
        return found

    def wanted(self, node: Node) -> Shape:
        """How thin a node's top may be, by what its readers read of it; empty where it is needed as it is."""
        by_pixel = isinstance(node.layer, POINTWISE) or affine(node) is not None
        able = by_pixel and set(node.bottom_shapes) == set(node.top_shapes) or _slides(node)
        if not able or len(node.tops) != 1 or node.tops[0] in self.graph.outputs or any(node.loss_weights):
            return ()
        strides = {self.read_by(r) for r in self.readers.get(node.tops[0], [])}
        stride = strides.pop() if len(strides) == 1 else ()
        return stride if any(s > 1 for s in stride) and len(stride) == len(node.tops[0].shape) - 2 else ()

    def read_by(self, reader: Node) -> Shape:
        """The stride at which a node reads its bottoms, as far as its top is needed."""
        after = self.by.get(reader.tops[0], ()) if len(reader.tops) == 1 else ()
        layer = reader.layer
        if isinstance(layer, Convolution):
            point = _slides(reader) and all(k == 1 for k in layer.kernel) and not any(layer.pad)
            return _times(layer.stride, after) if point else ()
        return after


def _slides(node: Node) -> bool:
    layer = node.layer
    return isinstance(layer, Convolution) and layer.axis == 1 and len(node.bottoms) == 1


def _times(stride: Shape, more: Shape) -> Shape:
    return tuple(a * b for a, b in zip(stride, more, strict=True)) if more else stride


def _thinner(value: Value, stride: Shape) -> Value:
    """The value with every n-th pixel along each axis, from the first on."""
    if not stride:
        return value
    sides = (-(-size // s) for size, s in zip(value.shape[2:], stride, strict=True))
    return replace(value, shape=(*value.shape[:2], *sides))


def _every(value: Value, stride: Shape, taken: set[str]) -> Node:
    """A layer that takes every n-th pixel of a value."""
    name = f"{value}/{stride[0]}"
    while name in taken:
        name += "'"
    taken.add(name)
    layer = Pooling("MAX", (1,) * len(stride), stride, (0,) * len(stride), round_mode="FLOOR")
    return Node(name, layer, (value,), (Value(name, 0, _thinner(value, stride).shape),))
