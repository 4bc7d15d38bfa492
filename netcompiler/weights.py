"""Blobs of a file -> blobs of a Graph, by layer name and index: the only place that knows how shapes may differ."""

from __future__ import annotations

import mmap
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .binary import merge, read_caffemodel
from .errors import NetError, NetWarning, nearest
from .graph import Array, Graph, Node, Shape, dims
from .layers.base import BlobSpec


def read_weights(*paths: str | os.PathLike[str]) -> dict[str, list[Array]]:
    """The learned blobs in weight files: `{layer: [arrays in Caffe's order and shape]}`, as views of the mapped file.

    A .caffemodel of any generation, or a .caffemodel.h5. Of several files, the last that has a layer counts.
    Raises: NetError for a file that cannot be read, is cut short, or is none of Caffe's.
    """
    return merge(read_caffemodel(path) for path in paths)


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do with weights that do not fit.

    strict: refuse them all together.  reshape: take a blob of another shape that has as many values, refuse the rest.
    skip: leave the layer to its fillers; with `layers`, these only, and whether their weights fit or not.
    What was reshaped or skipped is told in a NetWarning.
    """

    kind: str = "strict"
    layers: frozenset[str] = frozenset()

    @classmethod
    def read(cls, text: str) -> Policy:
        """`strict`, `reshape`, `skip` or `skip:layer,layer,...`. Raises: NetError for anything else."""
        kind, colon, names = text.partition(":")
        if kind not in ("strict", "reshape", "skip") or (colon and (kind != "skip" or not names)):
            raise NetError("unknown weights policy", expected="strict, reshape, skip or skip:layer,layer,...", got=text)
        return cls(kind, frozenset(names.split(",")) if names else frozenset())


def bind(
    graph: Graph,
    blobs: Mapping[str, Sequence[Array]],
    *,
    policy: str = "strict",
    seed: int = 0,
    warn: bool = True,
) -> Graph:
    """The graph with an array for every learned blob: the file's by layer name, else by the layer's filler.

    An array that layers share is, as in Caffe, what the last of them in the file's order has.
    policy: what to do with weights that do not fit, as `Policy.read` takes it.
    warn: tell (NetWarning) which layers the file does not have, and which of its layers the net does not.
    Raises: NetError that lists every blob that does not fit.
    """
    if seed < 0:
        raise NetError("a seed cannot be negative", got=seed)
    binding = _Binding(graph, blobs, Policy.read(policy), seed)
    nodes = [binding.bound(node) for node in graph.nodes]
    if binding.faults:
        raise NetError.join(binding.faults)
    nodes = [binding.settled(node) for node in nodes]
    binding.tell(missing=warn)
    return graph.with_nodes(nodes)


class _Binding:
    """One run of `bind`: what was done so far, and what is wrong."""

    def __init__(self, graph: Graph, blobs: Mapping[str, Sequence[Array]], policy: Policy, seed: int) -> None:
        self.names = {n.name for n in graph.nodes}
        self.twins = [name for name, count in Counter(n.name for n in graph.nodes if n.params).items() if count > 1]
        self.blobs, self.policy, self.seed = blobs, policy, seed
        self.places = {name: i for i, name in enumerate(blobs)}
        self.shared: dict[str, tuple[int, Array]] = {}  # by param name: its layer's place in the file, or NOT_GIVEN
        self.faults: list[NetError] = []
        self.filled: list[str] = []
        self.skipped: list[str] = []
        self.reshaped: list[str] = []
        unknown = policy.layers - self.names
        if unknown:
            what = f'the policy skips "{min(unknown)}", which the net does not have'
            raise NetError(what, expected="names of its layers", hint=_like(min(unknown), self.names))

    def bound(self, node: Node) -> Node:
        """The node with an array for each of its blobs."""
        specs = node.layer.blobs(node.bottom_shapes)
        if not specs:
            return node
        arrays, place = self.given(node, specs), self.places.get(node.name, NOT_GIVEN)
        if arrays is None:
            arrays, place = self.own(node, specs), NOT_GIVEN
        for spec, param, array in zip(specs.values(), node.params, arrays):
            if not param.name or array.size != spec.count:
                continue
            if param.name not in self.shared or NOT_GIVEN < place >= self.shared[param.name][0]:
                self.shared[param.name] = place, array
        return replace(node, blobs=tuple(arrays)) if not self.faults else node

    def settled(self, node: Node) -> Node:
        """The node with the arrays that it shares with others."""
        if not any(param.name for param in node.params):
            return node
        if all(param.name and self.shared[param.name][0] > NOT_GIVEN for param in node.params):
            self.filled = [name for name in self.filled if name != node.name]
        pairs = zip(node.params, node.blobs, strict=True)
        return replace(node, blobs=tuple(self.shared[p.name][1].reshape(a.shape) if p.name else a for p, a in pairs))

    def given(self, node: Node, specs: Mapping[str, BlobSpec]) -> list[Array] | None:
        """The arrays of the file in the shapes that the layer asks for; None where it has none, or they are skipped."""
        if node.name not in self.blobs:
            return None
        if node.name in self.policy.layers:
            self.skipped.append(node.name)
            return None
        try:
            blobs = self.completed(node, specs, list(node.layer.adopted(_arrays(self.blobs[node.name]))))
            faults = _misfits(node, blobs, specs)
        except NetError as e:
            e.layer, e.at = node.title, node.at
            blobs, faults = [], [e]
        wanted = [s.shape for s in specs.values()]
        if faults and self.policy.kind == "skip" and not self.policy.layers:
            self.skipped.append(node.name)
            return None
        if faults and self.policy.kind == "reshape" and [a.size for a in blobs] == [s.count for s in specs.values()]:
            self.reshaped.append(node.name)
        elif faults:
            self.faults += faults
            return blobs
        return [a.reshape(shape) for a, shape in zip(blobs, wanted, strict=True)]

    def completed(self, node: Node, specs: Mapping[str, BlobSpec], blobs: list[Array]) -> list[Array]:
        """The arrays of a file that has a shared array for its owner only, as Caffe's HDF5 does: with the owner's."""
        for i, (spec, param) in enumerate(zip(specs.values(), node.params, strict=True)):
            if param.name in self.shared and (i == len(blobs) or (i < len(blobs) and not blobs[i].size)):
                blobs[i : i + 1] = [self.shared[param.name][1].reshape(spec.shape)]
        return blobs

    def own(self, node: Node, specs: Mapping[str, BlobSpec]) -> list[Array]:
        """The arrays that the node has already; else those that it shares with earlier ones, and its fillers' work."""
        if node.blobs:
            return list(node.blobs)
        arrays = []
        for i, (spec, param) in enumerate(zip(specs.values(), node.params, strict=True)):
            theirs = self.shared.get(param.name)
            arrays.append(_filled(node, i, spec, self.seed) if theirs is None else theirs[1].reshape(spec.shape))
        if node.name not in self.skipped and not all(p.name in self.shared for p in node.params):
            self.filled.append(node.name)
        return arrays

    def tell(self, missing: bool) -> None:
        """Warn of what was not done to the letter, and, if asked, of layers that only one side has."""
        _warn("several layers have the same name, and so the same weights, in and out", self.twins)
        _warn("the file's weights were skipped for layers that start from their fillers", self.skipped)
        _warn("the file's weights were taken in another shape for layers", self.reshaped)
        if missing:
            unused = [str(name) for name in self.blobs if name not in self.names]
            like = _like(self.filled[0], unused) if self.filled else None
            more = f" ({like})" if like else ""
            _warn("layers without weights in the file start from their fillers", self.filled, more)
            _warn("the file has weights for layers that the net does not have", unused)


