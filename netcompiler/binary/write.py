"""A net and its arrays -> .caffemodel, byte for byte as Caffe saves it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import dialects, schema
from ..builder import included, net_state
from ..errors import NetError, NetWarning, nearest
from ..files import atomic
from ..graph import Array, dims
from ..layers import Layer, registry
from ..layers.base import MAX_COUNT
from ..numbers import numberings, renumbered
from ..splits import insert_splits
from ..text import Marks, Msg
from .wire import field_numbers, head

BATCH_NORM_BLOBS = 3  # mean, variance, scale factor


def write_caffemodel(
    path: str | os.PathLike[str],
    msg: Msg,
    blobs: Mapping[str, Sequence[Array]],
    *,
    phase: str = "TEST",
    level: int = 0,
    stages: Iterable[str] = (),
    diffs: Mapping[str, Sequence[Array]] | None = None,
    dialect: str | None = None,
) -> None:
    """Write a net with its learned blobs, whole or not at all; the values go to the file as they lie in memory.

    msg: in today's form, as `load` gives it.  blobs: `{layer: [arrays in Caffe's order and shape]}`, of all layers that
    have any, sharing ones too.  phase, level, stages: the NetState whose layers are saved, as `build` takes them.
    diffs: what was last taken off each blob, which Caffe writes beside it if asked to.
    dialect: the fork that is to read the file, as netcompiler.dialects names them; what the net is written in for None.
    The fields of forks get the numbers that they have there; a NetWarning tells which have none and are left out.
    Values are written as float32, float64 arrays as float64. Caffe itself reads no file above 2 GiB.

    Raises: NetError for blobs of a layer that the net does not have, and when the file cannot be written.
    """
    net = saved(msg, phase, level, stages).raw
    names = [raw.name for raw in net.layer]
    unknown = [name for name in blobs if name not in names]
    if unknown:
        near = nearest(unknown[0], names)
        hint = f'did you mean "{near[0]}"?' if near else None
        raise NetError(f'the net has no layer "{unknown[0]}" for the blobs', at=str(path), hint=hint)
    learners = {raw.name for raw in net.layer if _learns(raw.type)}
    fields = field_numbers("NetParameter")
    net = _of_dialect(net, dialects.checked(dialect) if dialect else dialects.detect(Msg(net))[0], str(path))
    with atomic(path) as file:
        file.write(head(fields["name"], len(net.name.encode())) + net.name.encode())
        for raw in net.layer:
            idle = raw.name in learners and not _learns(raw.type)  # it only bears the name of one that learns
            arrays, taken = () if idle else blobs.get(raw.name, ()), (diffs or {}).get(raw.name, ())
            pieces = list(_layer(raw, arrays, taken))
            file.write(head(fields["layer"], sum(map(_size, pieces))))
            for piece in pieces:
                file.write(piece)


def _of_dialect(net: Any, dialect: str, file: str) -> Any:
    """The net under the numbers of a dialect: those of its forks that has a place for most of the fields."""
    best, missing = net, None
    for numbering in numberings(dialect):
        lost: set[str] = set()
        other = renumbered(net, "NetParameter", numbering, lost)
        if missing is None or len(lost) < len(missing):
            best, missing = other, lost
    if left := sorted((missing or set()) - {"dialect"}):
        why = f"which have no number in files of {dialect} (dialect= may name another fork)"
        warnings.warn(f"{file}: left out: {', '.join(left)}, {why}", NetWarning, stacklevel=3)
    return best


def _learns(kind: str) -> bool:
    """Whether layers of a type may have blobs."""
    return kind not in registry or registry[kind].blobs is not Layer.blobs


def saved(msg: Msg, phase: str = "TEST", level: int = 0, stages: Iterable[str] = ()) -> Msg:
    """The net as Caffe writes it when it saves the weights, but for the blobs.

    Of the net itself only the name stays. The layers are those of the NetState, with Split layers, and each tells its
    phase. A loss layer without a loss_weight says 1, and BatchNorm has a param with lr_mult 0 for each blob: Caffe's
    layers set both in their own messages when they start.

    Source: Caffe, src/caffe/net.cpp, Net::Init and ToProto; layers/loss_layer.cpp; layers/batch_norm_layer.cpp.
    """
    msg = Msg.of(msg)
    if phase not in schema.enum("Phase"):
        raise NetError("unknown phase", expected="TRAIN or TEST", got=phase)
    state = net_state(msg, phase, level, stages)
    layers = [m for m in msg.layer if included(m, *state)]
    kept = type(msg.raw)(name=msg.raw.name, layer=[m.raw for m in layers])
    net = insert_splits(Msg(kept, Marks(msg.at(), {"layer": [m.marks for m in layers]})))
    for raw in net.raw.layer:
        if not raw.HasField("phase"):
            raw.phase = schema.enum("Phase")[phase]
        if raw.type in registry and registry[raw.type].is_loss and not raw.loss_weight:
            raw.loss_weight.append(1)
        while raw.type == "BatchNorm" and len(raw.param) < BATCH_NORM_BLOBS:
            raw.param.add(lr_mult=0)
        raw.ClearField("blobs")
    return net


Piece = bytes | memoryview


def _size(piece: Piece) -> int:
    return piece.nbytes if isinstance(piece, memoryview) else len(piece)


def _layer(raw: Any, arrays: Sequence[Array], diffs: Sequence[Array] = ()) -> Iterator[Piece]:
    """A LayerParameter in the order of its field numbers, the blobs in their place among them."""
    place = field_numbers("LayerParameter")["blobs"]
    before, after = type(raw)(), type(raw)()
    before.CopyFrom(raw)
    before.DiscardUnknownFields()
    after.CopyFrom(raw)
    for field, _ in raw.ListFields():
        (after if field.number < place else before).ClearField(field.name)
    yield before.SerializeToString(deterministic=True)
    for i, array in enumerate(arrays):
        diff = np.asarray(diffs[i]) if diffs else None
        pieces = list(_blob(np.asarray(array), f'"{raw.name}" (blob {i})', diff))
        yield head(place, sum(map(_size, pieces)))
        yield from pieces
    yield after.SerializeToString(deterministic=True)


def _blob(array: Array, layer: str, diff: Array | None = None) -> Iterator[Piece]:
    """A BlobProto. Source: Caffe, src/caffe/blob.cpp, ToProto."""
    if array.size > MAX_COUNT:
        got = f"{dims(array.shape)} = {prod(array.shape):,}"
        raise NetError("the blob is too large", layer=layer, expected=f"at most {MAX_COUNT:,} elements", got=got)
    double = array.dtype == np.float64
    fields = field_numbers("BlobProto")
    shape = schema.BlobProto()
    if array.shape:
        shape.shape.dim.extend(array.shape)
    parts: dict[int, list[Piece]] = {fields["shape"]: [shape.SerializeToString()]}
    for name, numbers in (("data", array), ("diff", diff)):
        if numbers is not None and numbers.size:
            number = fields[f"double_{name}" if double else name]
            values = np.ascontiguousarray(numbers, "<f8" if double else "<f4")
            parts[number] = [head(number, values.nbytes), values.reshape(-1).view(np.uint8).data]
    for number in sorted(parts):
        yield from parts[number]
