"""Sets of pictures of any kind, looked at one by one: databases, lists, folders, HDF5 files, means."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import NetError
from ..graph import Shape, dims
from .pictures import decode
from .records import Datum, Planes, labelled, planes_of
from .source import Unreadable, library
from .stores import Store, backend_of
from .transform import read_mean
from .windows import read_windows

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_FORMATS = ((b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"BM", "BMP"), (b"GIF8", "GIF"), (b"RIFF", "WebP"))


@dataclass(slots=True)
class Item:
    """One record. form: raw, float, or the kind of picture file that it is.  size: its bytes, as they are stored."""

    key: str
    label: float | None
    form: str
    size: int
    read: Callable[[], Planes] = field(repr=False)  # C x H x W; raises Unreadable


class Set:
    """A set that was opened, to be gone through from its beginning.

    kind: LMDB, LEVELDB, list, folder, HDF5, mean, windows.  classes: the names of labels 0, 1, ... of a folder.
    """

    def __init__(self, path: str, root: str = "", color: bool | None = None) -> None:
        self.path, self.root, self.color = path, root, color
        self.kind = kind_of(path)
        self.classes: list[str] = []
        self.store: Store | None = None
        self.lines: list[tuple[str, str, int | None]] = []  # where it is told, the file, the label
        if self.kind in ("LMDB", "LEVELDB"):
            self.store = Store(path)
        elif self.kind == "list":
            self.lines = [(f"{path}:{n}", name, label) for n, name, label in labelled(path)]
        elif self.kind == "folder":
            self.root, self.lines, self.classes = os.path.join(path, ""), *_of_folder(path)
        elif self.kind == "windows":
            files, *_ = read_windows(path, 0, 0)
            self.lines = [(path, name, None) for name in files]

    def __len__(self) -> int:
        if self.store is not None:
            return len(self.store)
        return len(self.lines) if self.lines else sum(1 for _ in self)

    def __iter__(self) -> Iterator[Item]:
        if self.store is not None:
            for key, value in self.store:
                yield _record(self.path, key, value, self.color)
        elif self.kind == "HDF5":
            yield from _rows(self.path)
        elif self.kind == "mean":
            mean = read_mean(self.path)
            yield Item("mean", None, "float", mean.nbytes, lambda: mean)
        else:
            for where, name, label in self.lines:
                yield self._picture(where, name, label)

    def _picture(self, where: str, name: str, label: int | None) -> Item:
        path = self.root + name
        told = path if where == self.path else f"{where}: {path}"

        def read() -> Planes:
            return decode(path, self.color is not False, told)

        try:
            with open(path, "rb") as f:
                head = f.read(16)
            size = os.path.getsize(path)
        except OSError:
            head, size = b"", 0  # told when it is read
        return Item(name, label, _form(head) if size else "missing", size, read)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


def kind_of(path: str) -> str:
    """What kind of set lies at a path. Raises: NetError when it is none."""
    at = Path(path)
    try:
        if backend := backend_of(path):
            return backend
        if at.is_dir():
            return "folder"
        with open(path, "rb") as f:
            head = f.read(1 << 16)
    except OSError as e:
        raise NetError(f"cannot be read: {e.strerror or e}", at=path) from None
    if head.startswith(b"\x89HDF"):
        return "HDF5"
    if at.suffix == ".binaryproto" or b"\0" in head:
        return "mean"
    return "windows" if head.split()[:1] == [b"#"] else "list"


def _of_folder(path: str) -> tuple[list[tuple[str, str, int | None]], list[str]]:
    """The pictures of a folder, in order of their names; each folder in it is a class."""
    inner = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    lines: list[tuple[str, str, int | None]] = []
    for label, name in enumerate(inner):
        for folder, folders, files in os.walk(os.path.join(path, name)):
            folders.sort()
            below = os.path.relpath(folder, path)
            lines += [(path, os.path.join(below, f), label) for f in sorted(files) if f.lower().endswith(SUFFIXES)]
    if not inner:
        lines = [(path, f, 0) for f in sorted(os.listdir(path)) if f.lower().endswith(SUFFIXES)]
    if not lines:
        raise NetError("the folder holds no pictures", at=path, expected="pictures, or a folder for each class")
    return lines, inner


def _form(head: bytes) -> str:
    return next((form for start, form in _FORMATS if head.startswith(start)), "picture")


def _record(path: str, key: bytes, value: bytes, color: bool | None) -> Item:
    name = key.decode(errors="backslashreplace")
    told = f"{path}, record {name}"
    try:
        datum = Datum.FromString(value)
    except Exception:  # protobuf's own, told when it is read
        return Item(name, None, "damaged", len(value), lambda: planes_of(value, color, told)[0])
    form = _form(datum.data[:16]) if datum.encoded else "raw" if datum.data else "float"
    return Item(name, datum.label, form, len(value), lambda: planes_of(value, color, told)[0])


def _rows(path: str) -> Iterator[Item]:
    """The rows of the first dataset of four axes, or else of `data`; labels are those of the dataset `label`."""
    h5py = library("h5py", "reading HDF5", path)
    try:
        with h5py.File(path, "r") as f:
            sets = {name: f[name] for name in f if isinstance(f[name], h5py.Dataset)}
            data = next((d for d in sets.values() if d.ndim == 4), sets.get("data"))
            if data is None or not data.shape:
                expected = "a dataset of N x C x H x W, or one called data"
                got = ", ".join(f"{n}: {dims(d.shape)}" for n, d in sets.items()) or "nothing"
                raise NetError("the file holds no records", at=path, expected=expected, got=got)
            labels = sets.get("label")
            label = labels[()].reshape(len(data), -1)[:, 0] if labels is not None and len(labels) == len(data) else None
            for i in range(len(data)):
                row = np.asarray(data[i])
                yield Item(str(i), None if label is None else float(label[i]), "float", row.nbytes, _holder(row))
    except (OSError, RuntimeError, ValueError) as e:
        raise NetError(f"cannot be read as HDF5: {e}", at=path) from None


def _holder(row: Planes) -> Callable[[], Planes]:
    return lambda: row


@dataclass(slots=True)
class Summary:
    """What a set holds, as far as it was looked at."""

    kind: str
    count: int = 0
    bytes: int = 0
    forms: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    fault_count: int = 0
    low: float = np.inf
    high: float = -np.inf


MOST_KEPT = 5  # first keys, and faults, that a summary tells


def summary(of: Set, most: int | None = None, progress: Callable[[int], None] = lambda _: None) -> Summary:
    """Go through a set and count; `most` records at most. What cannot be read is counted, and no fault."""
    found = Summary(of.kind)
    for item in of:
        if most is not None and found.count >= most:
            break
        found.count += 1
        found.bytes += item.size
        _count(found.forms, item.form)
        if item.label is not None:
            _count(found.labels, f"{item.label:g}")
        if len(found.first) < MOST_KEPT:
            found.first.append(item.key)
        try:
            planes = item.read()
        except Unreadable as e:
            found.fault_count += 1
            if len(found.faults) < MOST_KEPT:
                found.faults.append(str(e))
        else:
            _count(found.shapes, dims(planes.shape))
            found.low, found.high = min(found.low, float(planes.min())), max(found.high, float(planes.max()))
        progress(found.count)
    return found


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def picture_shape(item: Item, planes: Planes, wanted: Shape | None) -> Shape:
    """The shape of a record, which must be `wanted`. Raises: NetError."""
    if wanted is not None and planes.shape != wanted:
        what, hint = "the pictures differ in size", "resize them: --resize H,W"
        raise NetError(what, at=item.key, expected=dims(wanted), got=dims(planes.shape), hint=hint)
    return planes.shape