NOT_GIVEN = -1  # the place of a layer that the file does not have


def _filled(node: Node, index: int, spec: BlobSpec, seed: int) -> Array:
    rng = np.random.default_rng([seed, zlib.crc32(f"{node.name}/{index}".encode())])
    try:
        return spec.filler.fill(spec.shape, rng)
    except NetError as e:
        e.layer, e.at = node.title, node.at
        raise


def _arrays(given: Sequence[Any]) -> list[Array]:
    """The arrays that a file or a caller gives for one layer, as float32 or float64. Raises: NetError for others."""
    try:
        arrays = [np.asarray(a) for a in given]
        return [a if a.dtype in (np.float32, np.float64) else a.astype(np.float32, casting="same_kind") for a in arrays]
    except (TypeError, ValueError, RuntimeError) as e:  # RuntimeError: a tensor that needs a gradient
        raise NetError("the weights are no arrays of numbers", expected="a list of arrays", got=str(e)) from None


def _misfits(node: Node, blobs: Sequence[Array], specs: Mapping[str, BlobSpec]) -> list[NetError]:
    """What is wrong with the arrays that a file gives for a node."""
    hint = "to train this layer afresh, give it another name; or see the weights policies skip and reshape"
    if len(blobs) != len(specs):
        expected = f"{len(specs)} ({', '.join(f'{n} {dims(s.shape)}' for n, s in specs.items())})"
        got = f"{len(blobs)} ({', '.join(dims(a.shape) for a in blobs)})"
        what = "the weights have another number of blobs"
        hint = node.layer.misfit_hint(len(blobs)) or hint
        return [NetError(what, at=node.at, layer=node.title, expected=expected, got=got, hint=hint)]
    return [
        NetError(
            f"the weights have another shape for {name}",
            at=node.at,
            layer=node.title,
            expected=dims(spec.shape),
            got=dims(array.shape),
            hint=hint,
        )
        for (name, spec), array in zip(specs.items(), blobs, strict=True)
        if array.shape != spec.shape and not _legacy(array.shape, spec.shape)
    ]


def _legacy(have: Shape, want: Shape) -> bool:
    """Whether a 4-D shape of an old file (num, channels, height, width) is `want` with 1s in front."""
    return len(have) == 4 and len(want) < 4 and have == (1,) * (4 - len(want)) + want


def _like(name: str, others: Iterable[str]) -> str | None:
    near = nearest(name, others)
    return f'"{name}" is like "{near[0]}"' if near else None


def _warn(what: str, layers: list[str], more: str = "") -> None:
    if layers:
        shown = ", ".join(layers[:8]) + (f", and {len(layers) - 8} more" if len(layers) > 8 else "")
        warnings.warn(f"{what}: {shown}{more}", NetWarning, stacklevel=4)


CHUNK = 1 << 22  # values: 16 MB of float32


def take(array: Array, into: Array) -> None:
    """Copy an array, letting go of a mapped file's pages on the way, so that a large blob is not in memory twice."""
    if not array.flags.c_contiguous or array.size <= CHUNK:
        np.copyto(into, array, casting="same_kind")
        release(array)
        return
    source, target = array.reshape(-1), into.reshape(-1)
    for start in range(0, source.size, CHUNK):
        np.copyto(target[start : start + CHUNK], source[start : start + CHUNK], casting="same_kind")
        release(source[start : start + CHUNK])


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
