"""The net that a .caffemodel holds -> message; its weights stay where they are."""

from __future__ import annotations

import os
from typing import Any

from google.protobuf.message import DecodeError

from .. import schema
from ..errors import NetError
from ..text import Msg
from .wire import BYTES, Wire, field_numbers

WANTED = "a net with its weights (.caffemodel)"


def read_net(path: str | os.PathLike[str]) -> Msg:
    """The net inside a .caffemodel as it was saved, of whatever generation, without blobs: they are not even looked at.

    Raises: NetError for a file that is damaged or cut short, and for one that holds no net.
    """
    wire = Wire.open(path, WANTED)
    if wire is None:
        hint = "the .caffemodel of the same snapshot has both"
        raise NetError("a .caffemodel.h5 holds weights only", at=str(path), expected=WANTED, hint=hint)
    numbers = field_numbers("NetParameter")
    nested = {numbers["layer"]: "LayerParameter", numbers["layers"]: "V1LayerParameter"}
    seen = {(n, w) for n, w, _, _ in wire.fields(0, wire.size)}
    if (numbers["layer"], BYTES) not in seen:  # no other file has that field
        wire.expect("NetParameter", seen)
    net = _message(wire, "NetParameter", 0, wire.size, leave=frozenset(nested))
    for n, w, a, b in wire.fields(0, wire.size):
        if n in nested and w == BYTES:
            (net.layer if nested[n] == "LayerParameter" else net.layers).append(_layer(wire, nested[n], a, b))
    return Msg(net)


def _layer(wire: Wire, kind: str, start: int, stop: int) -> Any:
    """A layer without its blobs; V0 keeps its own in a layer inside the layer."""
    numbers = field_numbers(kind)
    inner = numbers["layer"] if kind == "V1LayerParameter" else 0
    layer = _message(wire, kind, start, stop, leave=frozenset((numbers["blobs"], inner)))
    for n, w, a, b in wire.fields(start, stop):
        if n == inner and w == BYTES:
            layer.layer.MergeFrom(_layer(wire, "V0LayerParameter", a, b))
    return layer


def _message(wire: Wire, kind: str, start: int, stop: int, leave: frozenset[int]) -> Any:
    """A message, but for the fields of some numbers: their bytes are cut out, and what stays is a message as well."""
    kept, pos = [], start
    for n, _, _, b in wire.fields(start, stop):
        if n not in leave:
            kept.append(wire.data[pos:b])
        pos = b
    try:
        message = schema.message(kind).FromString(b"".join(kept))
    except DecodeError:
        raise NetError(f"the file is damaged: this is no {kind}", at=wire.place(start)) from None
    _mend(message)
    return message


def _mend(message: Any) -> None:
    """Strings that are not UTF-8, which protobuf hands over as bytes, are read as Latin-1, as in a prototxt."""
    for field, value in message.ListFields():
        values = value if schema.is_repeated(field) else (value,)
        if field.message_type is not None:
            for part in values:
                _mend(part)
        elif field.type == field.TYPE_STRING and any(isinstance(v, bytes) for v in values):
            texts = [v.decode("latin-1") if isinstance(v, bytes) else v for v in values]
            if schema.is_repeated(field):
                value[:] = texts
            else:
                setattr(message, field.name, texts[0])
