"""InnerDistance."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, at_least, axis, layer, whole_from
from .inner_product import unit_rows

if TYPE_CHECKING:
    from torch import Tensor

GIVEN = 2  # bottoms, where the rows are one of them


@layer("InnerDistance")
@dataclass(frozen=True, slots=True)
class InnerDistance(Layer):
    """The distance of x to each row w of a weight: sum (x - w)^2 for L2, sum |x - w| for L1; then plus a bias.

    bottom[0]: N x C x H x W; the axes from `axis` on are one x of D values      bottom[1], bottom[2], if there are any: the
    weight and the bias, in place of blobs      top[0]: N x num_output
    With a weight given num_output, where it is not written, is its first dim, and bias_term whether a bias is given.
    normalize: each forward divides the weight's rows by sqrt(sum w^2 + 1e-6), where it is kept.
    blobs: weight num_output x D, with transpose D x num_output (a name only: the rows lie in memory all the same);
    bias num_output (none when bias_term is false).
    MACs: N num_output D.
    Source: happynear/caffe-windows, src/caffe/layers/inner_distance_layer.cpp.
    """

    category = "dense"
    n_bottom = (1, 3)
    counted = True

    num_output: int
    axis: int = 1
    bias_term: bool = True
    transpose: bool = False
    distance_type: str = "L2"
    normalize: bool = False
    given: bool = False
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.inner_distance_param
        num_output = p.num_output
        if len(bottoms) > 1 and not p.has("num_output"):
            at_least(1, bottoms, 1)
            num_output = bottoms[1][0]
        if num_output < 1:
            raise NetError("num_output must be positive", at=p.at("num_output"), got=num_output)
        if p.distance_type not in ("L1", "L2"):
            at = p.at("distance_type")
            raise NetError("unknown distance_type", at=at, expected="L1 or L2", got=p.distance_type)
        if p.update_center_only:
            what = "update_center_only is not supported"
            raise NetError(what, at=p.at("update_center_only"), hint="only the fork's GPU code has it")
        biased = len(bottoms) > GIVEN if len(bottoms) > 1 else p.bias_term
        if p.has("bias_term") and p.bias_term != biased:
            expected = "true with three bottoms, false with two"
            raise NetError("bias_term does not fit the bottoms", at=p.at("bias_term"), expected=expected)
        return cls(
            num_output,
            axis(p, "axis", len(bottoms[0])),
            biased,
            p.transpose,
            p.distance_type,
            p.normalize and len(bottoms) == 1,
            len(bottoms) > 1,
            Filler.read(p.weight_filler),
            Filler.read(p.bias_filler),
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        inputs = prod(bottoms[0][self.axis :])
        for i, want in enumerate((self.num_output * inputs, self.num_output)[: len(bottoms) - 1], 1):
            if prod(bottoms[i]) != want:
                raise NetError(f"bottom {i} has the wrong shape", expected=f"{want} values", got=dims(bottoms[i]))
        return ((*bottoms[0][: self.axis], self.num_output),)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        if self.given:
            return {}
        inputs = prod(bottoms[0][self.axis :])
        shape = (inputs, self.num_output) if self.transpose else (self.num_output, inputs)
        specs = {"weight": BlobSpec(shape, self.weight_filler)}
        if self.bias_term:
            specs["bias"] = BlobSpec((self.num_output,), self.bias_filler)
        return specs

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(bottoms[0]) * self.num_output

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None if bottom else whole_from(self.axis, bottoms[0])

    def settings(self) -> dict[str, str]:
        return {k: v for k, v in Layer.settings(self).items() if k != "given"}

    def brief(self) -> str:
        return f"{self.num_output}, {self.distance_type}"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x = bottoms[0].flatten(self.axis)
        weight = bottoms[1] if self.given else m.weight
        if self.normalize:
            weight = unit_rows(m, weight, self.num_output)
        rows = weight.reshape(self.num_output, -1)
        apart = x.unsqueeze(-2) - rows
        y = (apart.square() if self.distance_type == "L2" else apart.abs()).sum(-1)
        if not self.bias_term:
            return y
        return y + (bottoms[2].reshape(-1) if self.given else m.bias)
