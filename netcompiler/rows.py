"""The files that a running net writes: the rows of HDF5Output, of one batch or of many, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from .errors import NetError
from .files import Patient, atomic_hdf5
from .graph import Array, dims

NAMES = ("data", "label")  # the datasets, as Caffe names them


class Gathered:
    """The files of many batches in the making. They appear when `gathered` ends, unless `drop` was called."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[Any, Patient]] = {}
        self.stack = ExitStack()
        self.dropped = False

    def drop(self) -> None:
        """Write nothing after all."""
        self.dropped = True

    def add(self, path: str, arrays: tuple[Array, ...]) -> None:
        """Put a batch behind those before it. Raises: NetError for rows of another shape, and for a full disk."""
        if path not in self.files:
            self.files[path] = self.stack.enter_context(atomic_hdf5(path))
            file, _ = self.files[path]
            for name, array in zip(NAMES, arrays, strict=True):
                file.create_dataset(name, data=array, maxshape=(None, *array.shape[1:]), chunks=True)
        else:
            file, _ = self.files[path]
            for name, array in zip(NAMES, arrays, strict=True):
                held = file[name]
                if held.shape[1:] != array.shape[1:]:
                    expected, got = f"{dims(held.shape[1:])} each, as before", dims(array.shape[1:])
                    raise NetError(f'the rows of "{name}" change their shape', at=path, expected=expected, got=got)
                count = len(held)
                held.resize(count + len(array), 0)
                held[count:] = array
        file.flush()
        patient = self.files[path][1]
        if patient.failure:
            raise NetError(f"cannot be written: {patient.failure.strerror or patient.failure}", at=path)


class _Dropped(Exception):
    """Tells the files that they are not wanted."""


_current: ContextVar[Gathered | bool] = ContextVar("rows", default=True)  # False: nothing is written


@contextmanager
def gathered() -> Iterator[Gathered]:
    """What nets write in this block goes into one file for each layer, batch behind batch.

    The files appear when the block ends well; what stood there before stays until then.
    """
    held = Gathered()
    with held.stack:
        token = _current.set(held)
        try:
            yield held
        finally:
            _current.reset(token)
        if held.dropped:
            held.stack.__exit__(_Dropped, _Dropped(), None)


@contextmanager
def unwritten() -> Iterator[None]:
    """Nets write nothing in this block: it runs them on made-up inputs, to measure them say."""
    token = _current.set(False)
    try:
        yield
    finally:
        _current.reset(token)


def put(path: str, data: Array, label: Array) -> None:
    """Write a batch: at once as a file of its own, in place of the one before, or as the block around says.

    Caffe's blobs have four axes in such a file; those that there are not count 1.
    Raises: NetError when it cannot be written.
    """
    where = _current.get()
    if where is False:
        return
    arrays = tuple(a.reshape(*a.shape, *(1,) * (4 - a.ndim)) for a in (data, label))
    if isinstance(where, Gathered):
        where.add(path, arrays)
        return
    with atomic_hdf5(path) as (file, _):
        for name, array in zip(NAMES, arrays, strict=True):
            file.create_dataset(name, data=np.ascontiguousarray(array))
