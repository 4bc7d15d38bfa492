"""Fewer passes over memory while training: layers that PyTorch can do in one go, run so; their blobs stay where they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..graph import Graph, Node, Value
from ..layer_module import LayerModule
from ..layers.batch_norm import BatchNorm
from ..layers.eltwise import Eltwise
from ..layers.relu import ReLU
from ..layers.scale import Scale
from ..module import CompiledNet


def fuse(net: CompiledNet) -> None:
    """Let a BatchNorm do the work of the Scale behind it, and ReLU and sums write over what they read, where nobody sees it.

    Given:   n = BatchNorm x;  s = Scale n;  e = Eltwise s, y;  r = ReLU e
    When:    what is taken in or written over has one reader and is no output; the Scale has blobs of C values;
             the Eltwise is the plain sum of two; the ReLU's negative_slope is 0; what is written over was made by a
             Convolution, BatchNorm, Scale or sum, whose backward pass does not look at it.
    """
    graph = net.graph
    makers = {v: n for n in graph.nodes for v in n.tops}
    modules: dict[int, LayerModule] = {id(n): getattr(net, a) for n, a in zip(graph.nodes, net.attributes, strict=True)}
    for node in graph.nodes:
        if _adds(node):
            into = [i for i, v in enumerate(node.bottoms) if _fresh(makers[v]) and _unseen(graph, v, node)]
            if into:
                modules[id(node)].forward = _Add(into[0])  # type: ignore[method-assign]
        if len(node.bottoms) != 1 or not _unseen(graph, node.bottoms[0], node):
            continue
        maker, layer = makers[node.bottoms[0]], node.layer
        if isinstance(layer, Scale) and isinstance(maker.layer, BatchNorm) and _fits(maker, node):
            norm, scale = modules[id(maker)], modules[id(node)]
            norm.forward = _Pair(norm, scale)  # type: ignore[method-assign, assignment]
            scale.forward = _same  # type: ignore[method-assign, assignment]
        elif isinstance(layer, ReLU) and not layer.negative_slope and _fresh(maker):
            modules[id(node)].forward = torch.relu_  # type: ignore[method-assign, assignment]


def _unseen(graph: Graph, value: Value, reader: Node) -> bool:
    """Whether only `reader` ever looks at a value, and the gradient flows through it."""
    once = reader.bottoms.count(value) == 1 and graph.readers(value) == (reader,)
    return once and value not in graph.outputs and all(reader.propagate)


def _fits(norm: Node, scale: Node) -> bool:
    """Whether the Scale's blobs are a weight, and perhaps a bias, for each channel."""
    assert isinstance(norm.layer, BatchNorm) and isinstance(scale.layer, Scale)
    channels = norm.top_shapes[0][1]
    shapes = [s.shape for s in scale.layer.blobs(scale.bottom_shapes).values()]
    return not norm.layer.scale and not norm.layer.relu and scale.layer.axis == 1 and set(shapes) == {(channels,)}


def _fresh(maker: Node) -> bool:
    """Whether a node's tops are memory of their own that no backward pass looks at."""
    layer = maker.layer
    sums = isinstance(layer, Eltwise) and layer.operation == "SUM"
    clipped = getattr(layer, "relu", False)  # Intel Caffe's; its backward pass looks at the top
    return sums or (layer.kind in ("Convolution", "BatchNorm", "Scale") and not clipped)


def _adds(node: Node) -> bool:
    """Whether a node is the plain sum of two blobs of one shape."""
    layer = node.layer
    return isinstance(layer, Eltwise) and layer.operation == "SUM" and not layer.coeff and len(node.bottoms) == 2


def _same(x: Tensor) -> Tensor:
    """The forward of a layer whose work is done."""
    return x


class _Add:
    """The forward of a sum, into one of its two bottoms."""

    def __init__(self, into: int) -> None:
        self.into = into

    def __call__(self, *bottoms: Tensor) -> Tensor:
        x, y = bottoms[self.into], bottoms[1 - self.into]
        return x.add_(y) if x.dtype == torch.promote_types(x.dtype, y.dtype) else x + y


class _Pair:
    """The forward of a BatchNorm with the weight and the bias of the Scale behind it."""

    def __init__(self, norm: LayerModule, scale: LayerModule) -> None:
        assert isinstance(norm.layer, BatchNorm) and isinstance(scale.layer, Scale)
        self.norm, self.scale = norm, scale
        self.layer = replace(norm.layer, scale=True, bias_term=scale.layer.bias_term)

    def __call__(self, x: Tensor) -> Tensor:
        return self.layer.forward(self, x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scale if name in ("weight", "bias") else self.norm, name)
