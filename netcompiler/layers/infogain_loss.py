"""InfogainLoss."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from google.protobuf.message import DecodeError

from .. import schema
from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import (
    Layer,
    at_least,
    axis,
    layer,
    normalization,
    normalizer,
    one_label_each,
    refuse_gradient,
    whole_numbers,
)

if TYPE_CHECKING:
    from torch import Tensor

LOG_LEAST = -46.05170185988091  # ln(1e-20): Caffe takes no smaller probability's logarithm


@layer("InfogainLoss")
@dataclass(frozen=True, slots=True)
class InfogainLoss(Layer):
    """loss = -1 / Z  sum over positions and classes  H[label, k] ln(max(p_k, 1e-20)), with p the softmax along `axis`.

    bottom[0]: N x K x H x W, the scores      bottom[1]: one label, 0 .. K - 1, for each of the N H W positions
    bottom[2]: H, K x K values in any shape; where it is missing, `source` names a .binaryproto that holds them.
    top[0]: a scalar, float32 at least      top[1], if named: p, without gradient
    Positions labelled ignore_label add nothing. Z by normalization: FULL N H W; VALID those not ignored; BATCH_SIZE what
    lies before `axis`; NONE 1; never below 1.
    dx_k = (p_k sum over l of H[label, l] - H[label, k]) / Z, also where the logarithm was held at 1e-20.
    The file is read when the net is built; its path is taken as written, so a relative one from the working directory.
    Source: Caffe, src/caffe/layers/infogain_loss_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 3)
    n_top = (1, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1, 2)

    axis: int = 1
    normalization: str | float = "VALID"
    ignore_label: int | None = None
    softmax: bool = False
    source: str = ""
    matrix: bytes = field(default=b"", repr=False)  # of the source: K x K float64

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p, q = msg.infogain_loss_param, msg.loss_param
        if q.has("normalize"):
            raise NetError("normalize is not for InfogainLoss", at=q.at("normalize"), hint="use normalization")
        along, mode = axis(p, "axis", len(bottoms[0])), normalization(q)
        ignored = q.ignore_label if q.has("ignore_label") else None
        source = str(p.source)
        if len(bottoms) == 3:
            return cls(along, mode, ignored, len(msg.top) > 1)
        if not source:
            what = "the matrix is missing"
            raise NetError(what, at="infogain_loss_param", expected="infogain_loss_param.source, or a third bottom")
        try:
            matrix = _matrix(source)
        except NetError as e:
            e.at = p.at("source")
            raise
        return cls(along, mode, ignored, len(msg.top) > 1, source, matrix)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(self.axis + 1, bottoms)
        one_label_each(bottoms, self.axis)
        k = bottoms[0][self.axis]
        held = prod(bottoms[2]) if len(bottoms) == 3 else len(self.matrix) // 8
        if held != k * k:
            got = f"{held} values" + (f" ({dims(bottoms[2])})" if len(bottoms) == 3 else f" in {self.source}")
            expected = f"{k} x {k}, as axis {self.axis} of bottom 0 ({dims(bottoms[0])}) has the classes"
            raise NetError("the matrix does not fit the classes", at="source", expected=expected, got=got)
        return ((), bottoms[0]) if self.softmax else ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch

        scores, along = bottoms[0], self.axis
        k = scores.shape[along]
        labels, kept = whole_numbers(bottoms[1], k, self.ignore_label)
        logs = scores.log_softmax(along, dtype=torch.promote_types(scores.dtype, torch.float32))
        # Below 1e-20 only the value stays: x - x is 0 and keeps the gradient.
        held = torch.where(logs < LOG_LEAST, logs - logs.detach() + LOG_LEAST, logs)
        matrix = bottoms[2].detach() if len(bottoms) == 3 else torch.tensor(np.frombuffer(self.matrix))
        rows = matrix.to(logs.device, logs.dtype).reshape(k, k)[labels.reshape(-1)]
        gains = (rows * held.movedim(along, -1).reshape(-1, k)).sum(1)
        if kept is not None:
            gains = gains * kept.reshape(-1)
        outer, inner = prod(scores.shape[:along]), prod(scores.shape[along + 1 :])
        loss = -gains.sum() / normalizer(self.normalization, outer, inner, kept)
        for fixed, name in zip(bottoms[1:], ("labels", "matrix"), strict=False):
            loss = refuse_gradient(loss, fixed, f"InfogainLoss passes no gradient to its {name}")
        return (loss, logs.detach().exp().to(scores.dtype)) if self.softmax else loss


def _matrix(path: str) -> bytes:
    """The values of a square matrix in a .binaryproto, as float64."""
    try:
        if Path(path).exists() and not Path(path).is_file():  # a device or a pipe might never end
            raise NetError("the matrix cannot be read: not a regular file", got=path)
        blob = schema.BlobProto.FromString(Path(path).read_bytes())
    except (OSError, ValueError) as e:  # ValueError: no path at all, such as one with a zero byte
        raise NetError(f"the matrix cannot be read: {getattr(e, 'strerror', None) or e}", got=path) from None
    except DecodeError:
        raise NetError("the matrix cannot be read", expected="a .binaryproto", got=path) from None
    values = np.array(blob.double_data or blob.data, np.float64)
    if not values.size or isqrt(values.size) ** 2 != values.size:
        raise NetError("the file holds no square matrix", expected="K x K values", got=f"{values.size} in {path}")
    return values.tobytes()
