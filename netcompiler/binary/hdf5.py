"""Caffe's HDF5 weights (.caffemodel.h5) <-> arrays: blob i of a layer is the dataset /data/<layer>/<i>."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ..errors import NetError
from ..files import atomic_hdf5, h5py_for
from ..graph import Array, dims

MOST_BLOBS = 1000  # of one layer
MOST_PACKED = 1100  # bytes that one stored byte can stand for: a little above what deflate reaches
_FAULTS = (OSError, KeyError, ValueError, RuntimeError, TypeError)  # what h5py raises on a damaged file


def read_h5(path: str | os.PathLike[str]) -> dict[str, list[Array]]:
    """The learned blobs of a .caffemodel.h5: `{layer: [arrays in Caffe's order and shape]}`.

    Caffe writes a shared blob for its owner only. A layer that shares all of its blobs is left out; where one shares the
    first of two, say, that one is an array without elements.

    Raises: NetError for a file that is damaged or holds no weights, and where h5py is not installed.
    """
    file, found = str(path), dict[str, dict[int, Array]]()
    h5py = h5py_for(file)

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            layer, _, index = name.rpartition("/")
            if not (layer and index.isdecimal()):
                raise NetError(f'"/data/{name}" is no blob', at=file, expected="/data/<layer>/<index>")
            found.setdefault(layer, {})[int(index)] = _array(item, f'"{layer}" (blob {index})', file)

    try:
        with h5py.File(path, "r") as f:
            data = f.get("data")
            if not isinstance(data, h5py.Group):
                is_state = "history" in f and "iter" in f
                what = (
                    "this is a .solverstate.h5" if is_state else "an HDF5 file without weights: it has no group /data"
                )
                hint = "weights are in the .caffemodel.h5 of the same snapshot" if is_state else None
                raise NetError(what, at=file, expected="weights (.caffemodel or .caffemodel.h5)", hint=hint)
            data.visititems(visit)
    except _FAULTS as e:
        raise NetError(f"cannot be read as HDF5: {e}", at=file) from None
    shared = np.zeros(0, np.float32)
    for layer, blobs in found.items():
        if max(blobs) >= MOST_BLOBS:
            raise NetError(f'"{max(blobs)}" is no blob', at=file, layer=f'"{layer}"', expected=f"below {MOST_BLOBS}")
    return {layer: [blobs.get(i, shared) for i in range(max(blobs) + 1)] for layer, blobs in found.items()}


def write_h5(
    path: str | os.PathLike[str],
    blobs: Mapping[str, Sequence[Array]],
    diffs: Mapping[str, Sequence[Array]] | None = None,
) -> None:
    """Write blobs as Caffe's HDF5 weights, and what was last taken off each if it is given; whole or not at all.

    Raises: NetError when the file cannot be written, and where h5py is not installed.
    """
    with atomic_hdf5(path) as (f, _):
        for name, held in (("data", blobs), *([("diff", diffs)] if diffs is not None else [])):
            top = f.create_group(name)
            for layer, arrays in held.items():
                group = top.create_group(layer)
                for i, array in enumerate(arrays):
                    kind = np.float64 if array.dtype == np.float64 else np.float32
                    group.create_dataset(str(i), data=np.asarray(array, kind))


def _array(dataset: Any, layer: str, file: str) -> Array:
    """The values of a dataset, once it is proved that the file can hold them."""
    shape, kind = dataset.shape, dataset.dtype
    if kind.kind != "f" or kind.itemsize > 8 or shape is None:
        raise NetError("weights must be floats", at=file, layer=layer, got=str(kind))
    if prod(shape) * kind.itemsize > MOST_PACKED * dataset.id.get_storage_size():
        got = f"{dataset.id.get_storage_size():,} bytes for {dims(shape)}"
        raise NetError("the file has fewer values than the shape needs", at=file, layer=layer, got=got)
    return np.asarray(dataset[()], np.float64 if kind.itemsize == 8 else np.float32)
