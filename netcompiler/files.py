"""Files written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import NetError


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well, and is removed when it does not.

    Until then it lies beside `path` as a hidden .part file; what stood at `path` stays as it was, and keeps its mode. A
    link stays a link; a device or a pipe is written to directly.

    Raises: NetError when the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        old = target.stat().st_mode if target.exists() else None
        if old is not None and stat.S_ISDIR(old):
            raise NetError("cannot be written: this is a directory", at=str(path))
        if old is not None and not stat.S_ISREG(old):
            with open(target, "wb") as file:
                yield file
            return
        with open(part, "x+b") as file:
            yield file
        if old is not None:
            shutil.copymode(target, part)
        os.replace(part, target)
    except OSError as e:
        raise NetError(f"cannot be written: {e.strerror or e}", at=str(path)) from None
    finally:
        with suppress(OSError):
            part.unlink()


def h5py_for(path: str | os.PathLike[str]) -> Any:
    """The library h5py. Raises: NetError that tells how to install it."""
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:
        hint = "pip install 'netcompiler[hdf5]'"
        raise NetError("HDF5 files need the library h5py", at=str(path), hint=hint) from None
    return h5py


class Patient:
    """A file for the HDF5 library, which ends the process where a write fails while it closes a file.

    Here the first failure is kept for `check`, and what is written after it is dropped.
    """

    def __init__(self, file: Any) -> None:
        self.file = file
        self.failure: OSError | None = None

    def check(self) -> None:
        """Raises: OSError where something could not be written."""
        if self.failure:
            raise self.failure

    def write(self, data: Any) -> int:
        """Write, or note why not."""
        return self._try(lambda: self.file.write(data), memoryview(data).nbytes)

    def read(self, size: int = -1) -> bytes:
        """By this h5py knows a file; it reads by `readinto`."""
        return bytes(self.file.read(size))

    def readinto(self, buffer: Any) -> int:
        """Read what was written."""
        return self._try(lambda: self.file.readinto(buffer), 0)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's."""
        return self._try(lambda: self.file.seek(offset, whence), 0)

    def tell(self) -> int:
        """As a file's."""
        return self._try(self.file.tell, 0)

    def truncate(self, size: int | None = None) -> int:
        """As a file's."""
        return self._try(lambda: self.file.truncate(size), 0)

    def flush(self) -> None:
        """As a file's."""
        self._try(lambda: self.file.flush() or 0, 0)

    def _try(self, act: Callable[[], int], otherwise: int) -> int:
        try:
            return act()
        except OSError as e:
            self.failure = self.failure or e
            return otherwise


@contextmanager
def atomic_hdf5(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Patient]]:
    """An h5py.File that becomes `path` when the block ends well; and what tells on the way that the disk is full.

    Raises: NetError as `atomic` does, where HDF5 cannot take what it is given, and where h5py is not installed.
    """
    h5py = h5py_for(path)
    with atomic(path) as file:
        patient = Patient(file)
        try:
            with h5py.File(patient, "w") as f:
                yield f, patient
        except (ValueError, RuntimeError, TypeError) as e:
            if not patient.failure:
                raise NetError(f"cannot be written as HDF5: {e}", at=str(path)) from None
        patient.check()
