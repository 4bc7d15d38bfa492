"""A net and its arrays -> .caffemodel, byte for byte as Caffe saves it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import schema
from ..builder import included, net_state
from ..errors import NetError, nearest
from ..files import atomic
from ..graph import Array, dims
from ..layers import Layer, registry
from ..layers.base import MAX_COUNT
from ..splits import insert_splits
from ..text import Marks, Msg
from .wire import BYTES, field_numbers

TEXT_ONLY = 40_000  # fields from this number on have no place in a file: see the head of proto/caffe.proto
BATCH_NORM_BLOBS = 3  # mean, variance, scale factor


def write_caffemodel(
    path: str | os.PathLike[str],
    msg: Msg,
    blobs: Mapping[str, Sequence[Array]],
    *,
    phase: str = "TEST",
    level: int = 0,
    stages: Iterable[str] = (),
) -> None:
    """Write a net with its learned blobs, whole or not at all; the values go to the file as they lie in memory.

    msg: in today's form, as `load` gives it.  blobs: `{layer: [arrays in Caffe's order and shape]}`, of all layers that
    have any, sharing ones too.  phase, level, stages: the NetState whose layers are saved, as `build` takes them.
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
    with atomic(path) as file:
        file.write(_head(fields["name"], len(net.name.encode())) + net.name.encode())
        for raw in net.layer:
            idle = raw.name in learners and not _learns(raw.type)  # it only bears the name of one that learns
            pieces = list(_layer(raw, () if idle else blobs.get(raw.name, ())))
            file.write(_head(fields["layer"], sum(map(_size, pieces))))
            for piece in pieces:
                file.write(piece)


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
        _drop_text_only(raw)
    return net


def _drop_text_only(raw: Any) -> None:
    """Clear fields whose number is not their own: in a file they would be something else to every reader."""
    for field, value in raw.ListFields():
        if field.number >= TEXT_ONLY:
            raw.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if schema.is_repeated(field) else (value,):
                _drop_text_only(part)


Piece = bytes | memoryview


def _size(piece: Piece) -> int:
    return piece.nbytes if isinstance(piece, memoryview) else len(piece)


def _head(number: int, length: int) -> bytes:
    """The tag and the length in front of a string, a message or packed numbers."""
    return _varint(number << 3 | BYTES) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _layer(raw: Any, arrays: Sequence[Array]) -> Iterator[Piece]:
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
        pieces = list(_blob(np.asarray(array), f'"{raw.name}" (blob {i})'))
        yield _head(place, sum(map(_size, pieces)))
        yield from pieces
    yield after.SerializeToString(deterministic=True)


def _blob(array: Array, layer: str) -> Iterator[Piece]:
    """A BlobProto. Source: Caffe, src/caffe/blob.cpp, ToProto."""
    if array.size > MAX_COUNT:
        got = f"{dims(array.shape)} = {prod(array.shape):,}"
        raise NetError("the blob is too large", layer=layer, expected=f"at most {MAX_COUNT:,} elements", got=got)
    name, kind = ("double_data", "<f8") if array.dtype == np.float64 else ("data", "<f4")
    fields = field_numbers("BlobProto")
    values = np.ascontiguousarray(array, kind)
    shape = schema.BlobProto()
    if array.shape:
        shape.shape.dim.extend(array.shape)
    data: list[Piece] = (
        [_head(fields[name], values.nbytes), values.reshape(-1).view(np.uint8).data] if array.size else []
    )
    parts: dict[int, list[Piece]] = {fields["shape"]: [shape.SerializeToString()], fields[name]: data}
    for number in sorted(parts):
        yield from parts[number]
