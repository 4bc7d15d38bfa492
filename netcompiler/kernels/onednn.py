"""Convolutions and products on the CPU through oneDNN: with sum and ReLU in the same walk over memory, and packed weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..graph import Node, Shape
from ..layer_module import LayerModule
from ..layers.convolution import Convolution
from ..layers.inner_product import InnerProduct
from . import cuda

DTYPES = (torch.float32, torch.bfloat16)
HERE: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def takes(node: Node) -> bool:
    """Whether a node can run here, on tensors on the CPU: a Convolution over images, with one bottom (and one to add)."""
    layer = node.layer
    return (
        HERE and isinstance(layer, Convolution) and layer.axis == 1 and len(layer.kernel) == 2 and len(node.tops) == 1
    )


def kernels(node: Node) -> tuple[str, ...]:
    """The ways in which a node that is taken can run; the first, unless --tune finds another one faster.

    A 1 x 1 convolution is a product of matrices, too; but that cannot add another blob and cut off at 0 in the same walk.
    """
    layer = node.layer
    assert isinstance(layer, Convolution)
    whole = all(k == s == 1 for k, s in zip(layer.kernel, layer.stride, strict=True)) and not any(layer.pad)
    return ("convolution", "product") if whole and layer.group == 1 and not layer.summed else ("convolution",)


def windows_see(size: int, kernel: int, stride: int, pad: int, dilation: int) -> bool:
    """Whether each window along an axis has a pixel of the image in it.

    >>> windows_see(5, 3, 1, 2, 1), windows_see(5, 3, 1, 3, 1), windows_see(1, 2, 1, 1, 2)
    (True, False, False)
    """
    starts = range(-pad, size + pad - dilation * (kernel - 1), stride)
    edges = {*starts[: -(-pad // stride)], starts[-1]}  # what starts inside the image sees that pixel
    return all(any(0 <= start + tap * dilation < size for tap in range(kernel)) for start in edges)


def fits(layer: Convolution, size: Shape) -> bool:
    """Whether images are no smaller than a kernel, and no window lies in the padding alone.

    With the channels last oneDNN (in PyTorch 2.13) may look for those outside of all memory.
    """
    sides = list(zip(size, layer.kernel, layer.stride, layer.pad, layer.dilation, strict=True))
    whole = all(s + 2 * p > d * (k - 1) for s, k, _, p, d in sides)
    return whole and (not any(layer.pad) or all(windows_see(*side) for side in sides))


class PackedConvolution(LayerModule):
    """A Convolution that keeps its weights in oneDNN's own order beside Caffe's, once it has run.

    Tensors go through it with the channels last in memory. Where oneDNN cannot run (another device or type, a gradient that is
    asked for, torch.export), the layer's own forward does. Weights changed through `.data`, behind torch's back, are not seen.

    On CUDA cuDNN runs it.

    kernel: which of `kernels` runs it on the CPU.  fused: whether cuDNN is asked for the ReLU as well.
    """

    layer: Convolution

    def __init__(self, node: Node, *arguments: Any) -> None:
        super().__init__(node, *arguments)
        layer = self.layer
        self.kernel = kernels(node)[0]
        self.geometry = (list(layer.pad), list(layer.stride), list(layer.dilation), layer.group)
        slope = layer.negative_slope
        self.cut = ("leaky_relu", [slope], "") if slope else ("relu" if layer.relu else "none", [], "")
        self.add_and_cut: tuple[Any, ...] = ("add", 1.0, "relu" if layer.relu and not slope else None, [], None)
        self.fused = True
        self.packed: tuple[tuple[int, int, str], Tensor] | None = None  # of which weights, and for what; and these
        self.fitting: tuple[tuple[int, ...], bool] = ((), False)  # the last size of images, and whether oneDNN takes it

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = bottoms[0]
        if torch.compiler.is_compiling() or torch._C._is_tracing():
            return super().forward(*bottoms)
        if cuda.takes(self, x) and self.fits(x):
            return cuda.convolution(self, x, bottoms[1] if self.layer.summed else None)
        if not self.can_run(x):
            return super().forward(*(b.contiguous() for b in bottoms))
        x = x.contiguous(memory_format=torch.channels_last)
        weight = self.weights(x)
        bias = self.bias if self.layer.bias_term else None
        ops: Any = torch.ops.mkldnn
        y: Tensor
        if self.kernel == "product":
            n, c, h, w = x.shape
            y = ops._linear_pointwise(x.permute(0, 2, 3, 1).reshape(-1, c), weight, bias, *self.cut)
            return y.view(n, h, w, -1).permute(0, 3, 1, 2)
        if not self.layer.summed:
            y = ops._convolution_pointwise(x, weight, bias, *self.geometry, *self.cut)
            return y
        other = bottoms[1]
        over = self.overwrites and other.is_contiguous(memory_format=torch.channels_last)
        if self.layer.group > 1 and not over:  # of groups torch fuses this form alone, and the other fails in bfloat16
            other, over = other.clone(memory_format=torch.channels_last), True
        if over:
            y = ops._convolution_pointwise_.binary(other, x, weight, bias, *self.geometry, *self.add_and_cut)
        else:
            other = other.contiguous(memory_format=torch.channels_last)
            y = ops._convolution_pointwise.binary(x, other, weight, bias, *self.geometry, *self.add_and_cut)
        slope = self.layer.negative_slope
        return F.leaky_relu_(y, slope) if slope else y

    def can_run(self, x: Tensor) -> bool:
        weight = self.weight
        if type(x) is not Tensor or x.device.type != "cpu" or x.dtype != weight.dtype or x.dim() != 4:
            return False
        if weight.dtype not in DTYPES:
            return False
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            return False
        return self.fits(x) and x.numel() > 0

    def fits(self, x: Tensor) -> bool:
        """Whether oneDNN may be given these images; see the function."""
        size = tuple(x.shape[2:])
        known, found = self.fitting
        if known != size:
            found = fits(self.layer, size)
            self.fitting = size, found
        return found

    def weights(self, x: Tensor) -> Tensor:
        """The weights in oneDNN's order, made anew where Caffe's were changed."""

        def pack(weight: Tensor) -> Tensor:
            ops: Any = torch.ops.mkldnn
            packed: Tensor
            if self.kernel == "product":
                matrix = weight.flatten(1).contiguous()
                packed = ops._reorder_linear_weight(matrix, x.numel() // max(x.shape[1], 1))
            else:
                packed = ops._reorder_convolution_weight(weight, *self.geometry, list(x.shape))
            return packed

        return self.kept(self.kernel, pack)

    def ordered(self, order: torch.memory_format) -> Tensor:
        """The weights in an order of the axes in memory."""
        return self.kept(str(order), lambda weight: weight.contiguous(memory_format=order))

    def kept(self, how: str, pack: Callable[[Tensor], Tensor]) -> Tensor:
        """What `pack` makes of the weights, until they change."""
        weight = self.weight
        state = (weight.data_ptr(), 0 if weight.is_inference() else weight._version, how)
        packed = self.packed  # one look, since other threads may change it
        if packed is None or packed[0] != state:
            packed = self.packed = state, pack(weight.detach())
        return packed[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"packed": None}


class Product(LayerModule):
    """An InnerProduct in float32, for inference: PyTorch leaves it to MKL, which is slow on processors that are not Intel's."""

    layer: InnerProduct

    @staticmethod
    def takes(node: Node) -> bool:
        """Whether a node can run here."""
        layer = node.layer
        return HERE and isinstance(layer, InnerProduct) and not (layer.transpose or layer.normalize or layer.ones())

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        x, weight = bottoms[0], self.weight
        if torch.compiler.is_compiling() or torch._C._is_tracing() or type(x) is not Tensor or not x.numel():
            return super().forward(*bottoms)
        if x.device.type != "cpu" or {x.dtype, weight.dtype} != {torch.float32}:
            return super().forward(*bottoms)
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            return super().forward(*bottoms)
        ops: Any = torch.ops.mkldnn
        rows = x.reshape(-1, weight.shape[1])
        y: Tensor = ops._linear_pointwise(rows, weight, self.bias if self.layer.bias_term else None, "none", [], "")
        return y.view(*x.shape[: self.layer.axis], -1)
