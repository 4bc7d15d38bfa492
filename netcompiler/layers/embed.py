"""Embed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shapes
from ..text import Msg
from .base import BlobSpec, Layer, layer, refuse_gradient, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor


@layer("Embed")
@dataclass(frozen=True, slots=True)
class Embed(Layer):
    """y = W[x] + b: for each index x, 0 to input_dim - 1, its row of a learned table.

    bottom: any shape      top: that shape x num_output
    blobs: weight input_dim x num_output;  bias num_output (none when bias_term is false). The indices take no gradient.
    Source: Caffe, src/caffe/layers/embed_layer.cpp.
    """

    category = "dense"
    no_gradient = (0,)

    num_output: int
    input_dim: int
    bias_term: bool = True
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.embed_param
        for name in ("num_output", "input_dim"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
        fillers = Filler.read(p.weight_filler), Filler.read(p.bias_filler)
        return cls(p.num_output, p.input_dim, p.bias_term, *fillers)

    def tops(self, bottoms: Shapes) -> Shapes:
        return ((*bottoms[0], self.num_output),)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        specs = {"weight": BlobSpec((self.input_dim, self.num_output), self.weight_filler)}
        if self.bias_term:
            specs["bias"] = BlobSpec((self.num_output,), self.bias_filler)
        return specs

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        rows = F.embedding(whole_numbers(bottoms[0], self.input_dim)[0], m.weight)
        top = rows + m.bias if self.bias_term else rows
        return refuse_gradient(top, bottoms[0], "Embed passes no gradient to its indices")
