"""HardMining, of Cascade R-CNN."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import ANY, Layer, at_least, layer, not_in_place
from .boxes import by_score
from .roi_pooling import ROI

if TYPE_CHECKING:
    from torch import Tensor


@layer("HardMining")
@dataclass(frozen=True, slots=True)
class HardMining(Layer):
    """The regions with the largest scores, num_roi_per_image of each image, in their old order.

    bottom[0]: scores, R      bottom[1]: regions, R x 5: image, x1, y1, x2, y2      bottom[i]: R x C_i x H_i x W_i
    top[i]: bottom[i + 1] for the regions kept, K x C x H x W (four axes), K = min(R, num_image num_roi_per_image)
    Where images have too few, the best of the others fill up to K. Of equal scores the last comes first. No gradient.
    Source: cascade-rcnn, src/caffe/layers/hard_mining_layer.cpp.
    """

    category = "shape"
    n_bottom = (2, ANY)
    n_top = (1, ANY)
    no_gradient = tuple(range(64))

    num_roi_per_image: int = 128
    num_image: int = 4

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.hard_mining_param
        for name in ("num_roi_per_image", "num_image"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
        if len(msg.top) != len(bottoms) - 1:
            expected = f"{len(bottoms) - 1}, one for each bottom but the first"
            raise NetError("the wrong number of tops", at=msg.at("top"), expected=expected, got=len(msg.top))
        return cls(p.num_roi_per_image, p.num_image)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        count = bottoms[0][0]
        if prod(bottoms[0]) != count:
            raise NetError("bottom 0 has the wrong shape", expected=f"{count} scores", got=dims(bottoms[0]))
        for i, shape in enumerate(bottoms[1:], 1):
            if shape[:1] != (count,) or len(shape) > 4:
                expected = f"{count} x C x H x W"
                raise NetError(f"bottom {i} has the wrong shape", expected=expected, got=dims(shape))
        if bottoms[1][1:2] != (ROI,):
            raise NetError("bottom 1 has no rows of 5", expected=dims((count, ROI)), got=dims(bottoms[1]))
        kept = min(count, self.num_image * self.num_roi_per_image)
        return tuple((kept, *(*shape[1:], 1, 1, 1)[:3]) for shape in bottoms[1:])

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        scores, *others = (b.detach() for b in bottoms)
        count = len(scores)
        image = others[0].reshape(count, -1)[:, 0].long()
        if count and (int(image.min()) < 0 or int(image.max()) >= self.num_image):
            got = f"{int(image.min())} to {int(image.max())}"
            raise NetError("a region's image is out of range", expected=f"0 to {self.num_image - 1}", got=got)
        order = count - 1 - by_score(scores.reshape(-1).flip(0))
        by_image = order[image[order].argsort(stable=True)]
        sorted_images = image[by_image]
        rank = torch.arange(count, device=image.device) - torch.searchsorted(sorted_images, sorted_images)
        chosen = torch.zeros(count, dtype=torch.bool, device=image.device)
        chosen[by_image[rank < self.num_roi_per_image]] = True
        kept = min(count, self.num_image * self.num_roi_per_image)
        left = order[~chosen[order]]
        chosen[left[: max(kept - int(chosen.sum()), 0)]] = True
        shapes = self.tops(tuple(tuple(b.shape) for b in bottoms))
        return tuple(b[chosen].reshape(shape) for b, shape in zip(others, shapes, strict=True))
