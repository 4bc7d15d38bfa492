"""TokenizedData, of MyCaffe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import InputLayer, layer
from .data import fields_of


@layer("TokenizedData")
@dataclass(frozen=True, slots=True)
class TokenizedData(InputLayer):
    """Texts as numbers of their characters or words, which the caller feeds here.

    top[0]: batch_size x block_size, the tokens      top[1]: 1 x block_size, 0, 1, ...: where each stands
    top[2]: batch_size x block_size, the token that follows each
    All settings are taken, since only reading would use them. A given shape always wins.
    Source: MyCaffe, MyCaffe.layers.gpt/TokenizedDataLayer.cs.
    """

    n_top = (3, 3)
    ignored = fields_of("TokenizedDataParameter")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.tokenized_data_param
        if not p.block_size:
            raise NetError("block_size must be positive", at=p.at("block_size"), got=p.block_size)
        steps = (p.batch_size, p.block_size) if p.batch_size else None
        return cls((steps, (1, p.block_size), steps))
