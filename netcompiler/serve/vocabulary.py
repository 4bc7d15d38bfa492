"""The schema and the registry of layer types -> what the editor offers while one types."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from .. import fillers, schema, upgrade
from ..errors import NetError, NetWarning
from ..layers import Layer, registry
from ..layers.base import ANY
from ..prototxt import OF_FORKS
from ..text import Msg

_WORDS = {
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_FLOAT: "number",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
    FieldDescriptor.CPPTYPE_STRING: "text",
}


@cache
def vocabulary() -> dict[str, Any]:
    """All that completion needs, as plain values for JSON.

    messages: name -> its fields: name, type in words, the message or enum values that it takes, default, comment.
    layers: type -> what it does, the messages with its settings, whether it needs them, how many bottoms and tops.
    """
    found: dict[str, Any] = {}
    _message(schema.NetParameter.DESCRIPTOR, found)
    _message(schema.SolverParameter.DESCRIPTOR, found)
    return {"messages": found, "layers": {kind: _layer(registry[kind]) for kind in sorted(registry, key=str.lower)}}


@cache
def _comments() -> dict[str, str]:
    """What caffe.proto says of a field, by full name; printed by proto/build.py."""
    text = Path(__file__).with_name("comments.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _message(descriptor: Any, found: dict[str, Any]) -> None:
    """Add a message type and all those that it can hold."""
    name = _name(descriptor)
    if name in found:
        return
    found[name] = {}
    for field in descriptor.fields:
        if field.number == OF_FORKS:  # set while a net is built
            continue
        found[name][field.name] = _field(field)
        if field.message_type is not None:
            _message(field.message_type, found)


def _field(field: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"repeated": schema.is_repeated(field)}
    values = [v.name for v in field.enum_type.values] if field.enum_type is not None else _values().get(_name(field))
    if field.message_type is not None:
        entry["message"] = _name(field.message_type)
    elif field.enum_type is not None:
        entry["type"] = "enum"
    else:
        entry["type"] = _WORDS.get(field.cpp_type, "whole number")
    if values:
        entry["values"] = values
    if field.has_default_value:
        default = field.default_value
        if field.enum_type is not None:
            default = field.enum_type.values_by_number[default].name
        elif isinstance(default, float):
            default = f"{default:.6g}"
        elif isinstance(default, bool):
            default = str(default).lower()
        entry["default"] = str(default) if default != "" else '""'
    if _name(field) in _comments():
        entry["doc"] = _comments()[_name(field)]
    return entry


@cache
def _values() -> dict[str, list[str]]:
    """The strings that some fields take, as the schema does not tell them."""
    return {
        "FillerParameter.type": list(fillers.TYPES),
        "SolverParameter.lr_policy": ["fixed", "step", "multistep", "exp", "inv", "poly", "sigmoid"],
        "SolverParameter.type": list(upgrade.SOLVER_TYPES.values()),
    }


def _name(descriptor: Any) -> str:
    return str(descriptor.full_name.removeprefix("caffe."))


def _layer(cls: type[Layer]) -> dict[str, Any]:
    doc = (cls.__doc__ or "").split("\n\n")[0]
    least, most = cls.n_bottom
    return {
        "doc": " ".join(doc.split()),
        "settings": settings(cls),
        "needs": _needs(cls),
        "bottoms": [least, None if most == ANY else most],
        "tops": [cls.n_top[0], None if cls.n_top[1] == ANY else cls.n_top[1]],
    }


def _needs(cls: type[Layer]) -> bool:
    """Whether a layer of this type is nothing without settings: over some pictures it cannot be read, or is fed nothing."""
    if cls.is_input:
        return True
    least = cls.n_bottom[0]
    msg = Msg(schema.LayerParameter(name="x", type=cls.kind, bottom=["b"] * least, top=["t"] * cls.n_top[0], phase=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetWarning)
        try:
            cls.read(msg, ((2, 3, 11, 13),) * least)
        except NetError:
            return True
    return False


def settings(cls: type[Layer]) -> list[str]:
    """The messages that a layer type reads its settings from, such as convolution_param.

    They are found in the code of `read`: the attributes that it, and what it calls in its own room, ask for.
    """
    known = {f.name for f in schema.LayerParameter.DESCRIPTOR.fields if f.message_type is not None}
    known -= {"param", "blobs", "include", "exclude"}
    return list(dict.fromkeys(name for name in _asked(cls.read, cls, set()) if name in known))


def _asked(function: Any, cls: type[Layer], seen: set[CodeType]) -> Iterator[str]:
    """The names of attributes and globals in a function's code, and in that of the functions that it names."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType) or function.__code__ in seen:
        return
    if function.__module__ != cls.__module__ and not function.__module__.startswith(
        Layer.__module__.rpartition(".")[0]
    ):
        return
    todo = [function.__code__]
    while todo:
        code = todo.pop()
        seen.add(code)
        todo += [c for c in code.co_consts if isinstance(c, CodeType)]
        for name in code.co_names:
            yield name
            called = function.__globals__.get(name, getattr(cls, name, None))
            yield from _asked(called, cls, seen)
