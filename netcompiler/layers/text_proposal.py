"""The Python layer of CTPN, without its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, exactly
from .boxes import clip
from .proposal import INFO, PIXEL, at_places, row_of
from .python import native, settings_of

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 16
HEIGHTS = (11, 16, 23, 33, 48, 68, 97, 139, 198, 283)
CENTRE = (WIDTH - PIXEL) / 2
# Halves of whole numbers are cut as Python 2 does it, and edges towards 0.
ANCHORS = np.array([[0, int(CENTRE - h // 2), WIDTH - PIXEL, int(CENTRE + h // 2)] for h in HEIGHTS], np.float64)


@native(("layers.text_proposal_layer", "ProposalLayer"))
@dataclass(frozen=True, slots=True)
class TextProposalLayer(Layer):
    """Strips that may hold a piece of a line of text: anchors 16 wide at each place, moved up or down and stretched.

    bottom[0]: 1 x 20 x H x W, probabilities of background (10), then of text (10)      bottom[1]: deltas, 1 x 20 x H x W:
    dy in heights and dh (a logarithm) of each anchor      bottom[2]: height and width of the image first
    top[0]: 10 H W x 4: x1, y1, x2, y2, place by place, row by row      top[1]: 10 H W x 1 probabilities of text
    The 10 anchors are 11 to 283 high, feat_stride (param_str) apart. y1 = centre + dy height - h / 2, y2 = y1 + h with
    h = height exp(dh); then clipped to the image. What overlaps is left, the program suppresses it. No gradient passes.
    Source: tianzhi0549/CTPN, src/layers/text_proposal_layer.py, src/anchor.py.
    """

    kind: ClassVar[str]
    category = "shape"
    n_bottom = (3, 3)
    n_top = (2, 2)
    no_gradient = (0, 1, 2)

    feat_stride: int

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(settings_of(msg, {"feat_stride": int})["feat_stride"])

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        maps = 2 * len(HEIGHTS)
        h, w = bottoms[0][2:]
        for i in range(2):
            if bottoms[i] != (1, maps, h, w):
                raise NetError(f"bottom {i} has the wrong shape", expected=dims((1, maps, h, w)), got=dims(bottoms[i]))
        if row_of(bottoms[2]) < INFO - 1:
            expected = "height and width of the image"
            raise NetError("bottom 2 does not tell the image", expected=expected, got=dims(bottoms[2]))
        count = len(HEIGHTS) * h * w
        return ((count, 4), (count, 1))

    def brief(self) -> str:
        return f"TextProposalLayer, s{self.feat_stride}"

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        maps, deltas, info = (b.detach() for b in bottoms)
        exact = torch.promote_types(maps.dtype, torch.float32)
        height, width = info.to(exact).reshape(-1)[:2].unbind()
        h, w = maps.shape[2:]
        anchors = at_places(torch.from_numpy(ANCHORS).to(maps.device, exact), h, w, self.feat_stride)
        left, above, right, below = anchors.unbind(1)
        dy, dh = deltas.to(exact).permute(0, 2, 3, 1).reshape(-1, 2).unbind(1)
        size = below - above + PIXEL
        high = dh.exp() * size
        top = dy * size + (above + below) / 2 - high / 2
        boxes = clip(torch.stack((left, top, right, top + high), 1), height - PIXEL, width - PIXEL)
        return boxes, maps[:, len(HEIGHTS) :].permute(0, 2, 3, 1).reshape(-1, 1)
