"""MarginInnerProduct."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, at_least, axis, layer, refuse_gradient, traced, whole_from, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor


@layer("MarginInnerProduct")
@dataclass(frozen=True, slots=True)
class MarginInnerProduct(Layer):
    """SphereFace's last layer: x w for rows w of length 1, where the labelled class must win by an angle.

    bottom[0]: N x C x H x W; the axes from `axis` on are one x of D values      bottom[1]: N labels
    top[0]: N x num_output      top[1], if named: lambda, 1 value
    y = x w = |x| cos t but for the labelled class, where y = (|x| psi(t) + lambda x w) / (1 + lambda), with
    psi = (-1)^k cos(m t) - 2k for k pi <= m t <= (k + 1) pi, m = 1 (SINGLE: y = x w throughout) to 4 (QUADRUPLE).
    lambda = max(base (1 + gamma i)^-power, lambda_min), i = iteration + the number of this forward, from 1 on.
    blobs: weight num_output x D; each forward scales its rows to length 1 where it is kept.
    MACs: N num_output D.
    Quirks of the gradient: the weight's is that of x w; of the labelled class's psi, the two directions w and x are
    scaled so that their factors have squares that add up to 1.
    Source: wy1iu/sphereface, src/caffe/layers/margin_inner_product_layer.cpp; Liu et al. 2017, eq. 7.
    """

    category = "dense"
    n_bottom = (2, 2)
    n_top = (1, 2)
    no_gradient = (1,)
    remembers = ("forwards",)
    counted = True

    num_output: int
    type: str = "SINGLE"
    axis: int = 1
    base: float = 1.0
    gamma: float = 0.0
    power: float = 1.0
    iteration: int = 0
    lambda_min: float = 0.0
    shown: bool = False
    weight_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.margin_inner_product_param
        if p.num_output < 1:
            raise NetError("num_output must be positive", at=p.at("num_output"), got=p.num_output)
        if p.gamma < 0:
            raise NetError("gamma is negative", at=p.at("gamma"), expected="0 or more", got=f"{p.gamma:g}")
        return cls(
            p.num_output,
            p.enum("type"),
            axis(p, "axis", len(bottoms[0])),
            p.base,
            p.gamma,
            p.power,
            p.iteration,
            p.lambda_min,
            len(msg.top) > 1,
            Filler.read(p.weight_filler),
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        items = prod(bottoms[0][: self.axis])
        if bottoms[1][:1] != bottoms[0][:1] or prod(bottoms[1]) != items:
            raise NetError("bottom 1 has the wrong shape", expected=f"{items} labels", got=dims(bottoms[1]))
        top = (*bottoms[0][: self.axis], self.num_output)
        return (top, (1,)) if self.shown else (top,)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        return {"weight": BlobSpec((self.num_output, prod(bottoms[0][self.axis :])), self.weight_filler)}

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(bottoms[0]) * self.num_output

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return whole_from(self.axis, bottoms[0])

    def settings(self) -> dict[str, str]:
        return {k: v for k, v in Layer.settings(self).items() if k != "shown"}

    def brief(self) -> str:
        return f"{self.num_output}, {self.type}"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch

        x = bottoms[0].flatten(self.axis)
        labels, _ = whole_numbers(bottoms[1].reshape(-1), self.num_output)
        done = getattr(m, "forwards", 0) + 1
        with torch.no_grad():
            if traced(x):
                weight = m.weight / m.weight.norm(dim=1, keepdim=True)
            else:
                m.weight.div_(m.weight.norm(dim=1, keepdim=True))
                weight = m.weight
                m.forwards = done - m.again
        share = max(self.base * (1 + self.gamma * (self.iteration + done)) ** -self.power, self.lambda_min)
        y = _products(x.flatten(0, -2), m.weight, weight.detach(), labels, self.type, share)
        y = refuse_gradient(y, bottoms[1], "MarginInnerProduct passes no gradient to its labels")
        y = y.reshape(*x.shape[:-1], -1)
        return (y, x.new_full((1,), share)) if self.shown else y


def _products(x: Tensor, weight: Tensor, rows: Tensor, labels: Tensor, kind: str, share: float) -> Tensor:
    """The top. weight: what takes the gradient; rows: the same, scaled."""
    import torch

    def forward(x: Tensor, rows: Tensor) -> Tensor:
        y = x @ rows.t()
        if kind == "SINGLE":
            return y
        at = labels[:, None]
        length = x.norm(dim=1, keepdim=True)
        chosen = y.gather(1, at)
        psi, _ = _margin(chosen / length, kind)
        return y.scatter(1, at, (length * psi + share * chosen) / (1 + share))

    class Products(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
            ctx.save_for_backward(x, rows)
            return forward(x, rows)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            (g,), (x, rows) = grads, ctx.saved_tensors
            dx = g @ rows
            if kind != "SINGLE":
                at = labels[:, None]
                length, w = x.norm(dim=1, keepdim=True), rows[labels]
                cosine = (x * w).sum(1, keepdim=True) / length
                psi, slope = _margin(cosine, kind)
                along = (psi - cosine * slope) / length
                size = (slope.square() + along.square()).sqrt()
                step = (slope * w + along * x) / size - w
                dx = dx + g.gather(1, at) * step / (1 + share)
            return dx, g.t() @ x, None

    if torch.compiler.is_compiling():
        return forward(x, rows)
    top: Tensor = Products.apply(x, weight, rows)  # type: ignore[no-untyped-call]
    return top


def _margin(c: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """psi and its derivative by the cosine."""
    sign = c.sign()
    if kind == "DOUBLE":
        return 2 * sign * c**2 - 1, 4 * sign * c
    if kind == "TRIPLE":
        outer = (c.abs() - 0.5).sign()
        return outer * (4 * c**3 - 3 * c) + sign * (1 + outer) - 2, outer * (12 * c**2 - 3)
    outer = sign * (2 * c**2 - 1).sign()
    return outer * (8 * c**4 - 8 * c**2 + 1) + 2 * sign + outer - 3, outer * (32 * c**3 - 16 * c)
