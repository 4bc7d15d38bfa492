"""prototxt -> Msg, a protobuf message that still knows where each of its fields was written; and back to prototxt."""

from __future__ import annotations

import codecs
import os
import re
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from . import schema
from .errors import NetError, Span, nearest
from .prototxt import Marks as Marks, read


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
        if name.startswith("__"):  # Python's own questions, such as deepcopy's, are about this object
            raise AttributeError(name)
        value = getattr(self.raw, name)
        self.read.add(name)
        several = _held(type(self.raw)).get(name)  # type: ignore[arg-type]
        if several is None:
            return value
        if several:
            return Repeated(value, self.marks.fields.setdefault(name, []))
        if name not in self._parts:
            self._parts[name] = Msg(value, self.marks.of(name, 0))
        return self._parts[name]

    def __reduce__(self) -> Any:
        return _restored, (self.raw.DESCRIPTOR.full_name, self.raw.SerializePartialToString(), self.marks.copy())

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
        return Msg(twin, self.marks.copy())


def _restored(name: str, data: bytes, marks: Marks) -> Msg:
    """The message that `Msg.__reduce__` took apart, for pickle and copy."""
    return Msg(schema.message(name.removeprefix("caffe.")).FromString(data), marks)


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


@cache
def _held(kind: Any) -> dict[str, bool]:
    """The fields of a message class that hold messages, and whether each holds several."""
    return {d.name: schema.is_repeated(d) for d in kind.DESCRIPTOR.fields if d.message_type is not None}


def parse_message(
    text: str,
    *,
    kind: str = "NetParameter",
    file: str = "<text>",
    faults: list[NetError] | None = None,
    unknown: str = "refuse",
) -> Msg:
    """Read prototxt as a message of type `kind`, as written: nothing is upgraded here.

    faults: what is wrong is added to this list, and what could be read is returned; without it, it is raised.
    unknown: "refuse" fields that no fork has, or "keep" them, with a NetWarning for each: they have no effect, and
    `format_message` writes them back out.
    Raises: NetError with file:line:column for a syntax fault, a bad value, and every unknown field.
    """
    raw = schema.message(kind)()
    return Msg(raw, read(text.removeprefix("\ufeff"), raw, file, faults, unknown))


WIDTH = 80  # a message inside another one goes on one line where it fits
_FIRST = {  # fields that lead their message; the others follow in the order of their numbers
    "SolverParameter": ("net", "train_net", "test_net"),
    "V1LayerParameter": ("name", "type"),
}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def format_message(msg: Any) -> str:
    """A message (Msg or protobuf's own) as prototxt that reads back as an equal message.

    Fields stand in the order of their numbers: a layer's name, type, bottoms, tops, then its settings; behind them, in
    the message where they stood, unknown fields that were kept. Fields that the schema does not know from a binary file
    (that of another fork may hold some) have no name to write; a comment on the first line tells how many bytes are
    left out.

    >>> print(format_message(parse_message('layer { top: "x" type: "Exp" exp_param { base: 2 } } name: "net"')))
    name: "net"
    layer {
      type: "Exp"
      top: "x"
      exp_param { base: 2 }
    }
    <BLANKLINE>
    """
    raw, marks = Msg.of(msg).raw, Msg.of(msg).marks
    known = type(raw)()
    known.CopyFrom(raw)
    known.DiscardUnknownFields()
    lost = len(raw.SerializePartialToString()) - len(known.SerializePartialToString())
    head = [f"# left out: {lost} bytes of fields that the schema does not know"] if lost else []
    return "".join(f"{line}\n" for line in (*head, *_lines(known, marks, "")))


def _lines(raw: Any, marks: Marks, indent: str) -> list[str]:
    """The fields of a message, one to a line."""
    first = _FIRST.get(raw.DESCRIPTOR.name, ())
    fields = raw.ListFields()
    fields.sort(key=lambda f: (first.index(f[0].name) if f[0].name in first else len(first), f[0].number))
    lines = []
    for field_, value in fields:
        for i, item in enumerate(value if schema.is_repeated(field_) else (value,)):
            if field_.message_type is None:
                lines.append(f"{indent}{field_.name}: {_scalar(field_, item)}")
            else:
                lines += _block(field_.name, _lines(item, marks.of(field_.name, i), indent + "  "), indent)
    return lines + _kept(marks, indent)


def _kept(marks: Marks, indent: str) -> list[str]:
    """The fields of a message that the schema does not have, as they were written."""
    lines = []
    for name, places in marks.fields.items():
        for place in places:
            if place.kept == "{":
                lines += _block(name, _kept(place, indent + "  "), indent)
            elif place.kept is not None:
                lines.append(f"{indent}{name}: {place.kept}")
    return lines


def _block(name: str, inner: list[str], indent: str) -> list[str]:
    """A message inside another one; those of the outermost level are spread over lines."""
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

    Raises: NetError for a file that is missing, unreadable or empty, for a directory, and for a binary file.
    """
    at = str(path)
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as e:  # ValueError: no path at all, such as one with a zero byte
        raise NetError(f"cannot be read: {getattr(e, 'strerror', None) or e}", at=at, hint=_neighbour(path)) from None
    text = decoded(data, at)
    if not re.sub(r"#[^\n]*", "", text).strip():
        raise NetError(
            "the file is empty" + (" but for comments" if text.strip() else ""), at=at, expected="a prototxt"
        )
    return text


def decoded(data: bytes, at: str) -> str:
    """The text that a prototxt file's bytes stand for. Raises: NetError for what is no text."""
    if data.startswith(b"\x89HDF"):
        raise NetError("an HDF5 file, where a prototxt (text) was expected", at=at, hint=_WEIGHTS_HINT)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise NetError("the text is in UTF-16", at=at, expected="UTF-8", hint="save it again as UTF-8")
    if re.search(rb"[\x00-\x08\x0e-\x1f]", data[: 1 << 16]):
        raise NetError("a binary file, where a prototxt (text) was expected", at=at, hint=_WEIGHTS_HINT)
    return data.removeprefix(b"\xef\xbb\xbf").decode(errors="netcompiler.latin-1")


# Bytes that are not UTF-8 become the characters that they are in Latin-1.
codecs.register_error("netcompiler.latin-1", lambda e: (e.object[e.start : e.end].decode("latin-1"), e.end))  # type: ignore[attr-defined]


def _neighbour(path: str | os.PathLike[str]) -> str | None:
    """Where a file is missing: one of a like name beside it."""
    try:
        missing, beside = Path(path), [p.name for p in Path(path).parent.iterdir()]
    except (OSError, ValueError):
        return None
    near = nearest(missing.name, beside) if missing.name not in beside else []
    return f"did you mean {missing.with_name(near[0])}?" if near else None


_WEIGHTS_HINT = "a .caffemodel holds weights: give the net's prototxt first, and the weights with -w (weights=)"
