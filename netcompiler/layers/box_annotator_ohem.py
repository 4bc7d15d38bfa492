"""BoxAnnotatorOHEM."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, not_in_place
from .boxes import by_score
from .roi_pooling import ROI

if TYPE_CHECKING:
    from torch import Tensor


@layer("BoxAnnotatorOHEM")
@dataclass(frozen=True, slots=True)
class BoxAnnotatorOHEM(Layer):
    """Keep the labels and weights of the roi_per_img regions of each image whose loss is largest: hard example mining.

    bottom[0]: regions, N x 5 x H x W, image first      bottom[1]: losses, N x 1 x H x W      bottom[2]: labels, the same
    bottom[3]: weights, N x C x H x W
    top[0]: labels, ignore_label for the others, N x 1 x H x W      top[1]: weights, 0 for the others, N x C x H x W
    Of equal losses the first is kept. No gradient passes.
    Source: caffe-rfcn, src/caffe/layers/box_annotator_ohem_layer.cpp, .cu.
    """

    category = "shape"
    n_bottom = (4, 4)
    n_top = (2, 2)
    no_gradient = (0, 1, 2, 3)

    roi_per_img: int
    ignore_label: int = -1

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.box_annotator_ohem_param
        if p.roi_per_img < 1:
            raise NetError("roi_per_img must be positive", at=p.at("roi_per_img"), got=p.roi_per_img)
        return cls(p.roi_per_img, p.ignore_label)

    def tops(self, bottoms: Shapes) -> Shapes:
        for i, channels in enumerate((ROI, 1, 1, None)):
            at_least(1, bottoms, i)
            shape, (n, _, h, w) = _four(bottoms[i]), _four(bottoms[0])
            if (shape[0], *shape[2:]) != (n, h, w) or channels not in (None, shape[1]):
                expected = f"{n} x {channels or 'C'} x {h} x {w}"
                raise NetError(f"bottom {i} does not fit", expected=expected, got=dims(bottoms[i]))
        n, c, h, w = _four(bottoms[3])
        return (n, 1, h, w), (n, c, h, w)

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        labels_shape, weights_shape = self.tops(tuple(tuple(b.shape) for b in bottoms))
        n, c, h, w = weights_shape
        rois, losses, labels, weights = (b.detach() for b in bottoms)
        image = rois.reshape(n, ROI, h * w)[:, 0].reshape(-1).long()
        order = by_score(losses.reshape(-1))
        # Among those of its image, how many come before each: sorted by image, its place less that of the image's first.
        by_image = order[image[order].argsort(stable=True)]
        sorted_images = image[by_image]
        rank = torch.arange(len(image), device=image.device) - torch.searchsorted(sorted_images, sorted_images)
        kept = torch.zeros_like(image, dtype=torch.bool).scatter(0, by_image, rank < self.roi_per_img)
        chosen = labels.reshape(-1).where(kept, self.ignore_label)
        some = kept.reshape(n, 1, h, w)
        return chosen.reshape(labels_shape), weights.reshape(weights_shape) * some


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A shape with four axes, 1 for those that are missing."""
    n, c, h, w = (*shape, 1, 1, 1, 1)[:4] if len(shape) < 4 else (*shape[:3], prod(shape[3:]))
    return n, c, h, w
