"""LMDB and LevelDB: records in the order of their keys, read by position and never changed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ..errors import NetError
from .source import library

BACKENDS = ("LMDB", "LEVELDB")
Record = tuple[bytes, bytes]
AGAIN = "the file is damaged: copy or download it again, or make it anew"
_PASSED = 256  # more than are passed over in a row, see MOST_TRIES


def backend_of(path: str) -> str | None:
    """Which database lies at a path: LMDB, LEVELDB, or None for neither."""
    folder = Path(path)
    if (folder / "data.mdb").is_file():
        return "LMDB"
    if folder.is_file():  # LMDB without a folder: its mark lies behind the first page's head
        with open(path, "rb") as f:
            return "LMDB" if f.read(20)[16:] == b"\xde\xc0\xef\xbe" else None
    return "LEVELDB" if (folder / "CURRENT").is_file() else None


class Cursor(Protocol):
    """A place in a database that goes forward."""

    def first(self) -> bool: ...
    def next(self) -> bool: ...
    def seek(self, key: bytes) -> bool: ...
    def item(self) -> Record: ...
    def close(self) -> None: ...


class Store:
    """A database of records. It opens its files when it is first read, in each process anew.

    count: the number of records; of a LevelDB it is known once the end was met.
    """

    def __init__(self, path: str, backend: str | None = None) -> None:
        found = backend_of(path)
        backend = backend or found
        if found is None:
            what = "this is no database: it has neither data.mdb (LMDB) nor CURRENT (LevelDB)"
            raise NetError(what, at=path)
        if backend != found:
            hint = f"backend: {found}"
            raise NetError("the database is of another kind", at=path, expected=backend, got=found, hint=hint)
        self.path, self.backend = path, found
        self.shadow: str | None = None
        self.ending: Any = None  # removes the shadow
        self._forget()
        self.count: int | None = None
        self.at(0)

    def _forget(self) -> None:
        self.cursor: Cursor | None = None
        self.place = 0
        self.passed: dict[int, bytes] = {}  # the keys of the last positions, to go back a little
        self.pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "cursor": None, "ending": None}

    def at(self, position: int) -> Record:
        """The key and the value at a position; behind the last record comes the first one again.

        Raises: NetError for a damaged or empty database.
        """
        if self.pid != os.getpid():  # forked: files and locks of the parent are not ours
            self._forget()
        if self.count:
            position %= self.count
        if self.cursor is not None and position < self.place and position in self.passed:
            if not self.cursor.seek(self.passed[position]):
                raise NetError("the database has changed since it was opened", at=self.path)
            self.place = position
        elif self.cursor is None or position < self.place:
            self._rewind()
        assert self.cursor
        while self.place < position:
            if self.cursor.next():
                self.place += 1
            else:
                self.count = self.place + 1
                position %= self.count
                self._rewind()
        item = self.cursor.item()
        self.passed[position] = item[0]
        if len(self.passed) > _PASSED:
            del self.passed[next(iter(self.passed))]
        return item

    def __iter__(self) -> Iterator[Record]:
        """All records once."""
        position = 0
        yield self.at(0)
        assert self.cursor
        while self.cursor.next():
            self.place = position = position + 1
            yield self.cursor.item()
        self.count = position + 1
        self._rewind()

    def __len__(self) -> int:
        """The number of records; of a LevelDB, all of it is read for that."""
        if self.count is None:
            self._rewind()
            assert self.cursor
            count = 1
            while self.cursor.next():
                count += 1
            self.count = count
            self._rewind()
        return self.count

    def _rewind(self) -> None:
        if self.cursor is None:
            if self.backend == "LMDB":
                lmdb = _LmdbCursor(self.path)
                self.cursor, self.count = lmdb, lmdb.count
            else:
                if self.shadow is None:
                    self.shadow = tempfile.mkdtemp(prefix="netcompiler-leveldb-")
                    self.ending = weakref.finalize(self, _remove, self.shadow, os.getpid())
                self.cursor = _LevelDbCursor(self.path, self.shadow)
        if not self.cursor.first():
            raise NetError("the database has no records", at=self.path)
        self.place = 0

    def close(self) -> None:
        """Let go of the files."""
        if self.cursor is not None and self.pid == os.getpid():
            self.cursor.close()
        self.cursor = None
        if self.ending is not None:
            self.ending()
            self.shadow = None


def _remove(folder: str, owner: int) -> None:
    """Remove a folder of links, in the process that made it."""
    if owner == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


# The open LMDBs of this process by their file, with the number of their users: LMDB opens none twice. After a fork they
# may be used on, for without locks an LMDB is but a file in memory.
_environments: dict[tuple[int, int], tuple[Any, int]] = {}


class _LmdbCursor:
    """Reading takes no lock and writes nothing, so a set on a read-only disk will do."""

    def __init__(self, path: str) -> None:
        self.path = path
        lmdb = library("lmdb", "reading LMDB", path)
        self.faults = (lmdb.Error, OSError)
        file = Path(path, "data.mdb") if Path(path).is_dir() else Path(path)
        try:
            with open(file, "rb") as f:
                status = os.fstat(f.fileno())
            if status.st_size == 0:
                raise NetError("the database is empty: its file has 0 bytes", at=str(file))
            self.key = status.st_dev, status.st_ino
            env, users = _environments.get(self.key, (None, 0))
            if env is None:
                env = lmdb.open(path, subdir=Path(path).is_dir(), readonly=True, lock=False, create=False)
            pages, page = env.info()["last_pgno"] + 1, env.stat()["psize"]
            if status.st_size < pages * page:  # reading beyond the end of a mapped file would end this process
                env.close()
                expected, got = f"{pages * page:,} bytes ({pages:,} pages)", f"{status.st_size:,}"
                raise NetError("the database is cut short", at=str(file), expected=expected, got=got, hint=AGAIN)
            _environments[self.key] = env, users + 1
            self.count = int(env.stat()["entries"])
            self.txn = env.begin()
            self.cursor = self.txn.cursor()
        except self.faults as e:
            raise self._fault(e) from None

    def _fault(self, e: Exception) -> NetError:
        text = getattr(e, "strerror", None) or str(e).removeprefix(f"{self.path}: ")
        hint = AGAIN if "MDB_CORRUPTED" in text or "MDB_INVALID" in text else None
        return NetError(f"cannot be read as LMDB: {text}", at=self.path, hint=hint)

    def first(self) -> bool:
        try:
            return bool(self.cursor.first())
        except self.faults as e:
            raise self._fault(e) from None

    def next(self) -> bool:
        try:
            return bool(self.cursor.next())
        except self.faults as e:
            raise self._fault(e) from None

    def seek(self, key: bytes) -> bool:
        try:
            return bool(self.cursor.set_key(key))
        except self.faults as e:
            raise self._fault(e) from None

    def item(self) -> Record:
        try:
            key, value = self.cursor.item()
        except self.faults as e:
            raise self._fault(e) from None
        return bytes(key), bytes(value)

    def close(self) -> None:
        self.cursor.close()
        self.txn.abort()
        env, users = _environments.pop(self.key)
        if users > 1:
            _environments[self.key] = env, users - 1
        else:
            env.close()


class _LevelDbCursor:
    """LevelDB locks its folder and writes to it even for reading, so it is given a folder of links instead.

    Thus several processes can read one set, on a read-only disk too.
    """

    def __init__(self, path: str, shadow: str) -> None:
        self.path = path
        plyvel = library("plyvel", "reading LevelDB", path)
        self.faults = (plyvel.Error, OSError)
        self.folder = tempfile.mkdtemp(dir=shadow)
        try:
            for entry in os.scandir(path):
                if entry.name in ("LOCK", "LOG", "LOG.old"):
                    continue
                if entry.name.endswith((".ldb", ".sst")):
                    os.symlink(os.path.abspath(entry.path), os.path.join(self.folder, entry.name))
                else:
                    shutil.copyfile(entry.path, os.path.join(self.folder, entry.name))
                    os.chmod(os.path.join(self.folder, entry.name), stat.S_IRUSR | stat.S_IWUSR)
            self.db = plyvel.DB(self.folder, create_if_missing=False)
            self.iterator = self.db.raw_iterator(verify_checksums=True, fill_cache=False)
        except self.faults as e:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise self._fault(e) from None

    def _fault(self, e: Exception) -> NetError:
        text = getattr(e, "strerror", None) or (e.args[0] if e.args else e)
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        return NetError(f"cannot be read as LevelDB: {str(text).replace(self.folder, self.path)}", at=self.path)

    def first(self) -> bool:
        try:
            self.iterator.seek_to_first()
            return bool(self.iterator.valid())
        except self.faults as e:
            raise self._fault(e) from None

    def next(self) -> bool:
        try:
            self.iterator.next()
            return bool(self.iterator.valid())
        except self.faults as e:
            raise self._fault(e) from None

    def seek(self, key: bytes) -> bool:
        try:
            self.iterator.seek(key)
            return bool(self.iterator.valid()) and self.iterator.key() == key
        except self.faults as e:
            raise self._fault(e) from None

    def item(self) -> Record:
        try:
            return self.iterator.item()  # type: ignore[no-any-return]
        except self.faults as e:
            raise self._fault(e) from None

    def close(self) -> None:
        self.iterator.close()
        self.db.close()
        shutil.rmtree(self.folder, ignore_errors=True)
