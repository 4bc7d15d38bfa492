"""The field numbers that forks use in their own binary files: message classes for each of them.

Forks gave new fields numbers without asking each other, so one number has many meanings. Text is read by name, under the
one schema of `schema`; for a binary file that schema is renumbered: the fields of a fork get the numbers that the fork
gave them, and what holds no number there is left out. numbers.json has them; proto/build.py takes it from the comments
of proto/caffe.proto.

A numbering is named after a dialect (`ssd`), or after one of several forks of a dialect (`segnet/enet`), which adds to
that dialect's numbers or overrides them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message_factory

from . import schema

OF_TEXT = 40_000  # numbers from here on are ours, and stand in no file
PLAIN = "bvlc"  # also Intel Caffe's and NVCaffe's fields, as far as their numbers are free
_TABLE: dict[str, dict[str, dict[str, int]]] = json.loads(Path(__file__).with_name("numbers.json").read_text())
NUMBERINGS = (PLAIN, *(name for name in _TABLE if name != PLAIN))
# Dialects that took over SSD's layers with their numbers.
_WITH_SSD = ("intel", "nvcaffe", "jolibrain", "yolo", "mini-caffe", "happynear")


def numberings(dialect: str) -> tuple[str, ...]:
    """The numberings of a dialect's forks; the first is to be written. The plain one where none is known.

    >>> numberings("segnet"), numberings("waifu2x")
    (('segnet', 'segnet/enet'), ('bvlc',))
    """
    return tuple(n for n in NUMBERINGS if n.split("/")[0] == dialect) or (PLAIN,)


@cache
def message(kind: str, numbering: str) -> Any:
    """The class of a message under the numbers of a fork.

    >>> message("LayerParameter", "ssd").DESCRIPTOR.fields_by_name["permute_param"].number
    202
    """
    return message_factory.GetMessageClass(_pool(numbering).FindMessageTypeByName(f"caffe.{kind}"))


def renumbered(raw: Any, kind: str, numbering: str | None, lost: set[str] | None = None) -> Any:
    """A message with the same fields under the numbers of a fork; under those of our schema for None.

    lost: takes the names of fields and values that have no number there.
    """
    fresh = message(kind, numbering)() if numbering else schema.message(kind)()
    _copy(raw, fresh, set() if lost is None else lost)
    return fresh


def _copy(old: Any, new: Any, lost: set[str]) -> None:
    fields = new.DESCRIPTOR.fields_by_name
    for field, value in old.ListFields():
        if field.name not in fields:
            lost.add(field.name)
            continue
        to, many = fields[field.name], schema.is_repeated(field)
        if field.message_type is not None:
            for part in value if many else (value,):
                target = getattr(new, field.name)
                target = target.add() if many else target
                target.SetInParent()
                _copy(part, target, lost)
            continue
        values = list(value) if many else [value]
        if field.enum_type is not None:
            names, numbers = field.enum_type.values_by_number, to.enum_type.values_by_name
            lost.update(names[v].name for v in values if names[v].name not in numbers)
            values = [numbers[names[v].name].number for v in values if names[v].name in numbers]
        if many:
            getattr(new, field.name).extend(values)
        elif values:
            setattr(new, field.name, values[0])
    rest = type(old)()
    rest.CopyFrom(old)
    for field, _ in old.ListFields():
        rest.ClearField(field.name)
    new.MergeFromString(rest.SerializePartialToString())  # what no schema knows, as it came


@cache
def _pool(numbering: str) -> descriptor_pool.DescriptorPool:
    own = _own(numbering)
    file = schema.file()
    for part in file.message_type:
        _renumber(part, part.name, own)
    for enum in file.enum_type:
        _renumber_values(enum, enum.name, own)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _own(numbering: str) -> dict[str, dict[str, int]]:
    """The numbers that a fork gave, by message or enum; its dialect's where it has none of its own."""
    dialect = numbering.split("/")[0]
    own: dict[str, dict[str, int]] = {}
    for name in (*(("ssd",) if dialect in _WITH_SSD else ()), dialect, numbering):
        for holder, numbers in _TABLE.get(name, {}).items():
            kept = {f: n for f, n in own.get(holder, {}).items() if n not in numbers.values()}
            own[holder] = kept | numbers
    return own


def _renumber(message: Any, name: str, own: dict[str, dict[str, int]]) -> None:
    """Give the fields of a message and of those inside it their numbers; drop the fields that have none."""
    numbers = own.get(name, {})
    taken = set(numbers.values())
    kept = []
    for field in message.field:
        if field.name in numbers:
            field.number = numbers[field.name]
        elif field.number >= OF_TEXT or field.number in taken:
            continue
        kept.append(field)
    del message.field[:]
    message.field.extend(kept)
    for inner in message.nested_type:
        _renumber(inner, f"{name}.{inner.name}", own)
    for enum in message.enum_type:
        _renumber_values(enum, f"{name}.{enum.name}", own)


def _renumber_values(enum: Any, name: str, own: dict[str, dict[str, int]]) -> None:
    """The same for the values of an enum."""
    numbers = own.get(name, {})
    kept = []
    for value in enum.value:
        if value.name in numbers:
            value.number = numbers[value.name]
        elif value.number >= OF_TEXT or value.number in numbers.values():
            continue
        kept.append(value)
    del enum.value[:]
    enum.value.extend(kept)
