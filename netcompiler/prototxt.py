"""The grammar of prototxt: text -> the fields of a protobuf message, and Marks that tell where each was written.

The grammar is that of protobuf's text format as Caffe reads it: a field that holds one value is written once. One walk
reads the values, notes the places and gathers the faults, so that all of them are told together.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from . import schema
from .errors import NetError, Span


@dataclass(slots=True)
class Marks:
    """Where a message and its fields were written: field name -> one (Span, Marks of the value) per occurrence."""

    at: Span | None = None
    fields: dict[str, list[Marks]] = field(default_factory=dict)

    def of(self, name: str, index: int) -> Marks:
        """The marks of one occurrence of a field; empty ones, placed at the message, where it was not written."""
        found = self.fields.get(name, ())
        return found[index] if index < len(found) else Marks(self.at)

    def copy(self) -> Marks:
        """Marks of their own, down to the last field."""
        return Marks(self.at, {name: [m.copy() for m in places] for name, places in self.fields.items()})


def read(text: str, raw: Any, file: str) -> Marks:
    """Fill a protobuf message from prototxt. Returns where its fields were written.

    Raises: NetError with file:line:column, for all unknown fields, bad values and the like together.
    """
    reader = _Reader(text, file)
    marks = Marks(reader.span(0))
    with contextlib.suppress(_Stop):
        reader.message(raw, _kind(raw.DESCRIPTOR.full_name), marks, None)
    faults = reader.all_faults()
    if faults:
        raise NetError.join(faults)
    return marks


# What a field takes, by descriptor type; None stands for a message.
_TAKES = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "float",
    FieldDescriptor.TYPE_INT32: "int",
    FieldDescriptor.TYPE_INT64: "int",
    FieldDescriptor.TYPE_UINT32: "int",
    FieldDescriptor.TYPE_UINT64: "int",
}
_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
}


@dataclass(frozen=True, slots=True)
class _Field:
    """What the reader needs to know of a field."""

    name: str
    takes: str | None  # None: a message
    repeated: bool
    message: str = ""  # the full name of its message type
    enum: tuple[tuple[str, int], ...] = ()
    range: tuple[int, int] = (0, 0)

    @property
    def expected(self) -> str:
        """The values that the field takes, in words."""
        if self.takes is None:
            return f"{self.name} {{ ... }}"
        if self.takes == "int":
            return f"a whole number from {self.range[0]} to {self.range[1]}"
        if self.takes == "enum":
            names = [name for name, _ in self.enum]
            return f"one of {', '.join(names)}" if len(names) <= 12 else f"one of {', '.join(names[:10])}, ..."
        return {"float": "a number", "bool": "true or false"}.get(self.takes, "a string in quotes")


@dataclass(frozen=True, slots=True)
class _Kind:
    """A message type: its name, its fields, and those that must be given."""

    name: str
    fields: dict[str, _Field]
    required: tuple[str, ...]


@cache
def _kind(full_name: str) -> _Kind:
    descriptor = schema.message(full_name.removeprefix("caffe.")).DESCRIPTOR
    fields = {}
    for d in descriptor.fields:
        takes = _TAKES.get(d.type)
        assert (takes is None) == (d.message_type is not None), f"{d.full_name} is of a type that is not read"
        fields[d.name] = _Field(
            d.name,
            takes,
            schema.is_repeated(d),
            d.message_type.full_name if d.message_type is not None else "",
            tuple((v.name, v.number) for v in d.enum_type.values) if d.enum_type is not None else (),
            _RANGES.get(d.type, (0, 0)),
        )
    return _Kind(descriptor.name, fields, tuple(d.name for d in descriptor.fields if d.is_required))


_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<string>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
      | (?P<number>[-+]?\.?[0-9](?:[eE][-+]?[0-9]+|[0-9A-Za-z._])*)
      | (?P<mark>.)""",
    re.VERBOSE,
)
_CLOSE = {"{": "}", "<": ">"}
_INT = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?[fF]?|(-?(inf(inity)?|nan))f?", re.I)
_BOOL = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\?'\"])|([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)")
_ESCAPED = dict(zip("abfnrtv\\?'\"", "\a\b\f\n\r\t\v\\?'\"", strict=True))
MAX_DEPTH = 64  # nested messages; Caffe's deepest is 6


class _Stop(Exception):
    """The walk cannot go on: where the next field begins is unknown."""


@dataclass(slots=True)
class _Open:
    """A message that the walk is in: its type (None: inside an unknown field) and its opening mark."""

    kind: _Kind | None
    mark: str
    offset: int


class _Reader:
    """One walk over the text that fills a message, notes where its fields stand, and gathers what is wrong."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.tokens = [(str(m.lastgroup), m.group(), m.start()) for m in _TOKEN.finditer(text) if m.lastgroup != "skip"]
        self.tokens.append(("end", "", len(text)))
        self.next = 0
        self.open: list[_Open] = []
        self.faults: list[tuple[int, NetError]] = []
        self.unknown: dict[tuple[str, str], tuple[_Open | None, list[int]]] = {}
        self.strays: dict[tuple[str, str], _Open] = {}  # unknown fields that an enclosing message has

    def span(self, offset: int) -> Span:
        number = bisect_right(self.starts, offset)
        return Span(self.file, number, offset - self.starts[number - 1] + 1, self.lines[number - 1].rstrip("\r"))

    def fault(self, what: str, offset: int, **more: Any) -> None:
        self.faults.append((offset, NetError(what, at=self.span(offset), **more)))

    def stop(self, what: str, offset: int, **more: Any) -> _Stop:
        """To be raised: a fault after which nothing more can be made out."""
        self.fault(what, offset, **more)
        return _Stop()

    def got(self) -> str:
        """The next token as messages name it."""
        kind, text, _ = self.tokens[self.next]
        return "the end of the file" if kind == "end" else text if kind in ("string", "number") else f'"{text}"'

    def message(self, raw: Any, kind: _Kind | None, marks: Marks, opened: _Open | None) -> None:
        """Fields up to the closing mark. Inside an unknown field `raw` and `kind` are None."""
        close = _CLOSE[opened.mark] if opened else ""
        while True:
            token, word, offset = self.tokens[self.next]
            if token != "word":
                if token == "end" and opened:
                    raise self.unclosed()
                if token == "end" or word == close:
                    break
                raise self.no_field(offset, close, opened)
            self.next += 1
            known = kind.fields.get(word) if kind is not None else None
            if known is None and kind is not None:
                self.unknown.setdefault((kind.name, word), (opened, []))[1].append(offset)
                if opened and any(o.kind and word in o.kind.fields for o in (*self.open[:-1], _TOP)):
                    self.strays.setdefault((kind.name, word), opened)
            places = marks.fields.setdefault(word, [])
            if known is not None and not known.repeated and places:
                line = places[0].at.line if places[0].at else 0
                self.fault(f'"{word}" is given twice', offset, expected="one value", got=f"another one in line {line}")
            self.field(raw, known, places, offset)
            if self.tokens[self.next][1] in (",", ";"):
                self.next += 1
        self.next += bool(opened)
        for name in kind.required if kind is not None else ():
            if name not in marks.fields:
                self.fault(f'{kind.name if kind else ""} lacks "{name}"', opened.offset if opened else 0)
