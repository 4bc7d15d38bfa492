"""prototxt -> Msg, a protobuf message that still knows where each of its fields was written; and back to prototxt.

protobuf's own text_format reads the values, so the grammar is the real one. Beside it a small scanner notes the place
of every field; it also sees unknown fields and unclosed braces before protobuf does, and reports them all at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from . import schema
from .errors import NetError, Span, nearest


@dataclass(slots=True)
class Marks:
    """Where a message and its fields were written: field name -> one (Span, Marks of the value) per occurrence."""

    at: Span | None = None
    fields: dict[str, list[Marks]] = field(default_factory=dict)

    def of(self, name: str, index: int) -> Marks:
        """The marks of one occurrence of a field; empty ones, placed at the message, where it was not written."""
        found = self.fields.get(name, ())
        return found[index] if index < len(found) else Marks(self.at)


class Msg:
    """A protobuf message with the Span of every field.

    Fields read and write as on the message itself; `raw` is that message. A repeated message field gives a `Repeated`.
    `at("pad")` is the Span of a field. `read` holds the names of the fields that were asked for, so that a builder can
    tell which settings nobody looked at.
    """

    __slots__ = ("_parts", "marks", "raw", "read")
    raw: Any
    marks: Marks
    read: set[str]
    _parts: dict[str, Msg]

    def __init__(self, raw: Any, marks: Marks | None = None) -> None:
        object.__setattr__(self, "raw", raw)
        object.__setattr__(self, "marks", marks or Marks())
        object.__setattr__(self, "read", set())
        object.__setattr__(self, "_parts", {})

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.raw, name)
        self.read.add(name)
        descriptor = self.raw.DESCRIPTOR.fields_by_name.get(name)
        if descriptor is None or descriptor.message_type is None:
            return value
        if schema.is_repeated(descriptor):
            return Repeated(value, self.marks.fields.setdefault(name, []))
        if name not in self._parts:
            self._parts[name] = Msg(value, self.marks.of(name, 0))
        return self._parts[name]

    def parts(self) -> tuple[Msg, ...]:
        """The single messages inside this one that were looked at so far."""
        return tuple(self._parts.values())

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.raw, name, value)
        self.marks.fields.pop(name, None)

    def __eq__(self, other: object) -> bool:
        return bool(self.raw == (other.raw if isinstance(other, Msg) else other))

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return format_message(self)

    def __repr__(self) -> str:
        return f"<{self.raw.DESCRIPTOR.name} at {self.marks.at}>"

    def has(self, name: str) -> bool:
        """Whether a field was set (a repeated one: holds anything)."""
        self.read.add(name)
        descriptor = self.raw.DESCRIPTOR.fields_by_name[name]
        return len(getattr(self.raw, name)) > 0 if schema.is_repeated(descriptor) else bool(self.raw.HasField(name))

    def at(self, name: str = "", index: int = 0) -> Span | None:
        """Where a field was written; the message itself when it was not, or without a name."""
        return self.marks.of(name, index).at

    def enum(self, name: str) -> str:
        """The name of an enum field's value."""
        descriptor = self.raw.DESCRIPTOR.fields_by_name[name]
        return str(descriptor.enum_type.values_by_number[getattr(self, name)].name)

    @classmethod
    def of(cls, message: Any) -> Msg:
        """The message itself, or a protobuf message of our schema as a Msg without places."""
        return message if isinstance(message, cls) else cls(message)

    def copy(self) -> Msg:
        """A message of its own with the same fields and marks."""
        twin = type(self.raw)()
        twin.CopyFrom(self.raw)
        return Msg(twin, self.marks)


class Repeated(Sequence[Msg]):
    """A repeated message field; items are Msg. What it does not define is the protobuf container's own."""

    def __init__(self, raw: Any, marks: list[Marks]) -> None:
        self._raw, self._marks = raw, marks

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return Msg(self._raw[place], self._marks[place] if place < len(self._marks) else None)

    def __delitem__(self, index: Any) -> None:
        del self._raw[index]
        del self._marks[index]

    def __iter__(self) -> Iterator[Msg]:
        return (self[i] for i in range(len(self)))

    def __getattr__(self, name: str) -> Any:
        if name in ("insert", "pop", "remove", "reverse", "sort", "MergeFrom"):
            self._marks.clear()  # places no longer match items: better none than wrong ones
        return getattr(self._raw, name)


