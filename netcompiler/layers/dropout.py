"""Dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes
from ..text import Msg
from .base import Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("Dropout")
@dataclass(frozen=True, slots=True)
class Dropout(Layer):
    """TRAIN: each element becomes 0 with probability dropout_ratio, else x / (1 - dropout_ratio). TEST: y = x.

    The top has the bottom's shape. The phase is the layer's own, as the net was built; the random numbers are torch's.
    scale_train false (Fast R-CNN's fork): TRAIN else x, TEST y = x (1 - dropout_ratio).
    sample_weights_test (SegNet's): TEST is as TRAIN, so that several forwards tell how sure the net is.
    Source: Caffe, src/caffe/layers/dropout_layer.cpp; the same of caffe-fast-rcnn.
    """

    ignored = frozenset({"engine", "random_seed"})

    dropout_ratio: float = 0.5
    train: bool = False
    scale_train: bool = True

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        ratio = msg.dropout_param.dropout_ratio
        if not 0 <= ratio < 1:
            at = msg.dropout_param.at("dropout_ratio")
            raise NetError("dropout_ratio is out of range", at=at, expected="0 <= dropout_ratio < 1", got=f"{ratio:g}")
        p = msg.dropout_param
        return cls(ratio, p.sample_weights_test or msg.enum("phase") == "TRAIN", p.scale_train)

    def tops(self, bottoms: Shapes) -> Shapes:
        return bottoms

    def is_identity(self) -> bool:
        return not self.train and self.scale_train

    def brief(self) -> str:
        return f"{self.dropout_ratio:.4g}"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch.nn.functional as F

        x = F.dropout(bottoms[0], self.dropout_ratio) if self.train else bottoms[0]
        return x if self.scale_train else x * (1 - self.dropout_ratio)
