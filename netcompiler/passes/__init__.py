"""Graph -> a faster Graph with the same outputs. Each pass is a function in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..graph import Graph
from .drop_identities import drop_identities
from .drop_unread import drop_unread
from .fold_batchnorm import fold_batchnorm, fold_into_next
from .fuse_convolution import fuse_relu, fuse_sum
from .merge_siblings import merge_siblings
from .pull_strides import pull_strides

Pass = Callable[[Graph], Graph]

PIPELINE: tuple[Pass, ...] = (
    drop_unread,  # what nobody needs keeps others from being alone with their reader
    drop_identities,  # first, so that what they part becomes neighbours
    fold_batchnorm,  # BatchNorm, Scale and Bias vanish into the layer before them
    fold_into_next,  # what could not go backward goes forward
    pull_strides,  # before sums and ReLUs are part of the convolutions that make less
    fuse_sum,  # before fuse_relu: a convolution adds, then cuts off
    fuse_relu,
)
WITH_SIBLINGS = (*PIPELINE, merge_siblings)  # last, as only convolutions with the same ReLU merge; for --tune to choose


def run(graph: Graph, pipeline: Iterable[Pass] = PIPELINE) -> Graph:
    """Apply the passes in order; each result is checked, and must keep the outputs' names and shapes."""
    for step in pipeline:
        before, graph = graph, step(graph)
        if graph is not before:
            graph.check()
            assert [(v.blob, v.shape) for v in graph.outputs] == [(v.blob, v.shape) for v in before.outputs], step
    return graph
