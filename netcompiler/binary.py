"""Caffe's binary files <-> arrays: .caffemodel, its HDF5 form, and .binaryproto.

A .caffemodel is a serialised NetParameter, nearly all of it float arrays. Parsing it with protobuf copies every byte;
here a small walker over the wire format finds where the arrays lie in the mapped file, and numpy views them there.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import prod

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from . import schema
from .errors import NetError
from .graph import Array, Shape, dims

MAX_AXES = 32  # of a blob, as in Caffe
MAX_COUNT = (1 << 31) - 1  # elements of a blob, as in Caffe


def read_caffemodel(path: str | os.PathLike[str]) -> dict[str, list[Array]]:
    """The learned blobs of a .caffemodel or .caffemodel.h5: `{layer: [arrays in Caffe's order and shape]}`.

    Layers without blobs are left out, also where that is all of them; of layers with one name the last counts, as when Caffe copies them in turn.
    Arrays that lie in one piece are read-only views of the mapped file: float32, or float64 where the file has that.
    Half precision (NVCaffe) becomes float32.

    Raises: NetError with the byte where the file is damaged or cut short, and for a file that holds no weights.
    """
    wire = _Wire.open(path, "weights (.caffemodel or .caffemodel.h5)")
    if wire is None:
        return _read_h5(path)
    fields = list(wire.fields(0, wire.size))
    wire.expect("NetParameter", fields)
    net = _numbers("NetParameter")
    kind, number = "LayerParameter", net["layer"]
    if any(n == net["layers"] and w == BYTES for n, w, _, _ in fields):  # Caffe then ignores `layer`
        kind, number = "V1LayerParameter", net["layers"]
    layers = [_layer(wire, kind, a, b) for n, w, a, b in fields if n == number and w == BYTES]
    found = {}
    for name, places in layers:
        if places:
            found[name] = [_blob(wire, a, b, f'"{name}" (blob {i})') for i, (a, b) in enumerate(places)]
    if not layers:
        raise NetError("the file has no layers", at=wire.file, expected=wire.wanted)
    return found


def read_blobproto(path: str | os.PathLike[str]) -> Array:
    """The array of a .binaryproto, such as a mean image: C x H x W where the file has 1 x C x H x W.

    Raises: NetError for a file that cannot be read, is damaged, or is none of this kind.
    """
    wire = _Wire.open(path, "an array (.binaryproto)")
    if wire is None:
        raise NetError("this is an HDF5 file", at=str(path), expected="an array (.binaryproto)")
    wire.expect("BlobProto", list(wire.fields(0, wire.size)))
    array = _blob(wire, 0, wire.size, None)
    return array[0] if array.ndim == 4 and array.shape[0] == 1 else array


def merge(files: Iterable[Mapping[str, Sequence[Array]]]) -> dict[str, list[Array]]:
    """The blobs of several weight files in order: a layer of a later file replaces that of an earlier one."""
    return {name: list(arrays) for blobs in files for name, arrays in blobs.items()}


# The wire format: https://protobuf.dev/programming-guides/encoding

VARINT, FIXED64, BYTES, START, END, FIXED32 = range(6)
MAX_DEPTH = 100  # groups within groups, as protobuf's own readers allow

Field = tuple[int, int, int, int]  # number, wire type, and where the value starts and stops


def _numbers(kind: str) -> dict[str, int]:
    """The field numbers of one message of the schema."""
    return {name: f.number for name, f in schema.message(kind).DESCRIPTOR.fields_by_name.items()}


def _wire_types(field: FieldDescriptor) -> tuple[int, ...]:
    """How a field may be written. A repeated number may also be packed."""
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE):
        return (BYTES,)
    plain = {FieldDescriptor.TYPE_FLOAT: FIXED32, FieldDescriptor.TYPE_DOUBLE: FIXED64}.get(field.type, VARINT)
    return (plain, BYTES) if schema.is_repeated(field) else (plain,)


def _fits(kind: str, fields: Sequence[Field]) -> bool:
    """Whether fields can be those of a message: some are known to it, and those in wire types that they may have."""
    known = schema.message(kind).DESCRIPTOR.fields_by_number
    seen = {(n, w) for n, w, _, _ in fields if n in known}
    return bool(seen) and all(w in _wire_types(known[n]) for n, w in seen)


# What a user may have given by mistake: how the file starts, what it is, what to do.
_STARTS = (
    (b"version https://git-lfs", "this is a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"),
    (b"<", "this is a web page", "download the file again, by its direct link"),
    (b"PK\x03\x04", "this is a zip archive", "unpack it first"),
    (b"\x1f\x8b", "this is a gzip archive", "unpack it first"),
)
_KINDS = {
    "NetParameter": ("this is a .caffemodel", "give it as the weights"),
    "SolverState": ("this is a .solverstate", "weights are in the .caffemodel of the same snapshot"),
    "BlobProto": ("this is a single array, such as a mean (.binaryproto)", "weights are in a .caffemodel"),
}
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # never in text; always in a net with a layer


class _Wire:
    """A mapped file in protobuf's wire format; what is read is checked against the end of the message around it."""

    def __init__(self, data: mmap.mmap, file: str, wanted: str) -> None:
        self.data, self.size, self.file, self.wanted = data, len(data), file, wanted

    @classmethod
    def open(cls, path: str | os.PathLike[str], wanted: str) -> _Wire | None:
        """The mapped file; None for one in HDF5.

        Raises: NetError for a file that cannot be mapped, and for one that plainly is something else.
        """
        file = str(path)
        try:
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode):  # opening a pipe would wait for its writer
                raise NetError("a directory" if stat.S_ISDIR(mode) else "not a regular file", at=file, expected=wanted)
            with open(path, "rb") as f:
                if not os.fstat(f.fileno()).st_size:
                    raise NetError("the file is empty", at=file, expected=wanted)
                data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as e:
            raise NetError(f"cannot be read: {getattr(e, 'strerror', None) or e}", at=file) from None
        head = data[: 1 << 16]
        if head.startswith(b"\x89HDF"):
            return None
        for start, what, hint in _STARTS:
            if head.startswith(start):
                raise NetError(what, at=file, expected=wanted, hint=hint)
        if not _CONTROL.search(head) and (b"{" in head or b":" in head):
            hint = "give a prototxt as the net; weights are in the .caffemodel beside it"
            raise NetError("this is text", at=file, expected=wanted, hint=hint)
        return cls(data, file, wanted)

    def expect(self, kind: str, fields: Sequence[Field]) -> None:
        """Raises: NetError when the fields of the whole file are rather those of another kind of file."""
        if _fits(kind, fields):
            return
        for other, (what, hint) in _KINDS.items():
            if _fits(other, fields):
                raise NetError(what, at=self.file, expected=self.wanted, hint=hint)
        raise NetError("this is no file of Caffe's", at=self.file, expected=self.wanted)

    def damaged(self, at: int, what: str, end: int | None = None, **told: object) -> NetError:
        """The fault found at byte `at`. `end`: of the message that proved too short; perhaps that of the file."""
        what = "the file is cut short" if end == self.size else f"the file is damaged: {what}"
        hint = "copy or download it again, if this is the right file"
        return NetError(what, at=f"{self.file}, byte {at:,}", hint=hint, **told)  # type: ignore[arg-type]

    def varint(self, pos: int, end: int) -> tuple[int, int]:
        """A number below 2^64 at `pos`, and where it stops."""
        value = shift = 0
        for at in range(pos, min(end, pos + 10)):
            byte = self.data[at]
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at + 1
            shift += 7
        if shift == 70:
            raise self.damaged(pos, "a number has more than 10 bytes")
        raise self.damaged(pos, "a number runs past the end of its message", end)

    def signed(self, pos: int, end: int, bits: int = 64) -> int:
        """The int64 or int32 whose bytes start at `pos`."""
        value = self.varint(pos, end)[0] & ((1 << bits) - 1)
        return value - (1 << bits) if value >> (bits - 1) else value

    def field(self, pos: int, end: int) -> Field:
        """The field whose tag is at `pos`, in a message that stops at `end`."""
        tag, start = self.varint(pos, end)
        number, kind = tag >> 3, tag & 7
        if kind == BYTES:
            length, start = self.varint(start, end)
        elif kind == VARINT:
            length = self.varint(start, end)[1] - start
        elif kind == FIXED32:
            length = 4
        elif kind == FIXED64:
            length = 8
        elif kind == START:
            length = self.group(number, start, end) - start
        else:
            raise self.damaged(
                pos, f"no field has wire type {kind}" if kind != END else "a group ends that never began"
            )
        if not 0 < number < 1 << 29:
            raise self.damaged(pos, f"no field has number {number}")
        if length > end - start:
            what = f"field {number} runs past the end of its message"
            raise self.damaged(
                pos, what, end, expected=f"{length:,} bytes from byte {start:,} on", got=f"{end - start:,}"
            )
        return number, kind, start, start + length

    def fields(self, pos: int, end: int) -> Iterator[Field]:
        """The fields of a message that lies from `pos` to `end`."""
        while pos < end:
            found = self.field(pos, end)
            yield found
            pos = found[3]

    def group(self, number: int, pos: int, end: int) -> int:
        """Where a group stops, its closing tag included. Caffe has none; a fork's unknown field might."""
        begun, still = pos, [number]
        while still:
            tag, after = self.varint(pos, end)
            if tag & 7 == START:
                still.append(tag >> 3)
                if len(still) > MAX_DEPTH:
                    raise self.damaged(begun, f"groups are nested more than {MAX_DEPTH} deep")
                pos = after
            elif tag & 7 == END:
                if still.pop() != tag >> 3:
                    raise self.damaged(pos, "a group ends that never began")
                pos = after
            else:
                pos = self.field(pos, end)[3]
        return pos

    def packed(self, dtype: str, start: int, stop: int) -> list[Array]:
        """The values that lie one after the other from `start` to `stop`, as a view of the file; none: no array."""
        size = np.dtype(dtype).itemsize
        count, rest = divmod(stop - start, size)
        if rest:
            raise self.damaged(start, f"{stop - start:,} bytes are no whole number of {size}-byte values")
        return [np.frombuffer(self.data, dtype, count, start)] if count else []

    def unpacked(self, dtype: str, tag: int, start: int, end: int) -> tuple[Array, int]:
        """The values that follow each other with one tag each, and where they stop.

        `tag` is where the first one's tag is, `start` where its value is, `end` where the message stops.
        """
        item = np.dtype([("tag", "u1", (start - tag,)), ("value", dtype)])
        first = np.frombuffer(self.data, item, 1, tag)["tag"]
        most, count, look = (end - tag) // item.itemsize, 1, 64
        while count < most:
            ahead = np.frombuffer(self.data, item, min(look, most - count), tag + count * item.itemsize)["tag"]
            other = np.flatnonzero((ahead != first).any(axis=1))
            count += int(other[0]) if other.size else len(ahead)
            if other.size:
                break
            look *= 2
        values = np.frombuffer(self.data, item, count, tag)["value"]
        return np.ascontiguousarray(values), tag + count * item.itemsize

    def dims(self, start: int, stop: int) -> list[int]:
        """The dims of a BlobShape, packed or one by one; at most one more than a blob may have."""
        number = _numbers("BlobShape")["dim"]
        found: list[int] = []
        for n, w, a, b in self.fields(start, stop):
            if n != number or w not in (VARINT, BYTES):
                continue
            while a < b and len(found) <= MAX_AXES:
                found.append(self.signed(a, b))
                a = self.varint(a, b)[1]
        return found

    def text(self, start: int, stop: int) -> str:
        """A string; as in a prototxt, what is not UTF-8 is read as Latin-1."""
        raw = self.data[start:stop]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw.decode("latin-1")


