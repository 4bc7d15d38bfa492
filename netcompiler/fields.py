"""Python values -> the fields of a message, every name and value checked.

A message is written as a dict, an enum as its name, a repeated field as one value or several; None leaves a field unset.
"""

from __future__ import annotations

import linecache
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import schema
from .errors import NetError, Span, nearest
from .text import Msg

_FLOAT_MAX = float(np.finfo(np.float32).max)


def message(kind: str, /, **fields: Any) -> Msg:
    """A message of the schema, such as a SolverParameter.

    Raises: NetError for every unknown field, naming the nearest, and for a value that does not fit its field.

    >>> print(message("SolverParameter", base_lr=0.1, lr_policy="multistep", stepvalue=[100, 200], solver_mode="CPU"))
    base_lr: 0.1
    lr_policy: "multistep"
    solver_mode: CPU
    stepvalue: 100
    stepvalue: 200
    <BLANKLINE>
    """
    try:
        raw = schema.message(kind)()
        fill(raw, fields)
    except KeyError:
        raise NetError(f'the schema has no message "{kind}"', at=caller()) from None
    except NetError as e:
        e.at = caller()
        raise
    return Msg(raw)


def caller() -> Span:
    """The line of Python, outside of this module and of `spec`, that led here."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__") in (__name__, "netcompiler.spec"):
        frame = frame.f_back
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).rstrip()
    return Span(frame.f_code.co_filename, frame.f_lineno, len(line) - len(line.lstrip()) + 1, line)


def fill(raw: Any, fields: Mapping[str, Any]) -> None:
    """Set fields of a protobuf message. Raises: NetError that tells of all unknown ones, or of the first bad value."""
    known = raw.DESCRIPTOR.fields_by_name
    faults = [unknown(raw.DESCRIPTOR.name, name, known) for name in fields if name not in known]
    if faults:
        raise NetError.join(faults)
    for name, value in fields.items():
        if value is not None:
            _set(raw, known[name], value)


def unknown(owner: str, name: Any, known: Iterable[str]) -> NetError:
    """The error for a field that `owner` does not have."""
    near = nearest(str(name), known)
    return NetError(f'{owner} has no field "{name}"', hint=f'did you mean "{near[0]}"?' if near else None)


def _set(raw: Any, field: Any, value: Any) -> None:
    """Set one field: a repeated one to all of its values."""
    many = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    repeated = schema.is_repeated(field)
    if many and not repeated:
        raise NetError(f"{field.name} takes one value", got=f"{value!r}")
    for item in value if many else (value,):
        held = getattr(raw, field.name)
        if field.message_type is not None:
            _set_message(held.add() if repeated else held, field, item)
            continue
        scalar = _scalar(field, item)
        try:
            if repeated:
                held.append(scalar)
            else:
                setattr(raw, field.name, scalar)
        except (ValueError, OverflowError):  # out of range, or a string with half a surrogate pair
            raise _misfit(field, item) from None


def _set_message(raw: Any, field: Any, value: Any) -> None:
    given = value.raw if isinstance(value, Msg) else value
    if isinstance(given, type(raw)):
        raw.CopyFrom(given)
    elif isinstance(given, Mapping):
        raw.SetInParent()
        fill(raw, given)
    else:
        raise _misfit(field, value)


def _scalar(field: Any, value: Any) -> Any:
    """A value as protobuf takes it for the field. Raises: NetError when it is of another kind."""
    value = value.item() if isinstance(value, np.generic) else value
    kind, flag = field.cpp_type, isinstance(value, bool)
    if field.enum_type is not None:
        return _enum_number(field, value)
    if kind == field.CPPTYPE_FLOAT:
        fits = isinstance(value, int | float) and not flag and not _FLOAT_MAX < abs(value) < math.inf
    elif kind == field.CPPTYPE_DOUBLE:
        fits = isinstance(value, int | float) and not flag
    elif kind == field.CPPTYPE_BOOL:
        fits = flag
    elif kind == field.CPPTYPE_STRING:
        fits = isinstance(value, bytes if field.type == field.TYPE_BYTES else str)
    else:
        fits = isinstance(value, int) and not flag
    if not fits:
        raise _misfit(field, value)
    return value


def _enum_number(field: Any, value: Any) -> int:
    names: dict[str, int] = {v.name: v.number for v in field.enum_type.values}
    if isinstance(value, str) and value in names:
        return names[value]
    if isinstance(value, int) and not isinstance(value, bool) and value in names.values():
        return value
    near = nearest(value, names) if isinstance(value, str) else []
    hint = f'did you mean "{near[0]}"?' if near else None
    raise NetError(f"{field.name} has no such value", expected=", ".join(names), got=f"{value!r}", hint=hint)


def _misfit(field: Any, value: Any) -> NetError:
    """The error for a value that a field cannot hold."""
    if field.message_type is not None:
        wanted = f"a dict of {field.message_type.name}'s fields"
    else:
        wanted = {
            field.CPPTYPE_INT32: "a whole number of 32 bits",
            field.CPPTYPE_INT64: "a whole number of 64 bits",
            field.CPPTYPE_UINT32: "a whole number from 0, of 32 bits",
            field.CPPTYPE_UINT64: "a whole number from 0, of 64 bits",
            field.CPPTYPE_FLOAT: "a number in the range of float32",
            field.CPPTYPE_DOUBLE: "a number",
            field.CPPTYPE_BOOL: "True or False",
            field.CPPTYPE_STRING: "bytes" if field.type == field.TYPE_BYTES else "a string",
        }[field.cpp_type]
    return NetError(f"the value does not fit {field.name}", expected=wanted, got=f"{value!r}")
