"""Local."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shape, Shapes
from ..text import Msg
from ..windows import Window, Windows
from .base import BlobSpec, Layer, exactly, layer, not_empty, window_words

if TYPE_CHECKING:
    from torch import Tensor


@layer("Local")
@dataclass(frozen=True, slots=True)
class Local(Layer):
    """Convolution with filters of its own at each place.

    bottom: N x C x H x W      top: N x num_output x H' x W'
    H' = floor((H + 2 pad - kernel_size) / stride) + 1; W' likewise.
    blobs: weight num_output x 1 x C kernel_size^2 x H'W';  bias 1 x 1 x num_output x H'W' (none when bias_term is false).
    MACs: N H' W' num_output C kernel_size^2; bias not counted.
    Source: happynear/caffe-windows, src/caffe/layers/local_layer.cpp.
    """

    category = "convolution"
    counted = True

    num_output: int
    kernel_size: int
    stride: int = 1
    pad: int = 0
    bias_term: bool = True
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.local_param
        for name in ("num_output", "kernel_size", "stride"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
        fillers = Filler.read(p.weight_filler), Filler.read(p.bias_filler)
        return cls(p.num_output, p.kernel_size, p.stride, p.pad, p.bias_term, *fillers)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        not_empty(bottoms)
        image = bottoms[0][2:]
        if min(image) < self.kernel_size:
            expected = f"at most {min(image)}, the image's smaller side"
            raise NetError(
                "the kernel is larger than the image", at="kernel_size", expected=expected, got=self.kernel_size
            )
        return ((bottoms[0][0], self.num_output, *self.sizes(image)),)

    def sizes(self, image: Shape) -> Shape:
        """H' and W'."""
        return tuple((size + 2 * self.pad - self.kernel_size) // self.stride + 1 for size in image)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        inputs, places = bottoms[0][1] * self.kernel_size**2, prod(self.sizes(bottoms[0][2:]))
        specs = {"weight": BlobSpec((self.num_output, 1, inputs, places), self.weight_filler)}
        if self.bias_term:
            specs["bias"] = BlobSpec((1, 1, self.num_output, places), self.bias_filler)
        return specs

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0]) * bottoms[0][1] * self.kernel_size**2

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return (Window.sliding(self.kernel_size, self.stride, self.pad),) * 2

    def brief(self) -> str:
        kernel, stride, pad = ((side,) * 2 for side in (self.kernel_size, self.stride, self.pad))
        return ", ".join([*window_words(kernel, stride, pad), str(self.num_output)])

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        x = bottoms[0]
        patches = F.unfold(x, self.kernel_size, padding=self.pad, stride=self.stride)
        y = torch.einsum("nkp,okp->nop", patches, m.weight.squeeze(1))
        if self.bias_term:
            y = y + m.bias.squeeze(0)
        return y.reshape(len(x), self.num_output, *self.sizes(tuple(x.shape[2:])))


@layer("LOCAL")
@dataclass(frozen=True, slots=True)
class LocalV1(Local):
    """Local, as nets of the V1 form name it.

    bottom, top, blobs, MACs: see Local
    Source: RiweiChen/DeepFace; OAID/Caffe-HRT, src/caffe/proto/caffe.proto.
    """