def parse_message(text: str, *, kind: str = "NetParameter", file: str = "<text>") -> Msg:
    """Read prototxt as a message of type `kind`, as written: nothing is upgraded here.

    Raises: NetError with file:line:column for a syntax fault, a bad value, and every unknown field.
    """
    raw = schema.message(kind)()
    scan = _Scan(text, file)
    marks = Marks(scan.span(0))
    with contextlib.suppress(_Stop):
        scan.message(raw.DESCRIPTOR, marks, None)
    if scan.faults:
        raise NetError.join(scan.faults)
    try:
        text_format.Merge(text, raw)
    except text_format.ParseError as e:
        line, column = e.GetLine() or 1, e.GetColumn() or 1
        what = re.sub(r"^\d+:\d+\s*:\s*", "", str(e)).splitlines()[0]
        raise NetError(_plain(what), at=Span(file, line, column, scan.line(line))) from None
    except (ValueError, UnicodeError, RecursionError) as e:
        raise NetError(f"not a readable prototxt: {e}", at=file) from None
    return Msg(raw, marks)


WIDTH = 80  # a message inside another one goes on one line where it fits
_FIRST = {  # fields that lead their message; the others follow in the order of their numbers
    "SolverParameter": ("net", "train_net", "test_net"),
    "V1LayerParameter": ("name", "type"),
}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def format_message(msg: Any) -> str:
    """A message (Msg or protobuf's own) as prototxt that reads back as an equal message.

    Fields stand in the order of their numbers: a layer's name, type, bottoms, tops, then its settings. Fields that the
    schema does not know (a binary file of another fork may hold some) have no name to write; a comment on the first
    line tells how many bytes are left out.

    >>> print(format_message(parse_message('layer { top: "x" type: "Exp" exp_param { base: 2 } } name: "net"')))
    name: "net"
    layer {
      type: "Exp"
      top: "x"
      exp_param { base: 2 }
    }
    <BLANKLINE>
    """
    raw = Msg.of(msg).raw
    known = type(raw)()
    known.CopyFrom(raw)
    known.DiscardUnknownFields()
    lost = raw.ByteSize() - known.ByteSize()
    head = [f"# left out: {lost} bytes of fields that the schema does not know"] if lost else []
    return "".join(f"{line}\n" for line in (*head, *_lines(known, "")))


def _lines(raw: Any, indent: str) -> list[str]:
    """The fields of a message, one to a line."""
    first = _FIRST.get(raw.DESCRIPTOR.name, ())
    fields = raw.ListFields()
    fields.sort(key=lambda f: (first.index(f[0].name) if f[0].name in first else len(first), f[0].number))
    lines = []
    for field_, value in fields:
        for item in value if schema.is_repeated(field_) else (value,):
            if field_.message_type is None:
                lines.append(f"{indent}{field_.name}: {_scalar(field_, item)}")
            else:
                lines += _block(field_.name, item, indent)
    return lines


def _block(name: str, raw: Any, indent: str) -> list[str]:
    """A message inside another one; those of the outermost level are spread over lines."""
    inner = _lines(raw, indent + "  ")
    if not inner:
        return [f"{indent}{name} {{}}"]
    if indent and sum(len(line) - len(indent) - 1 for line in inner) + len(f"{indent}{name} {{ }}") <= WIDTH:
        return [f"{indent}{name} {{ {' '.join(line.strip() for line in inner)} }}"]
    return [f"{indent}{name} {{", *inner, f"{indent}}}"]


def _scalar(field_: Any, value: Any) -> str:
    """One value of a field that is no message."""
    if field_.enum_type is not None:
        return str(field_.enum_type.values_by_number[value].name)
    if field_.type == field_.TYPE_BOOL:
        return "true" if value else "false"
    if field_.type == field_.TYPE_FLOAT:
        return _float32(value)
    if field_.type == field_.TYPE_DOUBLE:
        return repr(value).removesuffix(".0")
    if field_.type == field_.TYPE_STRING:
        return f'"{"".join(map(_character, value))}"'
    if field_.type == field_.TYPE_BYTES:
        return f'"{"".join(_character(chr(b)) if b < 128 else _octal(bytes([b])) for b in value)}"'
    return str(value)


def _character(c: str) -> str:
    """One character as it stands inside quotes."""
    return _ESCAPES.get(c) or (c if c.isprintable() else _octal(c.encode()))


def _octal(data: bytes) -> str:
    return "".join(f"\\{b:03o}" for b in data)


def _float32(value: float) -> str:
    """The shortest text that reads back as the same float32: 0.1, where the double nearby is 0.10000000149."""
    for digits in range(6, 9):
        text = f"{value:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
            return text
    return f"{value:.9g}"


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a prototxt file. Comments in the wild are in any encoding: what is not UTF-8 is read as Latin-1.

    Raises: NetError for a directory, an unreadable or empty file, and a binary one.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise NetError(f"cannot be read: {e.strerror or e}", at=str(path)) from None
    if data.startswith(b"\x89HDF"):
        raise NetError("an HDF5 file, where a prototxt (text) was expected", at=str(path), hint=_WEIGHTS_HINT)
    if re.search(rb"[\x00-\x08\x0e-\x1f]", data[: 1 << 16]):
        raise NetError("a binary file, where a prototxt (text) was expected", at=str(path), hint=_WEIGHTS_HINT)
    if not data.strip():
        raise NetError("the file is empty", at=str(path), expected="a net definition in prototxt")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


