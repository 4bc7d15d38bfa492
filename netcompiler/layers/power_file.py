"""PowerFile."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("PowerFile")
@dataclass(frozen=True, slots=True)
class PowerFile(Layer):
    """x + shift, with one number for each value of an item, from a file.

    bottom[0]: N x C x H x W      top[0]: the same
    shift_file: numbers separated by blanks, in Caffe's order of the values; those that there are not are 0, as all are
    without a file. Its path is as the net says, or beside the net. It is read when the net first runs.
    Source: daerduoCarey/SpatialTransformerLayer, src/caffe/layers/power_file_layer.cpp.
    """

    category = "activation"

    shift_file: str = ""
    beside: str = field(default="", repr=False, compare=False)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        at = msg.at()
        folder = str(Path(at.file).parent) if at is not None and at.file else ""
        return cls(msg.power_file_param.shift_file, folder)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        return bottoms

    def brief(self) -> str:
        return self.shift_file

    def shifts(self) -> list[float]:
        """The numbers of the file. Raises: NetError for a file that cannot be read."""
        if not self.shift_file:
            return []
        paths = [Path(self.shift_file), Path(self.beside) / self.shift_file]
        path = next((p for p in paths if p.is_file()), None)
        if path is None:
            raise NetError("there is no such file", at="shift_file", got=self.shift_file)
        try:
            return [float(word) for word in path.read_text().split()]
        except (OSError, ValueError) as e:
            raise NetError("shift_file cannot be read", at="shift_file", expected="numbers", got=str(e)) from e

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        size = prod(x.shape[1:])
        shifts = self.shifts()[:size]
        shift = x.new_tensor([*shifts, *[0.0] * (size - len(shifts))])
        return x + shift.reshape(x.shape[1:])
