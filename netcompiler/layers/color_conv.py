"""ColorConv."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, exactly, layer, refuse_gradient

if TYPE_CHECKING:
    from torch import Tensor

# From one space to the next; BGR is RGB the other way round.
STEPS = {
    ("RGB", "RGB"),
    ("Gray", "RGB"),
    ("RGB", "Gray"),
    ("RGB", "XYZ"),
    ("XYZ", "RGB"),
    ("XYZ", "Lab"),
    ("Lab", "XYZ"),
}
WAYS = STEPS | {("RGB", "Lab"), ("Lab", "RGB")}
TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
TO_RGB = ((3.2404542, -1.5371385, -0.4985314), (-0.9692660, 1.8760108, 0.0415560), (0.0556434, -0.2040259, 1.0572252))
WHITE = (0.95074, 1.0, 1.08883)  # D65


@layer("ColorConv")
@dataclass(frozen=True, slots=True)
class ColorConv(Layer):
    """Pictures in another colour space.

    bottom[0]: N x C x H x W      top[0]: N x C' x H x W; C is 1 for Gray, else 3
    RGB and BGR are 0 to 255 in sRGB, XYZ 0 to 1, Lab's white D65; Gray is the Y of the RGB values as they are.
    Between XYZ and Gray, Lab and Gray there is no way. No gradient: asked for, it is an error.
    Quirk of the fork, not kept: its CPU code returns after the first picture of a batch.
    Source: tonyyangToBeNo1/colorization_flow_caffe, src/caffe/layers/color_conv_layer.cpp; IEC 61966-2-1; CIE 1976 L*a*b*.
    """

    category = "shape"

    input: str = "BGR"
    output: str = "BGR"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.color_conv_param
        found = cls(p.enum("input"), p.enum("output"))
        if found.way not in WAYS:
            what = f"there is no way from {found.input} to {found.output}"
            raise NetError(what, at=p.at("output") or p.at("input"), hint="go by RGB, in two layers")
        return found

    @property
    def way(self) -> tuple[str, str]:
        """Input and output, BGR taken for RGB."""
        plain = ["RGB" if space == "BGR" else space for space in (self.input, self.output)]
        return plain[0], plain[1]

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        n, c, h, w = bottoms[0]
        wanted = 1 if self.input == "Gray" else 3
        if c != wanted:
            raise NetError(
                f"{self.input} pictures have {wanted} channels", expected=wanted, got=f"{c} ({dims(bottoms[0])})"
            )
        return ((n, 1 if self.output == "Gray" else 3, h, w),)

    def is_identity(self) -> bool:
        return self.input == self.output

    def brief(self) -> str:
        return f"{self.input} to {self.output}"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0].detach()
        y = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.input == "BGR":
            y = y.flip(1)
        start, end = self.way
        if {start, end} == {"RGB", "Lab"}:
            y = _step(_step(y, start, "XYZ"), "XYZ", end)
        else:
            y = _step(y, start, end)
        if self.output == "BGR":
            y = y.flip(1)
        return refuse_gradient(y.to(x.dtype), bottoms[0], "ColorConv has no gradient")


def _step(x: Tensor, start: str, end: str) -> Tensor:
    """N x C x H x W in another space, which is one of STEPS away."""
    import torch

    def mixed(x: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
        return torch.einsum("oc,nchw->nohw", x.new_tensor(matrix), x)

    if start == end:
        return x
    if start == "Gray":
        return x.expand(-1, 3, -1, -1)
    if end == "Gray":
        return mixed(x, TO_XYZ[1:2])
    if end == "XYZ" and start == "RGB":
        v = x / 255
        return mixed(torch.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4), TO_XYZ)
    if end == "RGB":
        v = mixed(x, TO_RGB)
        return 255 * torch.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)
    white = x.new_tensor(WHITE)[:, None, None]
    if end == "Lab":
        v = x / white
        f = torch.where(v > 0.008867, v ** (1 / 3), (903.3 * v + 16) / 116)
        return torch.stack((116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])), 1)
    middle = (x[:, 0] + 16) / 116
    v = torch.stack((middle + x[:, 1] / 500, middle, middle - x[:, 2] / 200), 1)
    return torch.where(v > 0.206896, v**3, (116 * v - 16) / 903.3) * white