_WEIGHTS_HINT = "a .caffemodel holds weights: give the net's prototxt first, and the weights with -w (weights=)"


def _plain(what: str) -> str:
    """protobuf's message without the copy of the source line that it may carry in front."""
    return what.rsplit("': ", 1)[-1] if what.startswith("'") else what


_TOKEN = re.compile(
    r"""(?P<skip>[\s,;]+|\#[^\n]*)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>[-+]?\.?[0-9](?:[eE][-+]?[0-9]+|[0-9A-Za-z.])*)
      | (?P<mark>.)""",
    re.VERBOSE,
)
_CLOSE = {"{": "}", "<": ">", "[": "]"}
MAX_DEPTH = 64  # nested messages; Caffe's deepest is 6, and protobuf's reader stops at 100


class _Stop(Exception):
    """The scanner cannot go on; protobuf's reader finds the fault."""


class _Scan:
    """One walk over the text that notes where fields stand and which are unknown."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.faults: list[NetError] = []
        self.tokens = [(str(m.lastgroup), m.group(), m.start()) for m in _TOKEN.finditer(text) if m.lastgroup != "skip"]
        self.tokens.append(("end", "", len(text)))
        self.next = 0
        self.starts = [0, *(m.end() for m in re.finditer("\n", text))]

    def line(self, number: int) -> str:
        """One line of the text, counted from 1."""
        if not 1 <= number <= len(self.starts):
            return ""
        start = self.starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else None].rstrip("\r")

    def span(self, offset: int) -> Span:
        number = bisect_right(self.starts, offset)
        return Span(self.file, number, offset - self.starts[number - 1] + 1, self.line(number))

    def take(self, *texts: str) -> str:
        """Step over the next token if it is one of `texts`."""
        text = self.tokens[self.next][1]
        if text in texts and text:
            self.next += 1
            return text
        return ""

    def message(self, descriptor: Any, marks: Marks, opened: tuple[str, int] | None, depth: int = 0) -> None:
        """Fields up to the closing mark; `descriptor` is None inside an unknown field."""
        close = _CLOSE[opened[0]] if opened else ""
        while True:
            kind, word, offset = self.tokens[self.next]
            if kind == "end":
                if opened:
                    brace = self.span(opened[1])
                    what = f'"{opened[0]}" is never closed'
                    self.faults.append(NetError(what, at=brace, expected=f'"{close}" before the end of the file'))
                    raise _Stop
                return
            self.next += 1
            if word == close:
                return
            if kind != "word":
                # Not a field name: protobuf words such faults well, unless it is a closing brace too many.
                if word in "}>]":
                    self.faults.append(NetError(f'"{word}" closes nothing', at=self.span(offset)))
                raise _Stop
            known = descriptor.fields_by_name.get(word) if descriptor is not None else None
            if descriptor is not None and known is None:
                near = nearest(word, descriptor.fields_by_name)
                self.faults.append(
                    NetError(
                        f'{descriptor.name} has no field "{word}"',
                        at=self.span(offset),
                        hint=f'did you mean "{near[0]}"?' if near else None,
                    )
                )
            places = marks.fields.setdefault(word, [])
            self.take(":")
            self.value(known.message_type if known is not None else None, places, offset, depth)

    def value(self, descriptor: Any, places: list[Marks], offset: int, depth: int) -> None:
        """One value, or a list of them in brackets."""
        if depth > MAX_DEPTH:
            self.faults.append(NetError(f"messages are nested more than {MAX_DEPTH} deep", at=self.span(offset)))
            raise _Stop
        kind, word, here = self.tokens[self.next]
        if self.take("["):
            while not self.take("]"):
                if self.tokens[self.next][0] == "end":
                    self.faults.append(NetError('"[" is never closed', at=self.span(here)))
                    raise _Stop
                self.value(descriptor, places, self.tokens[self.next][2], depth + 1)
            return
        marks = Marks(self.span(offset))
        places.append(marks)
        if self.take("{", "<"):
            self.message(descriptor, marks, (word, here), depth + 1)
        elif kind == "string":
            while self.tokens[self.next][0] == "string":  # adjacent strings are one
                self.next += 1
        elif kind == "mark" and word in "-+":
            self.next += 2
        elif kind in ("word", "number"):
            self.next += 1
        else:
            raise _Stop  # a value is missing here
