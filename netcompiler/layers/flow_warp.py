"""FlowWarp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, exactly, layer

if TYPE_CHECKING:
    from torch import Tensor


@layer("FlowWarp")
@dataclass(frozen=True, slots=True)
class FlowWarp(Layer):
    """Fetch each pixel from where a flow points, linear in between.

    bottom[0]: N x C x H x W      bottom[1]: the flow, N x 2 x H x W, to the right and down      top[0]: N x C x H x W
    top[y, x] is the image at (y + v, x + u); where that is not within 0 <= . < H and W it is 0, or NaN with fill_value
    NOT_A_NUMBER, and passes no gradient. Beyond the last row or column the image goes on as that one.
    Source: leonzfa/iResNet, lmb-freiburg/flownet2: src/caffe/layers/flow_warp_layer.cpp, flow_warp_layer.cu.
    """

    category = "shape"
    n_bottom = (2, 2)

    fill_value: str = "ZERO"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(msg.flow_warp_param.enum("fill_value"))

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, _, h, w = bottoms[0]
        if bottoms[1] != (n, 2, h, w):
            raise NetError("the flow has the wrong shape", expected=dims((n, 2, h, w)), got=dims(bottoms[1]))
        return (bottoms[0],)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None if bottom == 0 else Layer.windows(self, bottoms, tops, bottom, top)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        image = bottoms[0]
        n, c, h, w = image.shape
        exact = torch.promote_types(image.dtype, torch.float32)
        u, v = bottoms[1].to(exact).unbind(1)
        x = u + torch.arange(w, device=image.device, dtype=exact)
        y = v + torch.arange(h, device=image.device, dtype=exact)[:, None]
        inside = (x >= 0) & (y >= 0) & (x < w) & (y < h)
        x, y = torch.where(inside, x, 0), torch.where(inside, y, 0)
        left, upper = x.detach().floor(), y.detach().floor()
        alpha, beta = x - left, y - upper
        flat = image.to(exact).flatten(2)
        top = torch.zeros_like(image, dtype=exact)
        for row, weight_y in ((upper, 1 - beta), ((upper + 1).clamp(max=h - 1), beta)):
            for column, weight_x in ((left, 1 - alpha), ((left + 1).clamp(max=w - 1), alpha)):
                place = (row * w + column).long().reshape(n, 1, -1).expand(n, c, -1)
                top = top + flat.gather(2, place).reshape(n, c, h, w) * (weight_y * weight_x)[:, None]
        outside = 0.0 if self.fill_value == "ZERO" else torch.nan
        return torch.where(inside[:, None], top, outside).to(image.dtype)
