"""Where training stood <-> Caffe's .solverstate and .solverstate.h5."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import NetError
from ..files import atomic, atomic_hdf5, h5py_for
from ..graph import Array
from .hdf5 import _FAULTS, MOST_BLOBS, _array
from .read import _blob
from .wire import BYTES, VARINT, Wire, _varint, field_numbers, head
from .write import _blob as _blob_pieces, _size

WANTED = "where training stood (.solverstate or .solverstate.h5)"


@dataclass(frozen=True, slots=True)
class SolverState:
    """iteration: how many updates were made.  learned_net: the path of the weights of the same snapshot.
    current_step: steps or stepvalues passed.  history: what the rule keeps, in the order of the learned blobs."""

    iteration: int
    learned_net: str = ""
    current_step: int = 0
    history: Sequence[Array] = ()


def read_state(path: str | os.PathLike[str]) -> SolverState:
    """What a .solverstate or a .solverstate.h5 holds; the arrays of the first are views of the mapped file.

    Raises: NetError with the byte where the file is damaged or cut short, and for one that holds no such state.
    """
    wire = Wire.open(path, WANTED)
    if wire is None:
        return _read_h5(path)
    numbers = field_numbers("SolverState")
    names = {number: name for name, number in numbers.items()}
    seen, numeric, learned, history = set(), {"iter": 0, "current_step": 0}, "", []
    for n, w, a, b in wire.fields(0, wire.size):
        seen.add((n, w))
        if names.get(n) in numeric and w == VARINT:
            numeric[names[n]] = wire.signed(a, b, 32)
        elif n == numbers["learned_net"] and w == BYTES:
            learned = wire.text(a, b)
        elif n == numbers["history"] and w == BYTES:
            history.append((a, b))
    wire.expect("SolverState", seen)
    arrays = [_blob(wire, a, b, f"history {i}") for i, (a, b) in enumerate(history)]
    return _checked(SolverState(numeric["iter"], learned, numeric["current_step"], arrays), str(path))


def write_state(path: str | os.PathLike[str], state: SolverState, *, hdf5: bool = False) -> None:
    """Write a state as Caffe does, whole or not at all. Raises: NetError when the file cannot be written."""
    if hdf5:
        _write_h5(path, state)
        return
    numbers = field_numbers("SolverState")
    learned = state.learned_net.encode()
    with atomic(path) as file:
        file.write(_varint(numbers["iter"] << 3 | VARINT) + _varint(state.iteration))
        file.write(head(numbers["learned_net"], len(learned)) + learned)
        for i, array in enumerate(state.history):
            pieces = list(_blob_pieces(np.asarray(array), f"history {i}"))
            file.write(head(numbers["history"], sum(map(_size, pieces))))
            for piece in pieces:
                file.write(piece)
        file.write(_varint(numbers["current_step"] << 3 | VARINT) + _varint(state.current_step))


def _checked(state: SolverState, file: str) -> SolverState:
    if state.iteration < 0 or state.current_step < 0:
        got = f"iteration {state.iteration}, step {state.current_step}"
        raise NetError("the file is damaged: a count is negative", at=file, got=got)
    return state


def _read_h5(path: str | os.PathLike[str]) -> SolverState:
    """Source: Caffe, src/caffe/solvers/sgd_solver.cpp, src/caffe/util/hdf5.cpp."""
    file = str(path)
    h5py = h5py_for(file)
    try:
        with h5py.File(path, "r") as f:
            group = f.get("history")
            if not isinstance(group, h5py.Group) or "iter" not in f:
                what = "this is a .caffemodel.h5" if "data" in f else "an HDF5 file without a solver's state"
                raise NetError(what, at=file, expected=WANTED)
            if len(group) >= MOST_BLOBS * MOST_BLOBS:
                raise NetError("the file has too many blobs", at=file, got=len(group))
            wrong = [name for name in group if not isinstance(group.get(name), h5py.Dataset) or not name.isdecimal()]
            if wrong or {int(name) for name in group} != set(range(len(group))):
                got = wrong[0] if wrong else f"{len(group)} with gaps between them"
                raise NetError("history is not numbered from 0 on", at=file, got=got)
            history = [_array(group[str(i)], f"history {i}", file) for i in range(len(group))]
            learned = f["learned_net"][()] if "learned_net" in f else b""
            text = learned.decode("utf-8", "replace") if isinstance(learned, bytes) else str(learned)
            step = _int(f["current_step"]) if "current_step" in f else 0
            return _checked(SolverState(_int(f["iter"]), text.rstrip("\0"), step, history), file)
    except _FAULTS as e:
        raise NetError(f"cannot be read as HDF5: {e}", at=file) from None


def _int(dataset: Any) -> int:
    """An integer, which Caffe writes as a list of one."""
    return int(np.asarray(dataset[()]).reshape(-1)[0])


def _write_h5(path: str | os.PathLike[str], state: SolverState) -> None:
    """As H5LT, which Caffe uses, writes: an integer is a list of one, a text has a zero byte behind it."""
    h5py = h5py_for(path)
    with atomic_hdf5(path) as (f, _):
        f.create_dataset("iter", data=np.array([state.iteration], np.int32))
        text = state.learned_net.encode()
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(len(text) + 1)
        kind.set_strpad(h5py.h5t.STR_NULLTERM)
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        learned = h5py.h5d.create(f.id, b"learned_net", kind, space)
        learned.write(space, space, np.array(text, f"S{len(text) + 1}"), kind)
        f.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        group = f.create_group("history")
        for i, array in enumerate(state.history):
            group.create_dataset(str(i), data=np.asarray(array))