def _layer(wire: _Wire, kind: str, start: int, stop: int) -> tuple[str, list[tuple[int, int]]]:
    """The name of a layer, and where its blobs lie. V0 keeps both in a message of its own inside a V1 layer."""
    numbers = _numbers(kind)
    name, places, inner = "", [], []
    for n, w, a, b in wire.fields(start, stop):
        if w != BYTES:
            continue
        if n == numbers["name"]:
            name = wire.text(a, b)
        elif n == numbers["blobs"]:
            places.append((a, b))
        elif kind == "V1LayerParameter" and n == numbers["layer"]:
            inner.append(_layer(wire, "V0LayerParameter", a, b))
    if not inner:
        return name, places
    names = [name for name, _ in inner if name]
    return names[-1] if names else "", list(chain.from_iterable(places for _, places in inner))


def _blob(wire: _Wire, start: int, stop: int, layer: str | None) -> Array:
    """The array of the BlobProto between two bytes. Nothing is allocated before its size is proved."""
    try:
        shape, chunks = _contents(wire, start, stop)
        _check_shape(shape, wire, start)
        count = sum(c.size for c in chunks)
        if count != prod(shape):
            expected, got = f"{prod(shape):,} for the shape {dims(shape)}", f"{count:,}"
            what = "the number of values does not fit the shape"
            raise NetError(what, at=f"{wire.file}, byte {start:,}", expected=expected, got=got)
    except NetError as e:
        e.layer = e.layer or layer
        raise
    if not chunks:
        return np.zeros(shape, np.float32)
    array = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return (array.astype(np.float32) if array.dtype == np.float16 else array).reshape(shape)


