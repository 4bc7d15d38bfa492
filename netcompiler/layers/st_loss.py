"""STLoss and LocLoss, of spatial transformers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor

ENTRIES = 6  # of theta


def _beyond(x: Tensor, edge: float) -> Tensor:
    """Half the square of how far each value is outside -edge .. edge."""
    return (x.abs() - edge).relu().square() / 2


@layer("STLoss")
@dataclass(frozen=True, slots=True)
class STLoss(Layer):
    """How far the places that a SpatialTransformer samples are outside its picture: the mean of d^2 / 2.

    bottom[0]: theta, N x 6      top[0]: a scalar, float32 at least
    d is how far p, and q, are outside -1 .. 1, for the places (h, w) of output_H x output_W; see SpatialTransformer for both.
    Source: daerduoCarey/SpatialTransformerLayer, src/caffe/layers/st_loss_layer.cu.
    """

    category = "loss"
    is_loss = True
    anonymous_tops = True

    output_H: int  # noqa: N815
    output_W: int  # noqa: N815

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.st_loss_param
        for name in ("output_H", "output_W"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} must be positive", at=p.at(name) or "st_loss_param", got=getattr(p, name))
        return cls(p.output_H, p.output_W)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        if prod(bottoms[0][1:]) != ENTRIES:
            raise NetError("theta has the wrong shape", expected=dims((bottoms[0][0], ENTRIES)), got=dims(bottoms[0]))
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        theta = bottoms[0].to(torch.promote_types(bottoms[0].dtype, torch.float32)).reshape(-1, 2, 3)
        sizes = self.output_H, self.output_W
        rows, columns = (torch.arange(s, device=theta.device, dtype=theta.dtype) * 2 / s - 1 for s in sizes)
        grid = torch.cartesian_prod(rows, columns)
        found = theta @ torch.cat((grid, torch.ones_like(grid[:, :1])), 1).t()  # N x 2 x H W
        return _beyond(found, 1).sum() / (len(theta) * sizes[0] * sizes[1])


@layer("LocLoss")
@dataclass(frozen=True, slots=True)
class LocLoss(Layer):
    """The mean of d^2 / 2, d being how far a value is outside -threshold .. threshold.

    bottom[0]: any shape      top[0]: a scalar, float32 at least
    Source: daerduoCarey/SpatialTransformerLayer, src/caffe/layers/loc_loss_layer.cu.
    """

    category = "loss"
    is_loss = True
    anonymous_tops = True

    threshold: float

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.loc_loss_param
        if p.threshold <= 0:
            raise NetError(
                "threshold must be positive", at=p.at("threshold") or "loc_loss_param", got=f"{p.threshold:g}"
            )
        return cls(p.threshold)

    def tops(self, bottoms: Shapes) -> Shapes:
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0].to(torch.promote_types(bottoms[0].dtype, torch.float32))
        return _beyond(x, self.threshold).mean()
