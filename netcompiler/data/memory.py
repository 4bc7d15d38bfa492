"""MemoryData: arrays that the caller gives, batch after batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import NetError
from ..graph import Array, Shape, dims
from ..text import Msg
from .source import Batch, Setting, Source, batch_size, settings


class MemorySource(Source):
    """The arrays of a MemoryData layer's tops, batch_size rows at a time, and from the first one again behind the last.

    They are looked at when a batch is made, so the caller may write to those that are float32 already.
    Source: Caffe, src/caffe/layers/memory_data_layer.cpp.
    """

    held = True

    def __init__(self, msg: Msg, index: int, setting: Setting, arrays: Mapping[str, Array]) -> None:
        p = settings(msg, "memory_data_param", ("batch_size", "channels", "height", "width"), ())
        super().__init__(msg, index, setting, batch_size(p))
        row = (int(p.channels), int(p.height), int(p.width))
        self.arrays = {top: _checked(top, arrays, s) for top, s in zip(self.tops, (row, ()), strict=False)}
        counts = {top: len(array) for top, array in self.arrays.items()}
        self.count = min(counts.values())
        if not self.count or self.count != max(counts.values()):
            got = ", ".join(f"{count} of {top}" for top, count in counts.items())
            raise NetError("the arrays have different numbers of rows, or none", expected="one label a row", got=got)

    def shapes(self) -> dict[str, Shape]:
        return {top: (self.batch, *array.shape[1:]) for top, array in self.arrays.items()}

    def take(self, positions: Sequence[int]) -> Batch:
        rows = np.asarray(positions, np.int64) % self.count
        return Batch({top: array[rows] for top, array in self.arrays.items()})


def _checked(top: str, arrays: Mapping[str, Array], row: Shape) -> Array:
    """The array that is given for a top, as float32. Raises: NetError unless there is one, with rows of this shape."""
    if top not in arrays:
        raise NetError(f'no array is given for "{top}"', expected="one for each top", got=", ".join(arrays) or "none")
    try:
        array = np.asarray(arrays[top]).astype(np.float32, casting="same_kind", copy=False)
    except (TypeError, ValueError) as e:
        raise NetError(f'what is given for "{top}" is no array of numbers: {e}') from None
    if array.ndim and not row and array.size == len(array):
        return array.reshape(-1)  # labels as pycaffe takes them: N x 1 x 1 x 1
    if not array.ndim or array.shape[1:] != row:
        expected = f"N x {dims(row)}" if row else "N labels"
        raise NetError(f'the array for "{top}" has another shape', expected=expected, got=dims(array.shape))
    return array
