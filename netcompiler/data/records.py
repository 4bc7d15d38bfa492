"""Data and ImageData: records of a database, pictures of a list."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from .. import schema
from ..errors import NetError, NetWarning
from ..graph import Array, Shape, dims
from ..layers.image_data import new_size
from ..text import Msg
from .draws import below, key_of, numbers, permutation
from .image import resize_planes
from .pictures import decode
from .source import (
    MOST_TRIES,
    Batch,
    Setting,
    Source,
    Unreadable,
    batch_size,
    lines_of,
    settings,
    source_path,
    warn_idle,
)
from .stores import Store
from .transform import FORCED, Transform

Planes = NDArray[Any]  # C x H x W: uint8, or float32
MOVED = ("scale", "mean_file", "crop_size", "mirror")  # from a data layer's own parameters to transform_param
_MUCH = 1 << 20  # values that a batch is made of, from which on other processes pay

Datum = schema.message("Datum")


class RecordSource(Source):
    """Records with a label each, transformed: top 0 the batch of records, top 1, if there is one, their labels."""

    def __init__(self, msg: Msg, index: int, setting: Setting, batch: int) -> None:
        self.transform = Transform(msg, index, setting)
        super().__init__(msg, index, setting, batch)

    def seed(self, seed: int) -> None:
        self.key = key_of(seed, self.index)
        self.transform.seed(seed)

    def record(self, position: int, slot: int, attempt: int) -> tuple[Planes, float, str]:
        """A record, its label, and what to call it; `slot` of its batch. `attempt`: so many were unreadable before it.

        Raises: Unreadable.
        """
        raise NotImplementedError(type(self))

    def shapes(self) -> dict[str, Shape]:
        record, _, name = self._readable(self.start(), 0, [])
        self.costly = self.costly or self.batch * record.size > _MUCH
        shapes = (self.batch, *self.transform.shape(record.shape, name)), (self.batch,)
        return dict(zip(self.tops, shapes, strict=False))

    def take(self, positions: Sequence[int]) -> Batch:
        faults: list[NetError] = []
        drawn = self.transform.draws(positions)
        labels = np.empty(self.batch, np.float32)
        data: Array | None = None
        for slot, position in enumerate(positions):
            record, labels[slot], name = self._readable(position, slot, faults)
            shape = self.transform.shape(record.shape, name)
            if data is None:  # a batch has the shape of its first record, as in Caffe
                data = np.empty((self.batch, *shape), np.float32)
            if shape != data.shape[1:]:
                what, expected = "the records of a batch differ in shape", f"{dims(data.shape[1:])}, as the first one"
                raise NetError(what, at=name, expected=expected, got=dims(shape), hint=self.size_hint)
            self.transform(record, None if drawn is None else drawn[slot], data[slot])
        assert data is not None
        return Batch(dict(zip(self.tops, (data, labels), strict=False)), faults)

    size_hint = "crop_size makes them alike"

    def _readable(self, position: int, slot: int, faults: list[NetError]) -> tuple[Planes, float, str]:
        """The record at a position; the next readable one after it where faults are passed over."""
        for attempt in range(MOST_TRIES):
            try:
                return self.record(position, slot, attempt)
            except Unreadable as e:
                if not self.setting.skip:
                    raise
                faults.append(e)
        raise NetError(f"{MOST_TRIES} records in a row cannot be read", more=faults[-MOST_TRIES:])


class DatabaseSource(RecordSource):
    """Datum records of an LMDB or LevelDB, in the order of their keys.

    Source: Caffe, src/caffe/layers/data_layer.cpp, src/caffe/util/db_lmdb.cpp, db_leveldb.cpp.
    """

    size_hint = "crop_size makes them alike, or netcompile data convert --resize"

    def __init__(self, msg: Msg, index: int, setting: Setting) -> None:
        known = ("source", "batch_size", "backend", "force_encoded_color", *MOVED, "rand_skip")
        p = settings(msg, "data_param", known, ("prefetch", "threads", "parser_threads", "cache", "precache"))
        warn_idle(msg, "data_param", MOVED)
        warn_idle(msg, "data_param", ("rand_skip",), "a Data layer begins with the first record")
        super().__init__(msg, index, setting, batch_size(p))
        self.color = True if p.force_encoded_color and self.transform.color is None else self.transform.color
        self.store = Store(source_path(p, setting), p.enum("backend"))
        self.encoded = False  # the record that was read last

    def shapes(self) -> dict[str, Shape]:
        shapes = super().shapes()
        if self.color is not None and not self.encoded:
            told = f"layer {self.title}: force_color and force_gray have no effect on raw records, as in Caffe"
            warnings.warn(told, NetWarning, stacklevel=2)
        return shapes

    def record(self, position: int, slot: int, attempt: int) -> tuple[Planes, float, str]:
        key, value = self.store.at(position + attempt)
        name = f"{self.store.path}, record {key.decode(errors='backslashreplace')}"
        record, label, self.encoded = planes_of(value, self.color, name)
        self.costly = self.costly or self.encoded
        return record, label, name

    def close(self) -> None:
        self.store.close()


def planes_of(value: bytes, color: bool | None, name: str) -> tuple[Planes, float, bool]:
    """The record in a serialised Datum, its label, and whether it was an encoded picture.

    Raises: Unreadable when it is damaged.
    """
    try:
        datum = Datum.FromString(value)
    except DecodeError:
        raise Unreadable("the record is damaged: this is no Datum", at=name) from None
    if datum.encoded:
        return decode(datum.data, color, name), datum.label, True
    shape = (datum.channels, datum.height, datum.width)
    values: Planes = np.frombuffer(datum.data, np.uint8)
    if not values.size:
        values = np.array(datum.float_data, np.float32)
    if min(shape) < 1 or values.size != shape[0] * shape[1] * shape[2]:
        got = f"{values.size:,} values for {dims(shape)}"
        raise Unreadable("the record is damaged: its values do not fit its shape", at=name, got=got)
    return values.reshape(shape), datum.label, False


class ListSource(RecordSource):
    """Picture files named in a list, one a line with its label behind the last blank.

    With shuffle, each pass takes them in another order.
    Source: Caffe, src/caffe/layers/image_data_layer.cpp, src/caffe/util/io.cpp.
    """

    costly = True
    size_hint = "new_height and new_width make them alike"

    def __init__(self, msg: Msg, index: int, setting: Setting) -> None:
        own = ("source", "batch_size", "rand_skip", "shuffle", "new_height", "new_width", "is_color", "root_folder")
        p = settings(msg, "image_data_param", (*own, *MOVED), ("threads", "cache", "precache"))
        warn_idle(msg, "image_data_param", MOVED)
        warn_idle(msg, "transform_param", FORCED, "image_data_param.is_color says how pictures are read")
        self.size = new_size(p)
        self.shuffle, self.color, self.folder = bool(p.shuffle), bool(p.is_color), str(p.root_folder)
        self.rand_skip, self.at_skip = int(p.rand_skip), p.at("rand_skip")
        self.order: tuple[int, NDArray[np.int64]] | None = None
        super().__init__(msg, index, setting, batch_size(p))
        self.list = source_path(p, setting)
        self.lines = Lines(labelled(self.list))
        if self.rand_skip and self.rand_skip > len(self.lines):
            expected, got = f"at most {len(self.lines)}, the pictures of {self.list}", self.rand_skip
            raise NetError("rand_skip may pass over all pictures", at=self.at_skip, expected=expected, got=got)

    def seed(self, seed: int) -> None:
        super().seed(seed)
        self.order = None

    def start(self) -> int:
        return below(int(numbers(key_of(self.key, 2), np.zeros(1, np.uint64))[0]), self.rand_skip or 1)

    def record(self, position: int, slot: int, attempt: int) -> tuple[Planes, float, str]:
        epoch, place = divmod(position + attempt, len(self.lines))
        if self.shuffle:
            if self.order is None or self.order[0] != epoch:
                self.order = epoch, permutation(key_of(self.key, 3, epoch), len(self.lines))
            place = int(self.order[1][place])
        line, name, label = self.lines[place]
        where = f"{self.list}:{line}: {self.folder + name}"
        planes = decode(self.setting.find(self.folder + name), self.color, where)
        return resize_planes(planes, *self.size) if self.size else planes, label, where


class Lines:
    """The lines of a list as three arrays, of which processes share the memory; many small objects they would not."""

    def __init__(self, lines: Sequence[tuple[int, str, int]]) -> None:
        names = [name.encode("utf-8", "surrogateescape") for _, name, _ in lines]
        self.names = b"".join(names)
        self.ends = np.cumsum([len(name) for name in names])
        self.numbers = np.array([(number, label) for number, _, label in lines], np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> tuple[int, str, int]:
        name = self.names[self.ends[i - 1] if i else 0 : self.ends[i]]
        return int(self.numbers[i, 0]), name.decode("utf-8", "surrogateescape"), int(self.numbers[i, 1])


def labelled(path: str) -> list[tuple[int, str, int]]:
    """The number, the name and the label of each line of a list. Raises: NetError with the line that has none."""
    found = []
    for number, line in lines_of(path, "picture files with their labels, one a line"):
        name, _, label = line.rpartition(" ") if " " in line else line.rpartition("\t")
        try:
            found.append((number, name.strip(), int(label)))
        except ValueError:
            raise NetError("the line has no label", at=f"{path}:{number}", expected="FILE LABEL", got=line) from None
        if not name.strip():
            raise NetError("the line names no file", at=f"{path}:{number}", expected="FILE LABEL", got=line)
    return found
