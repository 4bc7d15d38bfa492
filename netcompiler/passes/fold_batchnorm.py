"""Fold per-channel affine layers into the layer before them, or behind them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph import Array, Graph, Node, ParamSpec, Value
from ..layers.convolution import Convolution
from ..layers.inner_product import InnerProduct
from ..weights import release
from .affine import Affine, affine, private


def fold_batchnorm(graph: Graph) -> Graph:
    """Fold BatchNorm, Scale, Bias and Power into the Convolution or InnerProduct before them.

    Given:   c = Convolution x;  n = BatchNorm c (with weight and bias of its own, or without);  s = Scale n
    Result:  s = Convolution' x        weight' = weight k,  bias' = bias k + b,  where BatchNorm and Scale are y = k x + b
    When:    nothing is fused behind c or n already (Intel Caffe's relu and fusion_type), and c does not scale its weight
             itself (happynear's normalize);
             c and n have one reader each, are not outputs and carry no loss weight; gradient flows into n and s
             (propagate_down is not false); no blob of the three is shared by name; all have blobs;
             the statistics are fixed (TEST or use_global_stats); Scale and Bias have one bottom and run over axis 1,
             which is the layer's channel axis.  Any run of such layers folds, not just this one.
    Source: Ioffe & Szegedy 2015, Algorithm 2.
    """
    readers: dict[Any, list[Node]] = {}
    for node in graph.nodes:
        for value in node.bottoms:
            readers.setdefault(value, []).append(node)
    folded: dict[Node, Node] = {}
    gone: set[Value] = set()
    for node in graph.nodes:
        if not _can_take(node):
            continue
        chain = []
        last = node
        while len(last.tops) == 1 and last.tops[0] not in graph.outputs and not any(last.loss_weights):
            after = readers.get(last.tops[0], [])
            found = affine(after[0]) if len(after) == 1 else None
            if found is None:
                break
            last = after[0]
            chain.append(found)
            gone.add(last.tops[0])
        if chain:
            folded[node] = _folded(node, chain, last)
    if not folded:
        return graph
    return graph.with_nodes(folded.get(n, n) for n in graph.nodes if not gone.intersection(n.tops))


def _can_take(node: Node) -> bool:
    layer = node.layer
    if isinstance(layer, Convolution) and (layer.relu or layer.summed):
        return False
    if isinstance(layer, InnerProduct) and layer.normalize:
        return False
    return isinstance(layer, Convolution | InnerProduct) and layer.axis == 1 and len(node.tops) == 1 and private(node)


def _folded(node: Node, chain: list[Affine], last: Node) -> Node:
    layer: Any = node.layer
    weight = node.blobs[0]
    k, bias = np.ones(layer.num_output), np.zeros(layer.num_output)
    if layer.bias_term:
        bias += node.blobs[1]
    for step in chain:
        k, bias = k * step.k, bias * step.k + step.b
    by_column = isinstance(layer, InnerProduct) and layer.transpose
    factor = (k if by_column else k.reshape(-1, *(1,) * (weight.ndim - 1))).astype(weight.dtype)
    blobs: tuple[Array, Array] = (weight * factor, bias.astype(weight.dtype))
    release(weight)
    params = (ParamSpec(), ParamSpec())
    layer = replace(layer, bias_term=True)
    return replace(node, layer=layer, tops=last.tops, params=params, blobs=blobs, loss_weights=last.loss_weights)


def fold_into_next(graph: Graph) -> Graph:
    """Fold BatchNorm, Scale, Bias and Power into the Convolution or InnerProduct behind them.

    Given:   s = Scale x;  c = Convolution s
    Result:  c = Convolution' x        weight' = weight k,  bias' = bias + weight b,  where Scale is y = k x + b
    When:    s has one reader, is no output and carries no loss weight; gradient flows into both; the blobs of both are
             bound and not shared by name; the statistics are fixed; both run over axis 1, and c does not scale its weight
             itself. Where b is not 0, the kernel is 1 x 1 without padding: zeros around an image are not k 0 + b. Any run
             of such layers folds.
    Source: Ioffe & Szegedy 2015, Algorithm 2.
    """
    makers = {value: node for node in graph.nodes for value in node.tops}
    reads = Counter(value for node in graph.nodes for value in node.bottoms)
    reads.update(graph.outputs)
    folded: dict[Node, Node] = {}
    gone: set[Node] = set()
    for node in graph.nodes:
        if not _can_take(node) or len(node.bottoms) != 1 or not all(node.propagate):
            continue
        step = makers[node.bottoms[0]]
        found = affine(step) if reads[node.bottoms[0]] == 1 and not any(step.loss_weights) else None
        if found is not None and (_whole(node.layer) or not np.any(found.b)):
            folded[node] = _preceded(node, found, step)
            gone.add(step)
    if not folded:
        return graph
    return fold_into_next(graph.with_nodes(folded.get(n, n) for n in graph.nodes if n not in gone))  # chains fold on


def _whole(layer: Any) -> bool:
    """Whether every value that a layer reads is one of its bottom's, and no zero from around it."""
    return isinstance(layer, InnerProduct) or all(k == 1 for k in layer.kernel) and not any(layer.pad)


def _preceded(node: Node, step: Affine, before: Node) -> Node:
    """The node, reading what the affine step reads."""
    layer: Any = node.layer
    weight = node.blobs[0]
    channels, group = node.bottoms[0].shape[1], getattr(layer, "group", 1)
    by_column = isinstance(layer, InnerProduct) and layer.transpose
    exact = np.asarray(weight.T if by_column else weight, np.float64)
    # One row of the bottom's channels for each output; of its group's alone, where there are several.
    parts = exact.reshape(group, layer.num_output // group, channels // group, -1)
    k, b = (np.broadcast_to(v, channels).reshape(group, 1, channels // group, 1) for v in (step.k, step.b))
    bias = (parts * b).sum((2, 3)).reshape(-1) + (node.blobs[1] if layer.bias_term else 0)
    scaled = (parts * k).reshape(exact.shape).astype(weight.dtype)
    blobs: tuple[Array, Array] = (scaled.T.copy() if by_column else scaled, bias.astype(weight.dtype))
    release(weight)
    layer = replace(layer, bias_term=True)
    return replace(node, layer=layer, bottoms=before.bottoms, params=(ParamSpec(), ParamSpec()), blobs=blobs)
