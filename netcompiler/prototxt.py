"""The grammar of prototxt: text -> the fields of a protobuf message, and Marks that tell where each was written.

The grammar is that of protobuf's text format as Caffe reads it: a field that holds one value is written once. One walk
reads the values, notes the places and gathers the faults, so that all of them are told together.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from . import schema
from .errors import NetError, NetWarning, Span, nearest


@dataclass(slots=True)
class Marks:
    """Where a message and its fields were written: field name -> one (Span, Marks of the value) per occurrence.

    kept: of a field that the schema does not have, and that was kept: its value as it was written; "{" for a message.
    """

    at: Span | None = None
    fields: dict[str, list[Marks]] = field(default_factory=dict)
    kept: str | None = None

    def of(self, name: str, index: int) -> Marks:
        """The marks of one occurrence of a field; empty ones, placed at the message, where it was not written."""
        found = self.fields.get(name, ())
        return found[index] if index < len(found) else Marks(self.at)

    def copy(self) -> Marks:
        """Marks of their own, down to the last field."""
        return Marks(self.at, {name: [m.copy() for m in places] for name, places in self.fields.items()}, self.kept)


class Unreadable(NetError):
    """A fault after which nothing more of the text could be made out."""


def read(text: str, raw: Any, file: str, faults: list[NetError] | None = None, unknown: str = "refuse") -> Marks:
    """Fill a protobuf message from prototxt. Returns where its fields were written.

    faults: what is wrong is added here, and the message holds what could be read; without it, it is raised.
    unknown: "refuse" fields that the schema does not have, or "keep" them in the Marks, with a NetWarning for each.
    Raises: NetError with file:line:column, for all unknown fields, bad values and the like together.
    """
    if unknown not in ("refuse", "keep"):
        raise NetError("what to do about unknown fields?", at="unknown", expected="refuse or keep", got=unknown)
    reader = _Reader(text, file, _kind(raw.DESCRIPTOR.full_name), unknown == "keep")
    marks = Marks(reader.span(0))
    with contextlib.suppress(_Stop):
        reader.message(raw, marks)
    found = reader.found()
    if faults is not None:
        faults += found
    elif found:
        raise NetError.join(found)
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
    rare: bool = False  # of one of the many forks only

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


@dataclass(frozen=True, slots=True, eq=False)
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
        if d.number == OF_FORKS:  # set while a net is built; of no file
            continue
        takes = _TAKES.get(d.type)
        assert (takes is None) == (d.message_type is not None), f"{d.full_name} is of a type that is not read"
        fields[d.name] = _Field(
            d.name,
            takes,
            schema.is_repeated(d),
            d.message_type.full_name if d.message_type is not None else "",
            tuple((v.name, v.number) for v in d.enum_type.values) if d.enum_type is not None else (),
            _RANGES.get(d.type, (0, 0)),
            d.number > OF_FORKS,
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
_MARKS = ("", "{", "}", "<", ">", "[", "]", ",", ";", ":", "=", "'", '"')
_INT = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?[fF]?|(-?(inf(inity)?|nan))f?", re.I)
_BOOL = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?'\"])|([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)"
)
_ESCAPED = dict(zip("abfnrtv\\?'\"", "\a\b\f\n\r\t\v\\?'\"", strict=True))
OF_FORKS = 60_000  # fields above it: see the head of proto/caffe.proto
MAX_DEPTH = 64  # nested messages; Caffe's deepest is 6


class _Stop(Exception):
    """The walk cannot go on: where the next field begins is unknown."""


@dataclass(slots=True)
class _Open:
    """A message that the walk is in: its type (None inside an unknown field), its opening mark, and where that stands."""

    kind: _Kind | None
    mark: str
    offset: int


class _Reader:
    """One walk over the text that fills a message, notes where its fields stand, and gathers what is wrong."""

    def __init__(self, text: str, file: str, kind: _Kind, keep: bool) -> None:
        self.file, self.keep = file, keep
        self.lines = [line.rstrip("\r") for line in text.split("\n")]
        self.starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self.tokens = [(str(m.lastgroup), m.group(), m.start()) for m in _TOKEN.finditer(text) if m.lastgroup != "skip"]
        self.tokens.append(("end", "", len(text)))
        self.next = 0
        self.open = [_Open(kind, "", 0)]
        self.faults: list[tuple[int, NetError]] = []
        self.unknown: dict[tuple[_Kind, str], list[int]] = {}  # (message type, field name): where
        self.strays: dict[tuple[_Kind, str], _Open] = {}  # those of them that a message further out has

    def span(self, offset: int) -> Span:
        number = bisect_right(self.starts, offset)
        return Span(self.file, number, offset - self.starts[number - 1] + 1, self.lines[number - 1])

    def fault(self, what: str, offset: int, kind: type[NetError] = NetError, **more: Any) -> None:
        self.faults.append((offset, kind(what, at=self.span(offset), **more)))

    def stop(self, what: str, offset: int, **more: Any) -> _Stop:
        """A fault after which nothing more can be made out, to be raised."""
        self.fault(what, offset, Unreadable, **more)
        return _Stop()

    def found(self) -> list[NetError]:
        """All faults, in the order of the text; one for each unknown field, however often it stands there."""
        for (kind, word), offsets in self.unknown.items():
            lines = sorted({self.span(offset).line for offset in offsets[1:]})
            more = f"also in line {', '.join(map(str, lines[:8]))}" + (" ..." if len(lines) > 8 else "")
            got = f"{len(offsets)} of them, {more}" if lines else None
            hint, opened = _advice(kind, word), self.strays.get((kind, word))
            if opened:
                line = self.span(opened.offset).line
                hint = f'"{word}" belongs further out: should the "{opened.mark}" of line {line} be closed before it?'
            what = f'{kind.name} has no field "{_short(word)}"'
            if self.keep:
                told = "".join(f"; {more}" for more in (got, hint) if more)
                warnings.warn(f"{self.span(offsets[0])}: {what}: kept, without effect{told}", NetWarning, stacklevel=5)
            else:
                self.fault(what, offsets[0], got=got, hint=hint or _KEEP)
        return [e for _, e in sorted(self.faults, key=lambda f: f[0])]

    def got(self) -> str:
        """The next token as messages name it."""
        token, text, _ = self.tokens[self.next]
        return "the end of the file" if token == "end" else f'"{text}"' if token == "mark" else _short(text)

    def take(self, mark: str) -> bool:
        """Step over the next token if it is this mark."""
        found = self.tokens[self.next][1] == mark
        self.next += found
        return found

    def message(self, raw: Any, marks: Marks) -> None:
        """The fields of the message that is open, up to its end. Inside an unknown field `raw` is None."""
        opened = self.open[-1]
        kind, close = opened.kind, _CLOSE.get(opened.mark, "")
        while True:
            token, word, offset = self.tokens[self.next]
            if token != "word":
                if word != close:
                    raise self.no_field(opened, offset)
                self.next += token != "end"
                break
            self.next += 1
            known = kind.fields.get(word) if kind is not None else None
            if kind is not None and known is None:
                self.unknown.setdefault((kind, word), []).append(offset)
                if any(o.kind and word in o.kind.fields for o in self.open):
                    self.strays.setdefault((kind, word), opened)
            places = marks.fields.setdefault(word, [])
            if known is not None and not known.repeated and places:
                first = places[0].at
                expected = "one value" + (f"; the first is in line {first.line}" if first else "")
                self.fault(f'"{word}" is given twice', offset, expected=expected)
            self.field(raw, known, places, offset)
            if self.tokens[self.next][1] in (",", ";"):
                self.next += 1
        for missing in [kind.fields[n] for n in kind.required if n not in marks.fields] if kind is not None else ():
            self.fault(f'"{missing.name}" is missing', opened.offset, expected=missing.expected)

    def no_field(self, opened: _Open, offset: int) -> _Stop:
        """What to raise where neither a field nor the end of the message follows."""
        token, word, _ = self.tokens[self.next]
        if token == "end":
            return self.unclosed(opened)
        if word in _CLOSE.values() or word == "]":
            if not opened.mark:
                return self.stop(
                    f'"{word}" closes nothing', offset, hint="it is one too many, or its opening mark is missing"
                )
            line = self.span(opened.offset).line
            expected = f'"{_CLOSE[opened.mark]}" for the "{opened.mark}" in line {line}'
            return self.stop("the wrong closing mark", offset, expected=expected, got=self.got())
        hint = None
        if self.next and self.tokens[self.next - 1][1] == ",":
            hint = "the comma ends the value of the field before it"
        return self.stop("a field name is missing", offset, got=self.got(), hint=hint)

    def unclosed(self, opened: _Open) -> _Stop:
        """The text ends inside a message. Where a field stood that belongs further out, its mark should have been closed."""
        before = "the end of the file"
        if self.strays:
            (kind, word), opened = next(iter(self.strays.items()))
            offset = self.unknown[kind, word][0]
            before = f'"{word}" in line {self.span(offset).line}'
            self.faults = [f for f in self.faults if f[0] < offset]  # what follows is out of step
            self.unknown = {k: v for k, v in self.unknown.items() if v[0] < offset}
        expected = f'"{_CLOSE[opened.mark]}" before {before}'
        return self.stop(f'"{opened.mark}" is never closed', opened.offset, expected=expected)

    def field(self, raw: Any, known: _Field | None, places: list[Marks], offset: int) -> None:
        """What follows the name of a field: one value, or a list of them in brackets. `known` is None for unknown fields."""
        colon = self.take(":")
        here = self.tokens[self.next][2]
        if not self.take("["):
            self.value(raw, known, places, offset, colon)
            return
        if known is not None and not known.repeated:
            self.fault(f'"{known.name}" takes one value, not a list', here, expected=known.expected)
            known = None
        if self.take("]"):
            return
        while True:
            _, word, start = self.tokens[self.next]
            if word == "[":
                raise self.stop("a list inside a list", start)
            self.value(raw, known, places, start, colon)
            if self.take("]"):
                return
            if self.tokens[self.next][0] == "end":
                raise self.stop('"[" is never closed', here)
            if not self.take(","):
                raise self.stop('"," or "]" is missing in a list', self.tokens[self.next][2], got=self.got())

    def value(self, raw: Any, known: _Field | None, places: list[Marks], offset: int, colon: bool) -> None:
        """One value, put into the message; `offset` is the place by which it will be known."""
        _, word, here = self.tokens[self.next]
        marks = Marks(self.span(offset))
        places.append(marks)
        if word in _CLOSE:
            child = None
            if known is not None and known.takes is None:
                child = getattr(raw, known.name)
                if known.repeated:
                    child = child.add()
                child.SetInParent()
            elif known is not None:
                self.fault(f'"{known.name}" is not a message', here, expected=known.expected, got=self.got())
            if len(self.open) > MAX_DEPTH:
                raise self.stop(f"messages are nested more than {MAX_DEPTH} deep", here)
            if known is None and self.keep:
                marks.kept = "{"
            self.next += 1
            self.open.append(
                _Open(_kind(known.message) if known is not None and child is not None else None, word, here)
            )
            self.message(child, marks)
            self.open.pop()
            if marks.at is not None:
                closing = self.tokens[self.next - 1][2]
                marks.at = replace(marks.at, last=bisect_right(self.starts, closing))
            return
        start = self.next
        text = self.scalar(known)
        if known is None:
            marks.kept = " ".join(t for _, t, _ in self.tokens[start : self.next]) if self.keep else None
            return
        if known.takes is None:
            self.next, after = start, self.next
            self.fault(f'"{known.name}" is a message', here, expected=known.expected, got=self.got())
            self.next = after
            return
        if not colon:
            self.fault(f'":" is missing after "{known.name}"', here)
        found = self.read(known, text, start)
        if found is None:
            return
        if known.repeated:
            getattr(raw, known.name).append(found)
        else:
            setattr(raw, known.name, found)

    def scalar(self, known: _Field | None) -> str:
        """Step over a value that is no message. Returns its text; adjacent strings are one value."""
        token, text, here = self.tokens[self.next]
        if token == "string":
            while self.tokens[self.next][0] == "string":
                self.next += 1
            return text
        if known is not None and known.takes in ("string", "bytes") and token != "end" and text not in _MARKS:
            return self.unquoted()
        if text == "-" and self.tokens[self.next + 1][0] in ("word", "number"):
            self.next += 2
            return text + self.tokens[self.next - 1][1]
        if token in ("word", "number"):
            self.next += 1
            return text
        if text in ("'", '"'):
            raise self.stop("the string is not closed on its line", here, expected=f"a second {text}")
        name = f' for "{known.name}"' if known is not None else ""
        hint = "a name and its value are joined by a colon" if text == "=" else None
        raise self.stop(f"a value is missing{name}", here, expected=known and known.expected, got=self.got(), hint=hint)

    def unquoted(self) -> str:
        """Step over a string that lacks its quotes, such as a path: all up to a blank or a mark."""
        parts = []
        end = self.tokens[self.next][2]
        while self.tokens[self.next][2] == end and self.tokens[self.next][1] not in _MARKS:
            parts.append(self.tokens[self.next][1])
            end += len(parts[-1])
            self.next += 1
        return "".join(parts)

    def read(self, known: _Field, text: str, start: int) -> Any:
        """The value that a text stands for; None, and a fault, where the field does not take it."""
        token, _, here = self.tokens[start]
        hint, is_string = None, token == "string"
        if known.takes in ("string", "bytes"):
            if is_string:
                return self.string(known, start)
            hint = f'put it in quotes: "{_short(text)}"'
        elif known.takes == "float" and not is_string and _FLOAT.fullmatch(text):
            return float(text if text[-1] not in "fF" or text[-3:].lower() == "inf" else text[:-1])
        elif known.takes == "bool" and text in _BOOL:
            return _BOOL[text]
        elif known.takes == "int" and _INT.fullmatch(text):
            number = _int(text)
            if known.range[0] <= number <= known.range[1]:
                return number
        elif known.takes == "enum":
            numbers = dict(known.enum)
            if text in numbers:
                return numbers[text]
            if _INT.fullmatch(text) and _int(text) in numbers.values():
                return _int(text)
            near = nearest(text.strip("'\""), numbers)
            hint = f"did you mean {near[0]}" + (", without quotes?" if is_string else "?") if near else None
        self.fault(f'a bad value for "{known.name}"', here, expected=known.expected, got=_short(text), hint=hint)
        return None

    def string(self, known: _Field, start: int) -> str | bytes | None:
        """The value of adjacent strings in quotes, escapes resolved."""
        parts = []
        for _, text, here in self.tokens[start : self.next]:
            at = 1
            for m in _ESCAPE.finditer(text, 1, len(text) - 1):
                try:
                    parts += [text[at : m.start()].encode(errors="surrogatepass"), _unescaped(m)]
                except ValueError:
                    what = f'an escape that stands for nothing in "{known.name}"'
                    self.fault(what, here + m.start(), got=m.group(), hint="a backslash itself is written \\\\")
                    return None
                at = m.end()
            parts.append(text[at:-1].encode(errors="surrogatepass"))
        data = b"".join(parts)
        try:
            return data if known.takes == "bytes" else data.decode()
        except UnicodeDecodeError:
            self.fault(f'"{known.name}" is not in UTF-8', self.tokens[start][2])
            return None


def _int(text: str) -> int:
    """A whole number as C writes it: 0x is base 16, a leading 0 base 8."""
    digits = text.lstrip("+-").lower()
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    number = (
        int(digits, base) if len(digits) < 100 else 1 << 400
    )  # out of any range; Python limits how long a text may be
    return -number if text.startswith("-") else number


def _unescaped(m: re.Match[str]) -> bytes:
    """The bytes that an escape stands for. Raises: ValueError when it stands for none."""
    simple, octal, hexadecimal, *unicode = m.groups()
    if simple:
        return _ESCAPED[simple].encode()
    if octal or hexadecimal:
        return bytes([int(octal, 8) if octal else int(hexadecimal, 16)])
    return chr(int(unicode[0] or unicode[1] or "", 16)).encode()


def extent(line: str, column: int) -> int:
    """The column at which what stands at a place ends: a field with its value on the same line, or else one token.

    >>> extent("  pad: 1 stride: 2", 3), extent("layer { }", 1)
    (9, 6)
    """
    found = list(islice((m for m in _TOKEN.finditer(line, column - 1) if m.lastgroup != "skip"), 3))
    if not found or found[0].start() != column - 1:
        return column
    is_field = found[0].lastgroup == "word" and len(found) == 3 and found[1].group() == ":"
    return (found[2] if is_field and found[2].lastgroup != "mark" else found[0]).end() + 1


_KEEP = 'a field of your own fork? unknown="keep" (--unknown keep) passes over it, and writes it back out'
# Fields of the old `layers` that today's `layer` writes in another way.
_NOW = {"blobs_lr": "param { lr_mult: ... }", "weight_decay": "param { decay_mult: ... }"}


def _advice(kind: _Kind, word: str) -> str | None:
    """What to do about a field that a message type does not have."""
    if kind.name == "LayerParameter" and word in _NOW:
        return f'a layer of today has {_NOW[word]} in place of "{word}"'
    if kind.name == "V1LayerParameter" and word in _kind("caffe.LayerParameter").fields:
        return f'"layers" is the old form of "layer": write layer, and its type as a string, to use {word}'
    parts = {
        f.name: _kind(f.message).fields for f in kind.fields.values() if f.message not in ("", "caffe.NetParameter")
    }
    inside = [name for name, fields in parts.items() if word in fields]
    inside = [name for name in inside if not (kind.fields[name].rare or parts[name][word].rare)] or inside
    if inside:
        names = _either(n for n in inside if n != "layers" or inside == ["layers"])
        early = ': is a "}" above it too early?' if kind.name == "NetParameter" else ""
        return f'"{word}" goes into {names} {{ }}{early}'
    other = {"NetParameter": "SolverParameter", "SolverParameter": "NetParameter"}.get(kind.name)
    if other and word in _kind(f"caffe.{other}").fields:
        return f'"{word}" is a field of a {"solver" if kind.name == "NetParameter" else "net"}: is this the right file?'
    if word.endswith("_param"):  # the ending alone makes all of these alike
        near = [
            f'"{name}_param"'
            for name in nearest(word[:-6], (n[:-6] for n in kind.fields if n.endswith("_param")), cutoff=0.75)
        ]
    else:
        near = [f'"{name}"' for name in nearest(word, kind.fields)]
    for part, fields in parts.items() if not near else ():
        near = near or [f'"{name}" of {part}' for name in nearest(word, fields, cutoff=0.8)]
    return f"did you mean {near[0]}?" if near else None


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _either(names: Iterable[str]) -> str:
    """a, b or c"""
    *most, last = list(names)[:4]
    return f"{', '.join(most)} or {last}" if most else last
