"""TransformerBlock, of MyCaffe."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, exactly, layer
from .layer_norm import EPSILON, normalized

if TYPE_CHECKING:
    from torch import Tensor

HEADS, EMBED, LAYERS, DROPOUT = 6, 192, 6, 0.1  # the defaults
STD = 0.02


@layer("TransformerBlock")
@dataclass(frozen=True, slots=True)
class TransformerBlock(Layer):
    """A block of GPT: y = x + attention(norm(x)), then y + project(act(expand(norm(y)))); norm is LayerNorm's.

    bottom[0]: N x T x embed      top[0]: the same
    Attention of `heads` heads, each over embed / heads values: of q, k, v = W x + b the softmax of q k / sqrt(embed /
    heads) over a step itself and those before it, times v, all heads side by side; then the projection.
    In TRAIN attn_dropout is the part of the attention, and resid_dropout that of what comes out of both projections,
    which is dropped; torch's random numbers.
    activation: RELU; GELU_BERT x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    blobs: qkv 3 embed x embed, qkv_bias; attended embed x embed, attended_bias; expand 4 embed x embed, expand_bias;
    project embed x 4 embed, project_bias
    `layers`, of the whole net, makes the two projections start smaller. block_size has no effect: the mask is as long as
    the sequence.
    MACs: N T 12 embed^2 + N T^2 2 embed.
    Source: MyCaffe, MyCaffe.layers.gpt/TransformerBlockLayer.cs, CausalSelfAttentionLayer.cs.
    """

    category = "dense"
    counted = True
    ignored = frozenset({"block_size", "enable_layernorm_cuda_impl", "enable_ln_cuda_impl"})

    embed: int
    heads: int = HEADS
    layers: int = LAYERS
    attn_dropout: float = DROPOUT
    resid_dropout: float = DROPOUT
    activation: str = "RELU"
    train: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.transformer_block_param
        if p.enum("block_type") != "CAUSAL_SELF_ATTENTION":
            got = p.enum("block_type")
            raise NetError(
                "the block_type is not supported", at=p.at("block_type"), expected="CAUSAL_SELF_ATTENTION", got=got
            )
        sizes: dict[str, Any] = {
            name: getattr(p, name) if p.has(name) else usual
            for name, usual in (("embed", EMBED), ("heads", HEADS), ("layers", LAYERS))
        }
        for name, value in sizes.items():
            if value < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=value)
        if sizes["embed"] % sizes["heads"]:
            raise NetError(
                "heads do not divide embed",
                at=p.at("heads"),
                expected=f"a divisor of {sizes['embed']}",
                got=sizes["heads"],
            )
        dropped: dict[str, Any] = {}
        for name in ("attn_dropout", "resid_dropout"):
            dropped[name] = getattr(p, name) if p.has(name) else DROPOUT
            if not 0 <= dropped[name] < 1:
                raise NetError(f"{name} is out of range", at=p.at(name), expected="0 to less than 1", got=dropped[name])
        activation = p.enum("activation")
        if activation not in ("RELU", "GELU_BERT"):
            raise NetError(
                "the activation is not supported", at=p.at("activation"), expected="RELU or GELU_BERT", got=activation
            )
        train = msg.enum("phase") == "TRAIN"
        return cls(**sizes, **dropped, activation=activation, train=train)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(3, bottoms)
        if bottoms[0][2] != self.embed:
            raise NetError(
                "bottom 0 has the wrong shape", expected=f"N x T x {self.embed}, embed", got=dims(bottoms[0])
            )
        return bottoms

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        usual = Filler("gaussian", std=STD)
        small = Filler("gaussian", std=STD / sqrt(2 * self.layers))
        e = self.embed
        parts = {
            "qkv": (3 * e, e, usual),
            "attended": (e, e, small),
            "expand": (4 * e, e, usual),
            "project": (e, 4 * e, small),
        }
        found = {}
        for name, (rows, columns, filler) in parts.items():
            found[name] = BlobSpec((rows, columns), filler)
            found[f"{name}_bias"] = BlobSpec((rows,), Filler())
        return found

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        n, steps, e = bottoms[0]
        return n * steps * e * (prod((12, e)) + 2 * steps)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def brief(self) -> str:
        return f"{self.heads} heads"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        y = bottoms[0] + self.dropped(self.attention(m, normalized(bottoms[0], EPSILON)))
        wide = F.linear(normalized(y, EPSILON), m.expand, m.expand_bias)
        wide = wide.relu() if self.activation == "RELU" else F.gelu(wide, approximate="tanh")
        return y + self.dropped(F.linear(wide, m.project, m.project_bias))

    def attention(self, m: Any, x: Tensor) -> Tensor:
        """Of N x T x embed."""
        import torch
        import torch.nn.functional as F

        n, steps, e = x.shape
        heads = F.linear(x, m.qkv, m.qkv_bias).reshape(n, steps, 3, self.heads, e // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind()
        near = q @ k.transpose(2, 3) / sqrt(e // self.heads)
        later = torch.ones((steps, steps), dtype=torch.bool, device=x.device).triu(1)
        part = near.masked_fill(later, float("-inf")).softmax(3)
        if self.train and self.attn_dropout:
            part = F.dropout(part, self.attn_dropout)
        return F.linear((part @ v).transpose(1, 2).reshape(n, steps, e), m.attended, m.attended_bias)

    def dropped(self, x: Tensor) -> Tensor:
        """x, with resid_dropout."""
        import torch.nn.functional as F

        return F.dropout(x, self.resid_dropout) if self.train and self.resid_dropout else x