def _check_shape(shape: Shape, wire: _Wire, at: int) -> None:
    fits = len(shape) <= MAX_AXES and all(d >= 0 for d in shape) and prod(d for d in shape if d) <= MAX_COUNT
    if not fits:
        expected = f"at most {MAX_AXES} dims, none negative, and {MAX_COUNT:,} elements, as in Caffe"
        raise NetError(
            "no blob can have this shape", at=f"{wire.file}, byte {at:,}", expected=expected, got=dims(shape)
        )


def _contents(wire: _Wire, start: int, stop: int) -> tuple[Shape, list[Array]]:
    """The shape and the pieces of the values of a BlobProto.

    The four old dims count before `shape`, and `double_data` before `data`, as in Caffe; `raw_data` before both, as in
    NVCaffe. Source: Caffe, src/caffe/blob.cpp, FromProto.
    """
    numbers = _numbers("BlobProto")
    old_numbers = [numbers[n] for n in ("num", "channels", "height", "width")]
    types = {numbers["data"]: "<f4", numbers["double_data"]: "<f8"}
    shape: list[int] = []
    old: dict[int, int] = {}
    values: dict[int, list[Array]] = {n: [] for n in types}
    raw: tuple[int, int] | None = None
    raw_type: int | None = None
    pos = start
    while pos < stop:
        n, w, a, b = wire.field(pos, stop)
        if n in types and w == BYTES:
            values[n] += wire.packed(types[n], a, b)
        elif n in types and w in (FIXED32, FIXED64) and b - a == np.dtype(types[n]).itemsize:
            run, b = wire.unpacked(types[n], pos, a, stop)
            values[n].append(run)
        elif n == numbers["shape"] and w == BYTES:
            shape += wire.dims(a, b)
            if len(shape) > MAX_AXES:
                break  # refused by the caller
        elif n in old_numbers and w == VARINT:
            old[n] = wire.signed(a, b, 32)
        elif n == numbers["raw_data"] and w == BYTES:
            raw = a, b
        elif n == numbers["raw_data_type"] and w == VARINT:
            raw_type = wire.signed(a, b, 32)
        pos = b
    resolved = tuple(old.get(n, 0) for n in old_numbers) if old else tuple(shape)
    if raw is not None:
        return resolved, _raw(wire, *raw, raw_type)
    return resolved, values[numbers["double_data"]] or values[numbers["data"]]


def _raw(wire: _Wire, start: int, stop: int, kind: int | None) -> list[Array]:
    """NVCaffe's values as plain bytes of a named type."""
    names = {number: name for name, number in schema.enum("Type").items()}
    dtype = {"DOUBLE": "<f8", "FLOAT": "<f4", "FLOAT16": "<f2"}.get(names.get(kind, ""))  # type: ignore[arg-type]
    if dtype is None:
        at = f"{wire.file}, byte {start:,}"
        got = names.get(kind, kind) if kind is not None else "none"
        raise NetError("raw_data is of no type that weights have", at=at, expected="DOUBLE, FLOAT or FLOAT16", got=got)
    return wire.packed(dtype, start, stop)


def _read_h5(path: str | os.PathLike[str]) -> dict[str, list[Array]]:
    raise NotImplementedError
