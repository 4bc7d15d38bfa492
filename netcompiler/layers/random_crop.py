"""RandomCrop and DataSwitch, of iResNet."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import Windows
from .base import ANY, Layer, exactly, layer, same_shapes

if TYPE_CHECKING:
    from torch import Tensor

CHANNELS = 7  # two pictures and a disparity
GRAY = 128.0


@layer("RandomCrop")
@dataclass(frozen=True, slots=True)
class RandomCrop(Layer):
    """A part of two pictures and their disparity, or both with a border.

    bottom[0]: N x 7 x H x W      top[0]: N x 7 x target_height x target_width, at one place for the whole batch
    In TEST the middle, cut towards 0; in TRAIN the place is drawn along each side that is larger than its target (never
    the very last place). Outside the bottom channels are 128, and the last one is not a number. No gradient.
    Source: leonzfa/iResNet, src/caffe/layers/random_crop_layer.cu.
    """

    category = "shape"
    no_gradient = (0,)

    target_height: int = 128
    target_width: int = 320
    train: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.random_crop_param
        for name in ("target_height", "target_width"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
        return cls(p.target_height, p.target_width, msg.enum("phase") == "TRAIN")

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, c = bottoms[0][:2]
        if c != CHANNELS:
            raise NetError("two pictures and a disparity are wanted", expected=f"{CHANNELS} channels", got=c)
        return ((n, c, self.target_height, self.target_width),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def settings(self) -> dict[str, str]:
        return {k: v for k, v in Layer.settings(self).items() if k != "train"}

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0].detach()
        n, c, *sizes = x.shape
        targets: Shape = (self.target_height, self.target_width)
        top = x.new_full((n, c, *targets), GRAY)
        top[:, -1] = nan
        source, target = [], []
        for size, wanted in zip(sizes, targets, strict=True):
            start = self.start(size - wanted)
            low, high = max(start, 0), min(start + wanted, size)
            source.append(slice(low, high))
            target.append(slice(low - start, high - start))
        top[:, :, target[0], target[1]] = x[:, :, source[0], source[1]]
        return top

    def start(self, room: int) -> int:
        """Where the crop begins along a side with so much room; below 0 it has a border."""
        import torch

        if self.train and room > 0:
            return int(torch.randint(room, ()))
        return int(room / 2)


@layer("DataSwitch")
@dataclass(frozen=True, slots=True)
class DataSwitch(Layer):
    """One of the bottoms, drawn anew each time, all with the same chance.

    bottom[i]: N x C x H x W      top[0]: the same      No gradient.
    Source: leonzfa/iResNet, src/caffe/layers/data_switch_layer.cu.
    """

    category = "combine"
    n_bottom = (1, ANY)
    no_gradient = tuple(range(64))

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        same_shapes(bottoms)
        return bottoms[:1]

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        return bottoms[int(torch.randint(len(bottoms), ()))].detach().clone()
