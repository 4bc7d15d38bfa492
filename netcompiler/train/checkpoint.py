"""Gradient checkpointing: a net in segments, of which only the ends are kept for the backward pass; the rest is made again.

The numbers are those of the whole net, bit for bit: what is drawn at random is drawn alike the second time, and statistics
are stored once. It costs one more forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import isqrt, prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..codegen import fills_itself
from ..errors import NetError
from ..graph import Graph, Node, Value
from ..layer_module import LayerModule
from ..module import CompiledNet


class Checkpointed:
    """What runs a net in segments; in place of the net itself: `run(data=x)` gives its outputs.

    count: how many segments; 0: the square root of the number of layers, which keeps least.  together: pairs of nodes
    that `fuse` made one, by their places: no cut goes between them.
    Raises: NetError for a negative count.
    """

    def __init__(self, net: CompiledNet, count: int = 0, together: Iterable[tuple[int, int]] = ()) -> None:
        if count < 0:
            raise NetError(
                "a negative number of segments", expected="1 or more, or 0: as many as keep least", got=count
            )
        self.net = net
        nodes = net.graph.nodes
        starts = cuts(net.graph, count or max(isqrt(len(nodes)), 1), together)
        bounds = list(zip(starts, [*starts[1:], len(nodes)], strict=True))
        self.segments = [Segment(net, a, b, last=b == len(nodes)) for a, b in bounds]

    def __call__(self, **batch: Any) -> dict[str, Tensor]:
        """The net's outputs, from its inputs by name."""
        net = self.net
        fed = net._feeds((), batch)
        net._check_shapes(fed)
        held: dict[Value, Any] = dict(zip(net.graph.inputs(), fed, strict=True))
        for segment in self.segments:
            for value, top in zip(segment.gives, segment(*[held[v] for v in segment.takes]), strict=True):
                held[value] = top
            for value in segment.ends:
                held.pop(value, None)
        return {v.blob: held[v] for v in net.graph.outputs}


class Segment:
    """The nodes of a net from place `start` to before `end`. takes, gives: values from before it, and for behind it.

    ends: the values that nobody reads behind it.  again: whether it is run again for the backward pass. The last segment
    is not, as nothing would be gained; nor what acts beside making its tops, or depends on the runs before: a Python layer,
    an LSTM.
    """

    def __init__(self, net: CompiledNet, start: int, end: int, last: bool) -> None:
        graph = net.graph
        nodes = graph.nodes[start:end]
        self.steps = [(n, getattr(net, a)) for n, a in zip(nodes, net.attributes[start:end], strict=True)]
        made = dict.fromkeys(v for n in nodes for v in n.tops if not n.layer.is_input or fills_itself(n.layer))
        fed = [v for n in nodes if n.layer.is_input for v in n.tops]
        later = {v for n in graph.nodes[end:] for v in n.bottoms}.union(graph.outputs)
        self.takes = tuple(dict.fromkeys(fed + [v for n in nodes for v in n.bottoms if v not in made]))
        self.gives = tuple(v for v in made if v in later)
        self.ends = tuple(v for v in (*self.takes, *made) if v not in later)
        self.again = not last and not any(map(_once, nodes))
        self.last_read = {v: i for i, n in enumerate(nodes) for v in (*n.tops, *n.bottoms)}

    def __call__(self, *bottoms: Any) -> tuple[Any, ...]:
        """What it gives, from what it takes."""
        if not (self.again and torch.is_grad_enabled()):
            return self.run(*bottoms)
        tops: tuple[Any, ...] = checkpoint(self.run, *bottoms, use_reentrant=False, context_fn=self.contexts)
        return tops

    def contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What stands around the first run, and around the second."""
        return nullcontext(), self.once_more()

    @contextmanager
    def once_more(self) -> Iterator[None]:
        """Modules that store something know that they have done so."""
        modules: list[LayerModule] = [module for _, module in self.steps]
        for module in modules:
            module.again = True
        try:
            yield
        finally:
            for module in modules:
                module.again = False

    def run(self, *bottoms: Any) -> tuple[Any, ...]:
        """Run the nodes in order; a value is let go of behind its last reader."""
        held: dict[Value, Any] = dict(zip(self.takes, bottoms, strict=True))
        kept = set(self.gives)
        for i, (node, module) in enumerate(self.steps):
            if node.layer.is_input and not fills_itself(node.layer):
                continue
            reads = node.tops if node.layer.is_input else node.bottoms
            flows = (True,) * len(reads) if node.layer.is_input else node.propagate or (True,) * len(reads)
            taken = [held[v] if flow else held[v].detach() for v, flow in zip(reads, flows, strict=True)]
            tops = module(*taken)
            del taken
            held.update(zip(node.tops, tops if isinstance(tops, tuple) else (tops,), strict=False))
            for value in (*node.bottoms, *node.tops):
                if self.last_read[value] == i and value not in kept:
                    held.pop(value, None)
        return tuple(held[v] for v in self.gives)


def cuts(graph: Graph, count: int, together: Iterable[tuple[int, int]] = ()) -> list[int]:
    """Where segments start, the first at 0: about `count` of them, of equal size, cut where least has to be kept.

    Sizes are those of the blobs that are made. What may run but once stands in a segment of its own where it can.
    """
    nodes = graph.nodes
    barred = {k for a, b in together for k in range(a + 1, b + 1)}
    acting = {k for i, n in enumerate(nodes) if _once(n) for k in (i, i + 1)} - barred
    made = [sum(prod(v.shape) for v in n.tops) for n in nodes]
    crossing = _crossing(graph)
    total, starts, done = sum(made), {0}, 0
    ends: list[int] = []  # values made before each place
    for size in made:
        ends.append(done)
        done += size
    for k in range(1, count):
        goal, reach = total * k / count, total / (2 * count)
        near = [i for i in range(1, len(nodes)) if abs(ends[i] - goal) <= reach and i not in barred]
        if near:
            starts.add(min(near, key=lambda i: (crossing[i], abs(ends[i] - goal))))
    return sorted(starts | {k for k in acting if k < len(nodes)})


def _once(node: Node) -> bool:
    """Whether a node may run but once for each batch."""
    return node.layer.acts or bool(node.layer.remembers)


def _crossing(graph: Graph) -> Sequence[int]:
    """For each place, how many values are made before it and read from there on."""
    nodes: tuple[Node, ...] = graph.nodes
    found = [0] * (len(nodes) + 1)
    last = {v: i for i, n in enumerate(nodes) for v in n.bottoms} | dict.fromkeys(graph.outputs, len(nodes))
    for i, node in enumerate(nodes):
        for value in node.tops:
            for k in range(i + 1, last.get(value, i) + 1):
                found[k] += prod(value.shape)
    return found
