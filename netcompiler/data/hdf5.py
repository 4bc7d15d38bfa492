"""HDF5Data: rows of HDF5 files, which are held in memory one file at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import NetError
from ..graph import Shape, dims
from ..layers.hdf5_data import refuse_transform
from ..text import Msg
from .draws import key_of, permutation
from .source import Arrays, Batch, Setting, Source, batch_size, library, lines_of, settings, source_path

_FAULTS = (OSError, KeyError, ValueError, RuntimeError, TypeError)  # what h5py raises on a damaged file
_HELD = 2  # files kept in memory: a batch may begin in one and end in the next


class HDF5Source(Source):
    """Datasets of HDF5 files, one for each top by its name; the files of a list one after the other, row by row.

    With shuffle, each pass takes the files in another order, and the rows of each too.
    Source: Caffe, src/caffe/layers/hdf5_data_layer.cpp, src/caffe/util/hdf5.cpp.
    """

    held = True

    def __init__(self, msg: Msg, index: int, setting: Setting) -> None:
        p = settings(msg, "hdf5_data_param", ("source", "batch_size", "shuffle"), ())
        refuse_transform(msg)
        self.shuffle = bool(p.shuffle)
        super().__init__(msg, index, setting, batch_size(p))
        listed = source_path(p, setting)
        self.files = []
        for line, text in lines_of(listed, "names of HDF5 files, one a line"):
            self.files += [(setting.find(name), f"{listed}:{line}") for name in text.split()]
        self.row_shapes: dict[str, Shape] = {}
        rows = [self._rows(path, place) for path, place in self.files]
        self.rows = np.array(rows, np.int64)
        self.count = int(self.rows.sum())
        if not self.count:
            raise NetError("the files have no rows", at=listed)
        self.loaded: dict[int, Arrays] = {}
        self.orders: dict[tuple[int, int], NDArray[np.int64]] = {}

    def seed(self, seed: int) -> None:
        self.key = key_of(seed, self.index)
        self.orders = {}

    def shapes(self) -> dict[str, Shape]:
        return {top: (self.batch, *self.row_shapes[top]) for top in self.tops}

    def take(self, positions: Sequence[int]) -> Batch:
        arrays = {top: np.empty(shape, np.float32) for top, shape in self.shapes().items()}
        epochs, places = np.divmod(np.asarray(positions, np.int64), self.count)
        i = 0
        while i < self.batch:  # as many rows at once as are of one file
            epoch = int(epochs[i])
            files = self._order(epoch, -1, len(self.files)) if self.shuffle else np.arange(len(self.files))
            ends = np.cumsum(self.rows[files])
            turn = int(np.searchsorted(ends, places[i], side="right"))
            start, end, file = int(ends[turn] - self.rows[files[turn]]), int(ends[turn]), int(files[turn])
            inside = (epochs[i:] == epoch) & (places[i:] < end)
            n = len(inside) if inside.all() else int(np.argmin(inside))
            rows = places[i : i + n] - start
            if self.shuffle:
                rows = self._order(epoch, file, int(self.rows[file]))[rows]
            data = self._load(file)
            for top, array in arrays.items():
                array[i : i + n] = data[top][rows]
            i += n
        return Batch(arrays)

    def close(self) -> None:
        self.loaded = {}

    def _order(self, epoch: int, file: int, count: int) -> NDArray[np.int64]:
        """The order of the files (-1) or of the rows of one of them, in one pass."""
        known = self.orders.get((epoch, file))
        if known is None:
            while len(self.orders) >= 2 * _HELD:
                del self.orders[next(iter(self.orders))]
            known = self.orders[epoch, file] = permutation(key_of(self.key, epoch, file), count)
        return known

    def _rows(self, path: str, place: str) -> int:
        """How many rows a file has, once it is proved to hold what the tops need."""
        h5py = library("h5py", "reading HDF5", path)
        count = None
        try:
            with h5py.File(path, "r") as f:
                for top in self.tops:
                    item = f.get(top)
                    if not isinstance(item, h5py.Dataset):
                        got = ", ".join(sorted(f)) or "nothing"
                        raise NetError(f'{path} has no dataset "{top}"', at=place, expected="one for each top", got=got)
                    if item.dtype.kind not in "fiu" or item.shape is None:
                        raise NetError(f'"{top}" of {path} holds no numbers', at=place, got=str(item.dtype))
                    if not item.shape:
                        raise NetError(f'"{top}" of {path} has no rows', at=place, expected="at least 1 axis", got="()")
                    shape = self.row_shapes.setdefault(top, item.shape[1:])
                    if item.shape[1:] != shape:
                        got, expected = f"{dims(item.shape[1:])} in {path}", f"{dims(shape)}, as in the files before"
                        raise NetError(f'the rows of "{top}" change shape', at=place, expected=expected, got=got)
                    if count not in (None, item.shape[0]):
                        what = f"the datasets of {path} have different numbers of rows"
                        raise NetError(what, at=place, expected=count, got=f'{item.shape[0]} in "{top}"')
                    count = item.shape[0]
        except _FAULTS as e:
            raise NetError(f"{path} cannot be read as HDF5: {e}", at=place) from None
        return int(count or 0)

    def _load(self, file: int) -> Arrays:
        """The datasets of a file as float32."""
        if file not in self.loaded:
            while len(self.loaded) >= _HELD:
                del self.loaded[next(iter(self.loaded))]
            path, place = self.files[file]
            h5py = library("h5py", "reading HDF5", path)
            try:
                with h5py.File(path, "r") as f:
                    found = {top: np.asarray(f[top][()], np.float32) for top in self.tops}
            except _FAULTS as e:
                raise NetError(f"{path} cannot be read as HDF5: {e}", at=place) from None
            if any(len(a) != self.rows[file] or a.shape[1:] != self.row_shapes[t] for t, a in found.items()):
                raise NetError(f"{path} has changed since it was opened", at=place)
            self.loaded[file] = found
        return self.loaded[file]
