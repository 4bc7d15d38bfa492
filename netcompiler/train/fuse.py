"""Fewer passes over memory while training: layers that PyTorch can do in one go, run so; their blobs stay where they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..graph import Graph, Node, Value
from ..layer_module import LayerModule
from ..layers.batch_norm import BatchNorm
from ..layers.eltwise import Eltwise
from ..layers.relu import ReLU
from ..layers.scale import Scale
from ..module import CompiledNet
from . import sync


class Norm(LayerModule):
    """A BatchNorm that does the work of the Scale behind it, too, and may count the batches of all ranks as one.

    whole: what it does in all. synced: over all ranks.
    """

    whole: BatchNorm
    synced = False

    def forward(self, *bottoms: Tensor) -> Tensor:
        whole = self.whole
        if not self.synced:
            return whole.forward(self, *bottoms)
        exact = torch.promote_types(self.mean.dtype, torch.float32)
        weight = self.weight.to(exact) if whole.scale else None
        bias = self.bias.to(exact) if whole.bias_term else None
        y, mean, variance = sync.batch_norm(bottoms[0], weight, bias, whole.eps, exact)
        if not self.again:
            with torch.no_grad():
                whole.store(self, mean, variance)
        return F.relu(y) if whole.relu else y


class Done(LayerModule):
    """A layer whose work is done already."""

    def forward(self, *bottoms: Tensor) -> Tensor:
        return bottoms[0]


class Added(LayerModule):
    """A sum of two, into one of its bottoms: that number `into`."""

    into: int

    def forward(self, *bottoms: Tensor) -> Tensor:
        x, y = bottoms[self.into], bottoms[1 - self.into]
        return x.add_(y) if x.dtype == torch.promote_types(x.dtype, y.dtype) else x + y


class Clipped(LayerModule):
    """A ReLU that writes over its bottom."""

    def forward(self, *bottoms: Tensor) -> Tensor:
        return torch.relu_(bottoms[0])


def fuse(net: CompiledNet) -> list[tuple[int, int]]:
    """Let a BatchNorm do the work of the Scale behind it, and ReLU and sums write over what they read, where nobody sees it.

    Given:   n = BatchNorm x;  s = Scale n;  e = Eltwise s, y;  r = ReLU e
    When:    what is taken in or written over has one reader and is no output; the Scale has blobs of C values;
             the Eltwise is the plain sum of two; the ReLU's negative_slope is 0; what is written over was made by a
             Convolution, BatchNorm, Scale or sum, whose backward pass does not look at it.
    Returns: pairs of nodes, by their places, that belong together: the second takes over the first one's memory or work.
    """
    graph, together = net.graph, list[tuple[int, int]]()
    makers = {v: n for n in graph.nodes for v in n.tops}
    modules: dict[int, LayerModule] = {id(n): getattr(net, a) for n, a in zip(graph.nodes, net.attributes, strict=True)}
    places = {id(n): i for i, n in enumerate(graph.nodes)}
    for i, node in enumerate(graph.nodes):
        module = modules[id(node)]
        if _adds(node):
            into = [k for k, v in enumerate(node.bottoms) if _fresh(makers[v]) and _unseen(graph, v, node)]
            if into:
                _become(module, Added).into = into[0]
                together.append((places[id(makers[node.bottoms[into[0]]])], i))
        if len(node.bottoms) != 1 or not _unseen(graph, node.bottoms[0], node):
            continue
        maker, layer = makers[node.bottoms[0]], node.layer
        if type(layer) is Scale and isinstance(maker.layer, BatchNorm) and _fits(maker, node):
            norm = _become(modules[id(maker)], Norm)
            norm.whole = replace(maker.layer, scale=True, bias_term=layer.bias_term)
            names = layer.blobs(node.bottom_shapes)
            norm.borrowed |= {name: (module, name, module.held(name)[1]) for name in names}
            norm.fixed |= module.fixed
            _become(module, Done)
        elif isinstance(layer, ReLU) and not layer.negative_slope and _fresh(maker):
            _become(module, Clipped)
        else:
            continue
        together.append((places[id(maker)], i))
    return together


def synchronise(net: CompiledNet) -> None:
    """Let BatchNorms that use their batch's statistics use those of all ranks' batches.

    Those with stats_batch_size, which take a batch apart, stay as they are.
    """
    for node, attribute in zip(net.graph.nodes, net.attributes, strict=True):
        layer = node.layer
        if isinstance(layer, BatchNorm) and not layer.use_global_stats and not layer.stats_batch_size:
            norm = getattr(net, attribute)
            if not isinstance(norm, Norm):
                norm = _become(norm, Norm)
                norm.whole = layer
            norm.synced = True


def _become(module: LayerModule, kind: Any) -> Any:
    """The module as one of a class that runs it otherwise. It keeps its blobs, and those that it lends."""
    module.__class__ = kind
    return module


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
