"""A file in protobuf's wire format, mapped and walked without a copy; and how other files are told from it."""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections.abc import Iterator, Set
from functools import cache

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from .. import schema
from ..errors import NetError
from ..graph import Array

VARINT, FIXED64, BYTES, START, END, FIXED32 = range(6)  # https://protobuf.dev/programming-guides/encoding
MAX_DEPTH = 100  # groups within groups, as protobuf's own readers allow

Field = tuple[int, int, int, int]  # number, wire type, and where the value starts and stops


@cache
def field_numbers(kind: str) -> dict[str, int]:
    """The field numbers of one message of the schema."""
    return {name: f.number for name, f in schema.message(kind).DESCRIPTOR.fields_by_name.items()}


def head(number: int, length: int) -> bytes:
    """The tag and the length in front of a string, a message or packed numbers."""
    return _varint(number << 3 | BYTES) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _wire_types(field: FieldDescriptor) -> tuple[int, ...]:
    """How a field may be written. A repeated number may also be packed."""
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE):
        return (BYTES,)
    plain = {FieldDescriptor.TYPE_FLOAT: FIXED32, FieldDescriptor.TYPE_DOUBLE: FIXED64}.get(field.type, VARINT)
    return (plain, BYTES) if schema.is_repeated(field) else (plain,)


def _fitting(kind: str, seen: Set[tuple[int, int]]) -> list[bool]:
    """For each field that a message knows, given as number and wire type: whether it may be written in that type."""
    known = schema.message(kind).DESCRIPTOR.fields_by_number
    return [w in _wire_types(known[n]) for n, w in seen if n in known]


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


class Wire:
    """A mapped file in protobuf's wire format; what is read is checked against the end of the message around it."""

    def __init__(self, data: mmap.mmap, file: str, wanted: str) -> None:
        self.data, self.size, self.file, self.wanted = data, len(data), file, wanted

    @classmethod
    def open(cls, path: str | os.PathLike[str], wanted: str) -> Wire | None:
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
            raise NetError("this is text", at=file, expected=wanted, hint="if it is a prototxt, give it as the net")
        return cls(data, file, wanted)

    def expect(self, kind: str, seen: Set[tuple[int, int]]) -> None:
        """Raises: NetError when the file's fields, each as number and wire type, are rather those of another file."""
        fitting = _fitting(kind, seen)
        if fitting and all(fitting):
            return
        for other, (what, hint) in _KINDS.items():
            found = _fitting(other, seen)
            if found and all(found):
                raise NetError(what, at=self.file, expected=self.wanted, hint=hint)
        if not any(fitting):
            raise NetError("this is no file of Caffe's", at=self.file, expected=self.wanted)

    def place(self, byte: int) -> str:
        """A byte of the file, for a NetError."""
        return f"{self.file}, byte {byte}"

    def damaged(self, at: int, what: str, end: int | None = None, **told: object) -> NetError:
        """The fault found at byte `at`. `end`: of the message that proved too short; perhaps that of the file."""
        what = "the file is cut short" if end == self.size else f"the file is damaged: {what}"
        hint = "copy or download it again, if this is the right file"
        return NetError(what, at=self.place(at), hint=hint, **told)  # type: ignore[arg-type]

    def varint(self, pos: int, end: int) -> tuple[int, int]:
        """A number below 2^64 at `pos`, and where it stops."""
        if pos < end and self.data[pos] < 128:  # most are that short
            return self.data[pos], pos + 1
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
            what = "a group ends that never began" if kind == END else f"no field has wire type {kind}"
            raise self.damaged(pos, what)
        if not 0 < number < 1 << 29:
            raise self.damaged(pos, f"no field has number {number}")
        if length > end - start:
            what = f"field {number} runs past the end of its message"
            expected = f"{length:,} bytes from byte {start} on"
            raise self.damaged(pos, what, end, expected=expected, got=f"{end - start:,}")
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

    def text(self, start: int, stop: int) -> str:
        """A string; as in a prototxt, what is not UTF-8 is read as Latin-1."""
        raw = self.data[start:stop]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw.decode("latin-1")
