"""Eltwise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import ANY, Layer, layer, not_in_place, same_shapes

if TYPE_CHECKING:
    from torch import Tensor

ONE = {"SUM": "SUM of one item", "PROD": "PROD of one item"}  # names of their own: what fuses sums takes equal shapes


@layer("Eltwise")
@dataclass(frozen=True, slots=True)
class Eltwise(Layer):
    """The product, the weighted sum or the maximum of the bottoms, element by element.

    bottom[i]: N x C x H x W, all of one shape      top[0]: the same
    PROD: x_0 x_1 ...  SUM: coeff_0 x_0 + coeff_1 x_1 + ..., coeff 1 where none is given.  MAX: the largest.
    Quirks: MAX takes coeff and does not use it. Where several are largest, the gradient of MAX goes to one of them: to
    bottom 1 of bottoms 0 and 1, else to the earliest. Without stable_prod_grad the gradient of PROD is y / x_i, which
    is no number where x_i is 0. SUM and MAX in place, where Caffe loses bottom 0, are refused.
    allow_single_batch_input (MyCaffe): SUM or PROD of two bottoms, the second one item, which counts for each of the first.
    Source: Caffe, src/caffe/layers/eltwise_layer.cpp; MyCaffe, EltwiseLayer.
    """

    category = "combine"
    n_bottom = (2, ANY)

    operation: str = "SUM"
    coeff: tuple[float, ...] = ()
    stable_prod_grad: bool = True

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.eltwise_param
        operation, coeff = p.enum("operation"), tuple(p.coeff)
        if coeff and operation == "PROD":
            raise NetError("PROD takes no coeff", at=p.at("coeff"), hint="coeff is for operation: SUM")
        if len(coeff) not in (0, len(bottoms)):
            expected = f"none, or {len(bottoms)}, one for each bottom"
            raise NetError("the wrong number of coeff", at=p.at("coeff"), expected=expected, got=len(coeff))
        if operation != "PROD":
            not_in_place(msg)
        if p.allow_single_batch_input:
            if len(bottoms) != 2 or operation not in ONE or not p.stable_prod_grad:
                expected = "SUM or PROD of two bottoms, with stable_prod_grad"
                at = p.at("allow_single_batch_input")
                raise NetError("allow_single_batch_input is not for these", at=at, expected=expected)
            operation = ONE[operation]
        return cls(operation, coeff, p.stable_prod_grad)

    def tops(self, bottoms: Shapes) -> Shapes:
        if self.operation not in ONE.values():
            same_shapes(bottoms)
        elif bottoms[1] != (1, *bottoms[0][1:]):
            expected = f"{dims((1, *bottoms[0][1:]))}, one item of bottom 0"
            raise NetError("bottom 1 has the wrong shape", expected=expected, got=dims(bottoms[1]))
        return bottoms[:1]

    def brief(self) -> str:
        return ", ".join([self.operation, *(f"{c:g}" for c in self.coeff)])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        if self.operation in ("PROD", ONE["PROD"]):
            return reduce(mul, bottoms) if self.stable_prod_grad else _product_by_division(*bottoms)
        if self.operation == "MAX":
            top = torch.where(bottoms[0] > bottoms[1], bottoms[0], bottoms[1])
            for x in bottoms[2:]:
                top = torch.where(x > top, x, top)
            return top
        coeff = self.coeff or (1.0,) * len(bottoms)
        top = bottoms[0] if coeff[0] == 1 else bottoms[0] * coeff[0]
        for x, c in zip(bottoms[1:], coeff[1:], strict=True):
            top = torch.add(top, x, alpha=c)
        return top


def _product_by_division(*factors: Tensor) -> Tensor:
    """The product, whose gradient by each factor is the product divided by it."""
    import torch

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *factors: Tensor) -> Tensor:
            product = reduce(mul, factors)
            ctx.save_for_backward(product, *factors)
            return product

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            product, *factors = ctx.saved_tensors
            return tuple(product / x * grads[0] for x in factors)

    product: Tensor = Product.apply(*factors)  # type: ignore[no-untyped-call]
    return product
