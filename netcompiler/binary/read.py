"""Caffe's binary files -> arrays, as views of the mapped file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import prod

import numpy as np

from .. import schema
from ..errors import NetError
from ..graph import Array, Shape, dims
from ..layers.base import MAX_COUNT
from .hdf5 import read_h5
from .wire import BYTES, FIXED32, FIXED64, VARINT, Wire, field_numbers

MAX_AXES = 32  # of a blob, as in Caffe

Place = tuple[int, int]  # where a message starts and stops in the file

_BLOB = field_numbers("BlobProto")
_OLD_DIMS = tuple(_BLOB[name] for name in ("num", "channels", "height", "width"))
_VALUES = {_BLOB["data"]: "<f4", _BLOB["double_data"]: "<f8"}
_TYPES = {number: name for name, number in schema.enum("Type").items()}
_RAW = {"DOUBLE": "<f8", "FLOAT": "<f4", "FLOAT16": "<f2"}
_DIM = field_numbers("BlobShape")["dim"]


def read_caffemodel(path: str | os.PathLike[str]) -> dict[str, list[Array]]:
    """The learned blobs of a .caffemodel or .caffemodel.h5: `{layer: [arrays in Caffe's order and shape]}`.

    Layers without blobs are left out, be it all of them. Of layers with one name the last counts, since Caffe copies
    one after the other. Arrays that lie in one piece are read-only views of the mapped file: float32, or float64 where
    the file has that. Half precision (NVCaffe) becomes float32.

    Raises: NetError with the byte where the file is damaged or cut short, and for a file that holds no weights.
    """
    wire = Wire.open(path, "weights (.caffemodel or .caffemodel.h5)")
    if wire is None:
        return read_h5(path)
    net = field_numbers("NetParameter")
    seen: set[tuple[int, int]] = set()
    places: dict[int, list[Place]] = {net["layer"]: [], net["layers"]: []}
    for n, w, a, b in wire.fields(0, wire.size):
        seen.add((n, w))
        if n in places and w == BYTES:
            places[n].append((a, b))
    if not places[net["layer"]]:  # no other file has that field
        wire.expect("NetParameter", seen)
    kind, number = ("V1LayerParameter", "layers") if places[net["layers"]] else ("LayerParameter", "layer")
    layers = [_layer(wire, kind, a, b) for a, b in places[net[number]]]  # of both, Caffe too takes the old ones
    if not layers:
        raise NetError("the file has no layers", at=wire.file, expected=wire.wanted)
    found = {}
    for name, blobs in layers:
        if blobs:
            found[name] = [_blob(wire, a, b, f'"{name}" (blob {i})') for i, (a, b) in enumerate(blobs)]
    return found


def read_blobproto(path: str | os.PathLike[str]) -> Array:
    """The array of a .binaryproto, such as a mean image: C x H x W where the file has 1 x C x H x W.

    Raises: NetError for a file that cannot be read, is damaged, or is none of this kind.
    """
    wire = Wire.open(path, "an array (.binaryproto)")
    if wire is None:
        raise NetError("this is an HDF5 file", at=str(path), expected="an array (.binaryproto)")
    wire.expect("BlobProto", {(n, w) for n, w, _, _ in wire.fields(0, wire.size)})
    array = _blob(wire, 0, wire.size, None)
    return array[0] if array.ndim == 4 and array.shape[0] == 1 else array


def merge(files: Iterable[Mapping[str, Sequence[Array]]]) -> dict[str, list[Array]]:
    """The blobs of several weight files in order: a layer of a later file replaces that of an earlier one, and its place."""
    found: dict[str, list[Array]] = {}
    for blobs in files:
        for name, arrays in blobs.items():
            found.pop(name, None)
            found[name] = list(arrays)
    return found


def _layer(wire: Wire, kind: str, start: int, stop: int) -> tuple[str, list[Place]]:
    """The name of a layer, and where its blobs lie. V0 keeps both in a message of its own inside a V1 layer."""
    numbers = field_numbers(kind)
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


def _blob(wire: Wire, start: int, stop: int, layer: str | None) -> Array:
    """The array of the BlobProto between two bytes. Nothing is allocated before its size is proved."""
    try:
        shape, chunks = _contents(wire, start, stop)
        _check_shape(shape, wire, start)
        count = sum(c.size for c in chunks)
        if count != prod(shape):
            expected, got = f"{prod(shape):,} for the shape {dims(shape)}", f"{count:,}"
            what = "the number of values does not fit the shape"
            raise NetError(what, at=wire.place(start), expected=expected, got=got)
    except NetError as e:
        e.layer = e.layer or layer
        raise
    if not chunks:
        return np.zeros(shape, np.float32)
    array = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return (array.astype(np.float32) if array.dtype == np.float16 else array).reshape(shape)


def _check_shape(shape: Shape, wire: Wire, at: int) -> None:
    fits = len(shape) <= MAX_AXES and all(d >= 0 for d in shape) and prod(d for d in shape if d) <= MAX_COUNT
    if not fits:
        expected = f"at most {MAX_AXES} dims, none negative, and {MAX_COUNT:,} elements, as in Caffe"
        raise NetError("no blob can have this shape", at=wire.place(at), expected=expected, got=dims(shape))


def _contents(wire: Wire, start: int, stop: int) -> tuple[Shape, list[Array]]:
    """The shape and the pieces of the values of a BlobProto.

    The four old dims count before `shape`, and `double_data` before `data`, as in Caffe; both before `raw_data`, as in
    NVCaffe. Source: Caffe and NVCaffe, src/caffe/blob.cpp, FromProto.
    """
    shape: list[int] = []
    old: dict[int, int] = {}
    values: dict[int, list[Array]] = {n: [] for n in _VALUES}
    raw: Place | None = None
    raw_type = "none"
    pos = start
    while pos < stop:
        n, w, a, b = wire.field(pos, stop)
        if n in _VALUES and w == BYTES:
            values[n] += wire.packed(_VALUES[n], a, b)
        elif n in _VALUES and w in (FIXED32, FIXED64) and b - a == np.dtype(_VALUES[n]).itemsize:
            run, b = wire.unpacked(_VALUES[n], pos, a, stop)
            values[n].append(run)
        elif n == _BLOB["shape"] and w == BYTES:
            shape += _dims(wire, a, b)
            if len(shape) > MAX_AXES:
                break  # refused by the caller
        elif n in _OLD_DIMS and w == VARINT:
            old[n] = wire.signed(a, b, 32)
        elif n == _BLOB["raw_data"] and w == BYTES:
            raw = a, b
        elif n == _BLOB["raw_data_type"] and w == VARINT:
            raw_type = _TYPES.get(wire.signed(a, b, 32), raw_type)  # protobuf drops what the enum does not have
        pos = b
    resolved = tuple(old.get(n, 0) for n in _OLD_DIMS) if old else tuple(shape)
    plain = values[_BLOB["double_data"]] or values[_BLOB["data"]]
    return resolved, plain if plain or raw is None else _raw(wire, *raw, raw_type)


def _dims(wire: Wire, start: int, stop: int) -> list[int]:
    """The dims of a BlobShape, packed or one by one; no more than it takes to see that they are too many."""
    found: list[int] = []
    for n, w, a, b in wire.fields(start, stop):
        while n == _DIM and w in (VARINT, BYTES) and a < b and len(found) <= MAX_AXES:
            found.append(wire.signed(a, b))
            a = wire.varint(a, b)[1]
    return found


def _raw(wire: Wire, start: int, stop: int, kind: str) -> list[Array]:
    """NVCaffe's values, as plain bytes of a named type."""
    if kind not in _RAW:
        what = "raw_data is of no type that weights have"
        raise NetError(what, at=wire.place(start), expected=", ".join(_RAW), got=kind)
    return wire.packed(_RAW[kind], start, stop)
