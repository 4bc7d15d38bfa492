"""Fold per-channel affine layers into the layer before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Array, Graph, Node, ParamSpec, Value
from ..layers.batch_norm import BatchNorm
from ..layers.bias import Bias
from ..layers.convolution import Convolution
from ..layers.inner_product import InnerProduct
from ..layers.scale import Scale
from ..weights import release

Exact = NDArray[np.float64]


def fold_batchnorm(graph: Graph) -> Graph:
    """Fold BatchNorm, Scale and Bias into the Convolution or InnerProduct before them.

    Given:   c = Convolution x;  n = BatchNorm c (with weight and bias of its own, or without);  s = Scale n
    Result:  s = Convolution' x        weight' = weight k,  bias' = bias k + b,  where BatchNorm and Scale are y = k x + b
    When:    nothing is fused behind c or n already (Intel Caffe's relu and fusion_type);
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
            affine = _affine(after[0]) if len(after) == 1 else None
            if affine is None:
                break
            last = after[0]
            chain.append(affine)
            gone.add(last.tops[0])
        if chain:
            folded[node] = _folded(node, chain, last)
    if not folded:
        return graph
    return graph.with_nodes(folded.get(n, n) for n in graph.nodes if not gone.intersection(n.tops))


@dataclass(frozen=True, slots=True)
class _Affine:
    """y = k x + b for each channel."""

    k: Exact
    b: Exact


def _private(node: Node) -> bool:
    return bool(node.blobs) and not any(p.name for p in node.params)


def _can_take(node: Node) -> bool:
    layer = node.layer
    if isinstance(layer, Convolution) and (layer.relu or layer.summed):
        return False
    return isinstance(layer, Convolution | InnerProduct) and layer.axis == 1 and len(node.tops) == 1 and _private(node)


def _affine(node: Node) -> _Affine | None:
    """What a node does to each channel, or None where it is not such a layer."""
    if len(node.bottoms) != 1 or not all(node.propagate) or not _private(node):
        return None
    rule: Callable[[Any, list[Exact]], _Affine | None] | None = _RULES.get(type(node.layer))
    return rule(node.layer, [np.asarray(a, np.float64) for a in node.blobs]) if rule else None


def _batch_norm(layer: BatchNorm, blobs: list[Exact]) -> _Affine | None:
    if not layer.use_global_stats or layer.relu:
        return None
    mean, variance, factor, *learned = blobs
    share = float(layer.averages) if factor[0] == 0 else 1.0 / factor[0]
    k = 1.0 / np.sqrt(variance * share + layer.eps)
    if layer.scale:
        k = k * learned[0]
    b = -mean * share * k
    return _Affine(k, b + learned[1] if layer.bias_term else b)


def _scale(layer: Scale, blobs: list[Exact]) -> _Affine | None:
    if (layer.axis, layer.num_axes) != (1, 1):
        return None
    return _Affine(blobs[0], blobs[1] if layer.bias_term else np.zeros_like(blobs[0]))


def _bias(layer: Bias, blobs: list[Exact]) -> _Affine | None:
    return _Affine(np.ones_like(blobs[0]), blobs[0]) if (layer.axis, layer.num_axes) == (1, 1) else None


_RULES: dict[type, Callable[[Any, list[Exact]], _Affine | None]] = {BatchNorm: _batch_norm, Scale: _scale, Bias: _bias}


def _folded(node: Node, chain: list[_Affine], last: Node) -> Node:
    layer: Any = node.layer
    weight = node.blobs[0]
    k, bias = np.ones(layer.num_output), np.zeros(layer.num_output)
    if layer.bias_term:
        bias += node.blobs[1]
    for affine in chain:
        k, bias = k * affine.k, bias * affine.k + affine.b
    by_column = isinstance(layer, InnerProduct) and layer.transpose
    factor = (k if by_column else k.reshape(-1, *(1,) * (weight.ndim - 1))).astype(weight.dtype)
    blobs: tuple[Array, Array] = (weight * factor, bias.astype(weight.dtype))
    release(weight)
    params = (ParamSpec(), ParamSpec())
    layer = replace(layer, bias_term=True)
    return replace(node, layer=layer, tops=last.tops, params=params, blobs=blobs, loss_weights=last.loss_weights)
