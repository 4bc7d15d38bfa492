"""The memory that a net's activations take while it runs, told from its graph before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from math import prod
from typing import TypeGuard

from ..graph import Graph, Node, Shape, Value
from ..layer_module import LayerModule
from ..layers.convolution import Convolution
from ..layers.eltwise import Eltwise
from ..layers.inner_product import InnerProduct
from ..layers.pooling import Pooling
from ..layers.relu import ReLU
from .int8 import Int8Module
from .lrn import FastLRN
from .onednn import DTYPES, PackedConvolution

BLOCK = 16  # channels that oneDNN keeps side by side, at most
_KEEPS_ORDER = (Eltwise, Pooling, ReLU)  # layers whose top lies in memory as their bottom does
_ALONE = (*_KEEPS_ORDER, InnerProduct)  # layers that need nothing beside their bottoms and tops


def planned(graph: Graph, modules: Sequence[LayerModule], item: int, whole: bool = False) -> int:
    """The most bytes of activations that are alive at once, layer by layer: from a value's maker to its last reader, outputs
    to the end, and with what a layer needs beside them while it runs. Inputs are the caller's. item: bytes of a number.
    whole: of a net that runs as one program, which writes over nothing, and copies its outputs out of its own order.

    A forward takes this or less, but for some kB: what is not known to need nothing beside its tops is taken to need as much
    again, and images are counted with their channels in full blocks, as a program may hold them.
    """
    home = _homes(graph, modules, whole)
    last: dict[Value, int] = {}
    for i, node in enumerate(graph.nodes):
        last.update((home[v], i) for v in (*node.bottoms, *node.tops))
    last.update((home[v], len(graph.nodes)) for v in graph.outputs)
    fed = set(graph.inputs())
    packed = {v for n, m in zip(graph.nodes, modules, strict=True) if getattr(m, "writes", None) for v in n.tops}
    sizes = {v: 0 if v in fed else _held(v.shape) * (1 if v in packed else item) for v in last}
    turned = {*graph.outputs, *fed}
    let_go: dict[int, list[Value]] = {}
    for value, i in last.items():
        let_go.setdefault(i, []).append(value)
    plain: dict[Value, bool] = {}  # whether a value lies in memory as Caffe's do, and not with the channels last
    alive = peak = 0
    for i, (node, module) in enumerate(zip(graph.nodes, modules, strict=True)):
        alive += sum(sizes[v] for v in node.tops if home[v] == v)
        beside = 0 if node.layer.is_input else _beside(node, module, plain, packed, item)
        copied = sum(_held(v.shape) for v in (*node.bottoms, *node.tops) if v in turned) * item if whole else 0
        peak = max(peak, alive + max(beside, copied))
        alive -= sum(sizes[v] for v in let_go.get(i, ()))
        kept = isinstance(module, FastLRN) or isinstance(node.layer, _KEEPS_ORDER)
        order = any(plain[v] for v in node.bottoms) if kept else not _packs(module)
        plain.update((v, order and not _flat(v.shape)) for v in node.tops)
    return peak


def _homes(graph: Graph, modules: Sequence[LayerModule], whole: bool) -> dict[Value, Value]:
    """For each value, the one in whose memory it stands."""
    home: dict[Value, Value] = {}
    for node, module in zip(graph.nodes, modules, strict=True):
        for top in node.tops:
            if _packs(module) and module.overwrites and not whole:
                home[top] = home[node.bottoms[1]]
            else:
                home[top] = home[node.bottoms[0]] if node.layer.views else top
    return home


def _packs(module: LayerModule | Int8Module) -> TypeGuard[PackedConvolution]:
    """Whether oneDNN runs a convolution, in the type of its weights and where they are."""
    return (
        isinstance(module, PackedConvolution) and module.weight.dtype in DTYPES and module.weight.device.type == "cpu"
    )


def _flat(shape: Shape) -> bool:
    """Whether the order of the axes makes no difference in memory."""
    return len(shape) != 4 or shape[1] == 1 or shape[2] * shape[3] == 1


def _held(shape: Shape) -> int:
    """How many numbers a blob takes in memory at most."""
    if _flat(shape):
        return prod(shape)
    n, c, h, w = shape
    return n * -(-c // BLOCK) * BLOCK * h * w


def _beside(
    node: Node, module: LayerModule | Int8Module, plain: Mapping[Value, bool], packed: Set[Value], item: int
) -> int:
    """How many bytes a layer holds beside its bottoms and tops while it runs."""
    if isinstance(module, Int8Module):
        return module.beside(node, [v in packed for v in node.bottoms])
    if _packs(module):
        return sum(prod(v.shape) for v in node.bottoms if plain[v]) * item  # copied, channels last
    if isinstance(module, FastLRN):
        n, c, h, w = node.bottoms[0].shape
        return 3 * n * (c + int(module.layer.local_size)) * h * w * item
    if isinstance(node.layer, InnerProduct):
        return sum(prod(v.shape) for v in node.bottoms if not plain[v] and not _flat(v.shape)) * item
    if isinstance(node.layer, Pooling) and node.layer.pool == "MAX":  # torch keeps the places, of 8 bytes each
        return sum(prod(v.shape) for v in node.tops) * 8
    if isinstance(node.layer, _ALONE) or node.layer.views:
        return 0
    columns = 0
    if isinstance(node.layer, Convolution) and module.weight.dtype not in DTYPES:  # torch unfolds the images for these
        columns = (
            sum(prod(s) // node.layer.num_output for s in node.top_shapes)
            * prod(module.weight.shape[1:])
            * node.layer.group
        )
    return (columns + sum(prod(v.shape) for v in node.tops)) * item
