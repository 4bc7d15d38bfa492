"""CropCenter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes, dims
from ..text import Msg
from ..windows import Window, Windows
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("CropCenter")
@dataclass(frozen=True, slots=True)
class CropCenter(Layer):
    """Take off crop_size pixels on every side of an image: one for all axes behind the channels, or one for each.

    bottom[0]: N x C x H x W      top[0]: N x C x (H - 2 crop_size) x (W - 2 crop_size)
    Source: lltcggie/waifu2x-caffe's nets, which crop so to match convolutions without padding; its fork is not public.
    """

    category = "shape"

    crop_size: Shape = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(tuple(msg.crop_center_param.crop_size))

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(3, bottoms)
        shape = bottoms[0]
        if len(self.crop_size) not in (1, len(shape) - 2):
            expected = f"1 or {len(shape) - 2}, one for each axis from 2 on"
            raise NetError("the wrong number of crop_size", at="crop_size", expected=expected, got=len(self.crop_size))
        image = tuple(s - 2 * c for s, c in zip(shape[2:], self.sides(len(shape)), strict=True))
        if min(image) < 1:
            got = f"{'x'.join(map(str, self.crop_size))} on either side of {dims(shape)}"
            raise NetError("the crop leaves nothing", at="crop_size", got=got)
        return ((*shape[:2], *image),)

    def sides(self, rank: int) -> Shape:
        """What is taken off either end of each axis from 2 on."""
        return self.crop_size if len(self.crop_size) == rank - 2 else self.crop_size * (rank - 2)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return tuple(Window.sliding(1, 1, -side) for side in self.sides(len(bottoms[0])))

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        for axis, side in enumerate(self.sides(x.dim()), 2):
            x = x.narrow(axis, side, x.shape[axis] - 2 * side)
        return x
