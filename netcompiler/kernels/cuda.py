"""What optimised nets run on CUDA: cuDNN's convolutions with sum and ReLU in one, and parts of nets as CUDA graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .onednn import PackedConvolution

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CUDNN: bool = torch.backends.cudnn.is_available()  # type: ignore[no-untyped-call]
HALF = (torch.bfloat16, torch.float16)
GRAPH_BYTES = 1 << 30  # of activations, from which on a graph, which keeps them, would save nothing worth that
WARM = 2  # runs before a graph is recorded: libraries choose their kernels in the first ones


@contextmanager
def precision(tf32: bool) -> Iterator[None]:
    """In this block float32 is multiplied as float32, or with `tf32` as TensorFloat-32, whatever PyTorch is set to.

    PyTorch's own setting lets cuDNN's convolutions round to 10 bits of fraction. It holds for the whole process.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(cudnn, "conv"):  # from PyTorch 2.9 on
        settings: list[tuple[Any, str, Any]] = [
            (b, "fp32_precision", "tf32" if tf32 else "ieee") for b in (cudnn.conv, matmul)
        ]
    else:
        settings = [(b, "allow_tf32", tf32) for b in (cudnn, matmul)]
    before = [getattr(holder, name) for holder, name, _ in settings]
    try:
        for holder, name, value in settings:
            setattr(holder, name, value)
        yield
    finally:
        for (holder, name, _), value in zip(settings, before, strict=True):
            setattr(holder, name, value)


def takes(module: PackedConvolution, x: Any) -> bool:
    """Whether cuDNN runs a convolution over these images, N x C x H x W."""
    weight = module.weight
    if type(x) is not Tensor or x.device.type != "cuda" or x.device != weight.device or x.dim() != 4 or not x.numel():
        return False
    if x.dtype != weight.dtype or x.dtype not in DTYPES or not CUDNN:
        return False
    return not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))


def convolution(module: PackedConvolution, x: Tensor, other: Tensor | None) -> Tensor:
    """The convolution of x, with `other` added, cut off at 0: as its layer says.

    In half precision the channels are last in memory, as tensor cores want them.
    """
    layer = module.layer
    order = torch.channels_last if x.dtype in HALF else torch.contiguous_format
    x, weight = x.contiguous(memory_format=order), module.ordered(order)
    bias = module.bias if layer.bias_term else None
    sides = (layer.stride, layer.pad, layer.dilation, layer.group)
    if layer.relu and not layer.negative_slope and module.fused:
        try:
            if other is None:
                return torch.cudnn_convolution_relu(x, weight, bias, *sides)
            return torch.cudnn_convolution_add_relu(x, weight, other.contiguous(memory_format=order), 1.0, bias, *sides)
        except RuntimeError:  # cuDNN has no such kernel for this shape and type; it says so before it starts
            module.fused = False
    y = F.conv2d(x, weight, bias, *sides)
    if other is not None:
        y = y.add_(other)
    if layer.relu:
        y = F.leaky_relu_(y, layer.negative_slope) if layer.negative_slope else y.relu_()
    return y


class Recorded:
    """A function of tensors on CUDA as a CUDA graph: one launch in place of one for each kernel. For one shape of each input.

    It keeps its inputs and activations; what it returns is the caller's. Threads run it one after the other.
    """

    def __init__(self, run: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> None:
        self.inputs = [x.clone() for x in inputs]
        self.holds: list[Tensor] = []  # what else its kernels read
        self.device = inputs[0].device
        self.lock = threading.Lock()
        here, aside = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                run(*self.inputs)
        here.wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.tops = tuple(run(*self.inputs))
        self.done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.done.record(here)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        with self.lock:
            here = torch.cuda.current_stream(self.device)
            here.wait_event(self.done)  # what another thread's stream may be about to read
            for mine, x in zip(self.inputs, inputs, strict=True):
                mine.copy_(x)
            self.graph.replay()
            tops = tuple(y.clone() for y in self.tops)
            self.done.record(here)
        return tops
