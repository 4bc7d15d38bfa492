"""CenterLoss."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shapes, dims
from ..text import Msg
from .base import BlobSpec, Layer, at_least, axis, layer, refuse_gradient, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor


@layer("CenterLoss")
@dataclass(frozen=True, slots=True)
class CenterLoss(Layer):
    """loss = 1 / 2N  sum over the items of |x - c|^2, c being the learned centre of the item's class.

    bottom[0]: N x C x H x W; the axes from `axis` on are one feature of D values      bottom[1]: N labels
    top[0]: a scalar, float32 at least
    blobs: weight num_output x D, the centres.
    Quirks: the loss weight is 0 where the net gives none. The centres' gradient is no derivative, but the paper's step,
    (n c - sum of the x of that class) / (1 + n) for a class of n items, not scaled by the loss weight.
    Source: ydwen/caffe-face, src/caffe/layers/center_loss_layer.cpp; Wen et al. 2016, eq. 4.
    """

    category = "loss"
    n_bottom = (2, 2)
    anonymous_tops = True
    no_gradient = (1,)

    num_output: int
    axis: int = 1
    filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.center_loss_param
        if p.num_output < 1:
            raise NetError("num_output must be positive", at=p.at("num_output"), got=p.num_output)
        first = axis(p, "axis", len(bottoms[0]))
        if first != 1:
            raise NetError("axis is out of range", at=p.at("axis"), expected="1, the axis behind the batch", got=first)
        return cls(p.num_output, first, Filler.read(p.center_filler))

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        if bottoms[1][:1] != bottoms[0][:1] or prod(bottoms[1]) != bottoms[0][0]:
            raise NetError("bottom 1 has the wrong shape", expected=f"{bottoms[0][0]} labels", got=dims(bottoms[1]))
        return ((),)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        return {"weight": BlobSpec((self.num_output, prod(bottoms[0][1:])), self.filler)}

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(bottoms[0])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0].flatten(1)
        exact = torch.promote_types(x.dtype, torch.float32)
        labels, _ = whole_numbers(bottoms[1].reshape(-1), self.num_output)
        loss = _distance(x.to(exact), m.weight, labels)
        return refuse_gradient(loss, bottoms[1], "CenterLoss passes no gradient to its labels")


def _distance(x: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """The loss; its gradient to the centres is the step, whatever the gradient that comes."""
    import torch

    class Distance(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
            away = x - centres[labels].to(x.dtype)
            ctx.save_for_backward(away, labels)
            ctx.centres = centres.shape, centres.dtype
            return away.square().sum() / (2 * len(x))

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            away, labels = ctx.saved_tensors
            shape, dtype = ctx.centres
            total = away.new_zeros(shape).index_add(0, labels, -away)
            count = away.new_zeros(shape[:1]).index_add(0, labels, torch.ones_like(away[:, 0]))
            return away * (grads[0] / len(away)), (total / (1 + count)[:, None]).to(dtype), None

    if torch.compiler.is_compiling():
        return (x - centres[labels].to(x.dtype)).square().sum() / (2 * len(x))
    loss: Tensor = Distance.apply(x, centres, labels)  # type: ignore[no-untyped-call]
    return loss
