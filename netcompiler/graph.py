"""What a net means: nodes in execution order, every value written once. Nothing here knows a layer type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import NetError, Span, nearest

if TYPE_CHECKING:
    from .layers.base import Layer

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]
Array = NDArray[np.floating]


class _Unknown(tuple[int, ...]):
    """The type of UNKNOWN, which equals itself only: a scalar's shape is empty as well."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unknown)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(_Unknown)

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Shape = _Unknown()  # the shape of what a layer makes that cannot be understood; in partial graphs only


def dims(shape: Shape) -> str:
    """A shape as people write it: `1 x 3 x 224 x 224`; a scalar is `()`, and `?` is not known."""
    return "?" if shape == UNKNOWN else " x ".join(map(str, shape)) if shape else "()"


@dataclass(frozen=True, slots=True)
class Value:
    """One version of a named blob. An in-place layer reads version k and writes version k + 1."""

    blob: str
    version: int
    shape: Shape

    def __str__(self) -> str:
        return self.blob + "'" * self.version if self.version < 4 else f"{self.blob}'{self.version}"


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """How one learned blob of a node trains, and the name that it is shared under (empty: not shared).

    `permissive` sharing asks for equal counts only; the borrower sees the owner's array in its own shape.
    gradient: whether it is computed at all. Caffe leaves it out for lr_mult 0, unless the net says force_backward.
    """

    name: str = ""
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    permissive: bool = False
    gradient: bool = True


@dataclass(frozen=True, slots=True)
class Node:
    """A layer placed in a graph.

    params: one per learned blob.  blobs: its arrays in Caffe's order, empty until weights are bound.
    loss_weights: one per top; 0 where a top is no loss.  propagate: per bottom, whether gradient flows into it.
    at: where the layer was written.
    """

    name: str
    layer: Layer
    bottoms: tuple[Value, ...]
    tops: tuple[Value, ...]
    params: tuple[ParamSpec, ...] = ()
    blobs: tuple[Array, ...] = field(default=(), compare=False, repr=False)
    loss_weights: tuple[float, ...] = ()
    propagate: tuple[bool, ...] = ()
    at: Span | None = field(default=None, compare=False, repr=False)

    @property
    def bottom_shapes(self) -> Shapes:
        return tuple(v.shape for v in self.bottoms)

    @property
    def top_shapes(self) -> Shapes:
        return tuple(v.shape for v in self.tops)

    @property
    def title(self) -> str:
        """As messages name the node: `"conv1" (Convolution)`."""
        return f'"{self.name}" ({self.layer.kind})'

    def __str__(self) -> str:
        tops = ", ".join(map(str, self.tops)) or "()"
        bottoms = ", ".join(map(str, self.bottoms))
        settings = " ".join(f"{k}={v}" for k, v in self.layer.settings().items())
        shapes = ", ".join(dims(s) for s in self.top_shapes)
        call = f"{self.layer.kind}({bottoms})"
        return f"{tops} = {call}{' ' if settings else ''}{settings}  # {self.name}: {shapes}"


@dataclass(frozen=True, slots=True)
class Graph:
    """A net for one NetState. `nodes` are in execution order; `outputs` are the values that nobody reads.

    faults: what is wrong with the net, in a graph that was built in part; such a graph is for looking at.
    dialect: the fork that the net is written for; dialect_sign: what says so, where that was detected.
    """

    name: str
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    phase: str = "TEST"
    faults: tuple[NetError, ...] = field(default=(), compare=False)
    dialect: str = field(default="bvlc", compare=False)
    dialect_sign: str = field(default="", compare=False)

    def __str__(self) -> str:
        return "\n".join(map(str, self.nodes))

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def with_nodes(self, nodes: Iterable[Node]) -> Graph:
        """The same net with other nodes."""
        return replace(self, nodes=tuple(nodes))

    def readers(self, value: Value) -> tuple[Node, ...]:
        """The nodes that read a value."""
        return tuple(n for n in self.nodes if value in n.bottoms)

    def inputs(self) -> tuple[Value, ...]:
        """The values that the caller feeds, in order."""
        return tuple(v for n in self.nodes if n.layer.is_input for v in n.tops)

    def last(self, blob: str) -> Value | None:
        """The last version of a named blob, or None."""
        found = None
        for node in self.nodes:
            for value in node.tops:
                if value.blob == blob:
                    found = value
        return found

    def blobs(self) -> list[str]:
        """The names of all blobs, in the order of their first writing."""
        return list(dict.fromkeys(v.blob for n in self.nodes for v in n.tops))

    def owners(self) -> dict[str, tuple[Node, int]]:
        """For each shared param name, the node that holds the array and its index there: the first that names it."""
        found: dict[str, tuple[Node, int]] = {}
        for node in self.nodes:
            for i, param in enumerate(node.params):
                if param.name:
                    found.setdefault(param.name, (node, i))
        return found

    def wanted(self, outputs: Iterable[Value]) -> Graph:
        """Only the nodes that these outputs need."""
        outputs = tuple(outputs)
        need, kept = set(outputs), []
        for node in reversed(self.nodes):
            if need.intersection(node.tops):
                kept.append(node)
                need.update(node.bottoms)
        return replace(self, nodes=tuple(reversed(kept)), outputs=outputs)

    def reaching(self, blobs: Iterable[str]) -> Graph:
        """The same net with these blobs as outputs, and only the nodes that they need.

        Raises: NetError for a blob that the net does not have.
        """
        values = []
        for blob in blobs:
            value = self.last(blob)
            if value is None:
                near = nearest(str(blob), self.blobs(), 3)
                hint = f"did you mean {' or '.join(near)}?" if near else None
                expected = f"one of its {len(self.blobs())} blobs"
                raise NetError(f'the net has no blob "{blob}"', hint=hint, expected=expected)
            values.append(value)
        return self.wanted(values)

    def check(self) -> Graph:
        """Itself, once it is proved sound: for program faults, so it asserts.

        Every value is written once and before it is read; counts are within the layer's range; every recorded shape is
        what the layer's own rule answers; blobs, where bound, have the shapes that the layer asks for.
        """
        written: set[Value] = set()
        for node in self.nodes:
            layer, where = node.layer, f"{node.title} of {self.name}"
            for value in node.bottoms:
                assert value in written, f"{where} reads {value} before it is written"
            for value in node.tops:
                assert value not in written, f"{where} writes {value} again"
                written.add(value)
            assert layer.n_bottom[0] <= len(node.bottoms) <= layer.n_bottom[1], f"{where}: bottoms"
            asked = layer.tops(node.bottom_shapes)
            assert asked == node.top_shapes, f"{where}: shapes {node.top_shapes}, its rule says {asked}"
            assert len(node.loss_weights) in (0, len(node.tops)), f"{where}: loss weights"
            specs = layer.blobs(node.bottom_shapes)
            assert len(node.params) == len(specs), f"{where}: params"
            if node.blobs:
                shapes = [spec.shape for spec in specs.values()]
                assert [b.shape for b in node.blobs] == shapes, f"{where}: blobs {shapes}"
        for value in self.outputs:
            assert value in written, f"output {value} of {self.name} is never written"
        return self
