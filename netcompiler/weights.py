"""Blobs of a file -> blobs of a Graph, by layer name and index: the only place that knows how shapes may differ."""

from __future__ import annotations

import mmap
import os
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .errors import NetError, NetWarning, nearest
from .graph import Array, Graph, Node, Shape, dims
from .layers.base import BlobSpec


def read_weights(path: str | os.PathLike[str]) -> dict[str, list[Array]]:
    """The learned blobs in a weight file: `{layer: [arrays in Caffe's order and shape]}`, as views of the mapped file.

    Raises: NetError for a file that cannot be read, is cut short, or is none of Caffe's.
    """
    from .binary import read_caffemodel

    return read_caffemodel(path)


def bind(graph: Graph, blobs: Mapping[str, Sequence[Array]], *, seed: int = 0, warn: bool = True) -> Graph:
    """The graph with an array for every learned blob: the file's by layer name, else by the layer's filler.

    warn: tell (NetWarning) which layers the file does not have, and which of its layers the net does not.
    Raises: NetError that lists every blob that does not fit.
    """
    faults: list[NetError] = []
    filled: list[str] = []
    owners: dict[str, Array] = {}
    nodes = []
    for node in graph.nodes:
        specs = node.layer.blobs(node.bottom_shapes)
        if not specs:
            nodes.append(node)
            continue
        given = blobs.get(node.name)
        if given is None:
            arrays = list(node.blobs) or [_filled(node, i, s, seed) for i, s in enumerate(specs.values())]
            if not node.blobs and not all(p.name in owners for p in node.params):
                filled.append(node.name)
        else:
            arrays = _fitted(node, given, specs, faults)
        for i, param in enumerate(node.params if not faults else ()):
            if param.name in owners and given is None:
                arrays[i] = owners[param.name].reshape(arrays[i].shape)
            elif param.name:
                owners[param.name] = arrays[i]
        nodes.append(replace(node, blobs=tuple(arrays)))
    if faults:
        raise NetError.join(faults)
    if warn:
        _tell(graph, blobs, filled)
    return graph.with_nodes(nodes)


def _filled(node: Node, index: int, spec: BlobSpec, seed: int) -> Array:
    rng = np.random.default_rng([seed, zlib.crc32(f"{node.name}/{index}".encode())])
    try:
        return spec.filler.fill(spec.shape, rng)
    except NetError as e:
        e.layer, e.at = node.title, node.at
        raise


def _fitted(node: Node, given: Sequence[Array], specs: Mapping[str, BlobSpec], faults: list[NetError]) -> list[Array]:
    """The given arrays in the shapes that the layer asks for; what does not fit goes to `faults`."""
    hint = "to train this layer afresh, give it another name; else use the prototxt that the weights were trained with"
    if len(given) != len(specs):
        expected = f"{len(specs)} ({', '.join(f'{n} {dims(s.shape)}' for n, s in specs.items())})"
        got = f"{len(given)} ({', '.join(dims(a.shape) for a in given)})"
        what = "the weights have another number of blobs"
        faults.append(NetError(what, at=node.at, layer=node.title, expected=expected, got=got, hint=hint))
        return list(given)
    arrays = []
    for (name, spec), array in zip(specs.items(), given, strict=True):
        array = np.asarray(array)
        if array.shape != spec.shape and not _legacy(array.shape, spec.shape):
            what = f"the weights have another shape for {name}"
            expected, got = dims(spec.shape), dims(array.shape)
            faults.append(NetError(what, at=node.at, layer=node.title, expected=expected, got=got, hint=hint))
        elif array.dtype not in (np.float32, np.float64):
            arrays.append(array.astype(np.float32).reshape(spec.shape))
        else:
            arrays.append(array.reshape(spec.shape))
    return arrays


def _legacy(have: Shape, want: Shape) -> bool:
    """Whether a 4-D shape of an old file (num, channels, height, width) is `want` with 1s in front."""
    return len(have) == 4 and len(want) < 4 and have == (1,) * (4 - len(want)) + want


def _tell(graph: Graph, blobs: Mapping[str, Any], filled: list[str]) -> None:
    names = {n.name for n in graph.nodes}
    unused = [name for name in blobs if name not in names]
    for what, layers in (
        ("layers without weights in the file start from their fillers", filled),
        ("the file has weights for layers that the net does not have", unused),
    ):
        if layers:
            shown = ", ".join(layers[:8]) + (f", and {len(layers) - 8} more" if len(layers) > 8 else "")
            near = nearest(layers[0], unused if layers is filled else filled)
            like = f' ("{layers[0]}" is like "{near[0]}")' if near else ""
            warnings.warn(f"{what}: {shown}{like}", NetWarning, stacklevel=4)


def release(array: Array) -> None:
    """Let go of the memory pages of a mapped file that stand behind an array; they are read again when asked for."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if base is None or not array.nbytes or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = array.__array_interface__["data"][0] - np.frombuffer(base, np.uint8).__array_interface__["data"][0]
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (start + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
    if length > 0:
        base.madvise(mmap.MADV_DONTNEED, first, length)
