"""Convolutions and inner products on the CPU in 8-bit integers: activations u8, weights s8 by channel, sums in 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..graph import Node, Shape
from ..layers.concat import Concat
from ..layers.convolution import Convolution
from ..layers.flatten import Flatten
from ..layers.inner_product import InnerProduct
from ..layers.pooling import Pooling
from .onednn import windows_see

FLOAT = 4  # bytes
LEVELS = 255  # what u8 can tell apart, less one
MOST_SUM = (1 << 31) - 1
OPERATORS = ("qconv_prepack", "qconv2d_pointwise", "qlinear_prepack", "qlinear_pointwise")


@dataclass(frozen=True, slots=True)
class Format:
    """How a tensor of numbers stands in u8: x = scale (q - zero)."""

    scale: float
    zero: int = 0

    @classmethod
    def over(cls, low: float, high: float) -> Format:
        """The format for numbers from low to high, in which 0 is exact. What lies outside is cut off.

        >>> Format.over(0.0, 51.0), Format.over(-51.0, 204.0)
        (Format(scale=0.2, zero=0), Format(scale=1.0, zero=51))
        """
        low, high = min(low, 0.0), max(high, 0.0)
        if high == low:
            return cls(1.0)
        scale = (high - low) / LEVELS
        return cls(scale, round(-low / scale))

    def quantized(self, x: Tensor) -> Tensor:
        """u8, rounded as the kernels do: once the zero is added, and to even between two. NaN becomes what 0 is."""
        q = x.float() * (1 / self.scale)
        if self.zero:
            q += self.zero
        return q.round_().nan_to_num_(self.zero).clamp_(0, LEVELS).to(torch.uint8)

    def restored(self, q: Tensor) -> Tensor:
        """float32."""
        x = q.float()
        if self.zero:
            x -= self.zero
        return x.mul_(self.scale)


def weight_levels() -> int:
    """The largest weight: 127, or 63 where a processor without VNNI adds two products in 16 bits, which 127 would exceed."""
    has_vnni = getattr(torch.cpu, "_is_vnni_supported", None)
    return 127 if has_vnni is not None and has_vnni() else 63


def available() -> bool:
    """Whether this PyTorch has the operators."""
    return all(hasattr(torch.ops.onednn, name) for name in OPERATORS)


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights in s8, a row for each output, w = scale q; in Caffe's order, outputs first."""

    q: Tensor
    scale: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, levels: int) -> Weights:
        """Each row's largest weight becomes `levels`."""
        rows = weight.detach().flatten(1).double()
        largest = rows.abs().amax(1)
        scale = torch.where(largest > 0, largest / levels, 1.0).float()
        q = (rows / scale.double()[:, None]).round().clamp(-levels, levels).to(torch.int8).view(weight.shape)
        given = torch.zeros(len(q)) if bias is None else bias.detach().float().clone()
        return cls(q, scale, given)

    def restored(self) -> Tensor:
        """The weights as they count, float32."""
        return self.q.float() * self.scale.view(-1, *(1,) * (self.q.dim() - 1))

    def largest_sum(self) -> int:
        """The most that any output can add up to, whatever u8 it is given."""
        return LEVELS * int(self.q.flatten(1).long().abs().sum(1).max())


def refusal(node: Node, weight: Tensor | None = None) -> str | None:
    """Why a node cannot run in int8; None where it can. weight: its weights, for what depends on them."""
    layer = node.layer
    if isinstance(layer, Convolution):
        if layer.axis != 1 or len(layer.kernel) != 2:
            return f"{len(layer.kernel)} spatial axes from axis {layer.axis + 1} on: the kernel is for images"
        if len(node.tops) != 1:
            return "several tops"
    elif type(layer) is not InnerProduct or layer.normalize or layer.ones():
        return "no such kernel"
    elif layer.axis < 1:
        return "it runs over the batch"
    if weight is not None:
        if not bool(torch.isfinite(weight).all()):
            return "weights that are no finite numbers"
        rows = weight.t() if isinstance(layer, InnerProduct) and layer.transpose else weight
        if Weights.of(rows, None, weight_levels()).largest_sum() > MOST_SUM:
            return "its sums could go beyond 32 bits"
    return None


def moves(node: Node) -> bool:
    """Whether a node only moves or compares numbers, so that it does to u8 what it does to floating point."""
    layer = node.layer
    if isinstance(layer, Pooling):
        return layer.pool == "MAX" and not layer.mask
    return isinstance(layer, Concat | Flatten) and len(node.tops) == 1


class Int8Module(nn.Module):
    """A node of which some bottoms or tops are u8.

    reads: the format of each bottom that this module wants, or may be given, in u8; writes: of its top, None for float32.
    """

    layer: Any
    may_overwrite = False  # the bottom that a sum adds
    bytes_each = 1  # of a number, roughly

    def __init__(self, layer: Any, reads: Sequence[Format | None], writes: Format | None) -> None:
        super().__init__()
        self.layer, self.reads, self.writes = layer, tuple(reads), writes

    def packed_in(self, x: Tensor, i: int) -> Tensor:
        """Bottom i in u8."""
        format = self.reads[i]
        return x if format is None or x.dtype == torch.uint8 else format.quantized(x)

    def plain_in(self, x: Tensor, i: int) -> Tensor:
        """Bottom i in float32."""
        format = self.reads[i]
        return x if format is None or x.dtype != torch.uint8 else format.restored(x)

    def out(self, y: Tensor) -> Tensor:
        """The top as it is wanted."""
        return y if self.writes is None or y.dtype == torch.uint8 else self.writes.quantized(y)

    def beside(self, node: Node, packed: Sequence[bool]) -> int:
        """How many bytes it holds beside its bottoms and its top while it runs, at most. packed: which bottoms are u8."""
        held = 0
        for value, is_packed, format in zip(node.bottoms, packed, self.reads, strict=True):
            if format is not None:  # a copy in another order, or in u8 with what comes before that in float32
                held += prod(value.shape) * (1 if is_packed else 1 + FLOAT)
        return held

    def _get_name(self) -> str:
        kind: str = self.layer.kind
        return kind

    def extra_repr(self) -> str:
        sides = [("u8" if f else "float32") for f in (*self.reads, self.writes)]
        return ", ".join(
            [*(f"{k}={v}" for k, v in self.layer.settings().items()), f"{'+'.join(sides[:-1])} -> {sides[-1]}"]
        )


class Around(Int8Module):
    """A layer that runs in float32, between tensors in u8."""

    bytes_each = 4

    def __init__(self, inner: nn.Module, layer: Any, reads: Sequence[Format | None], writes: Format | None) -> None:
        super().__init__(layer, reads, writes)
        self.inner = inner

    def forward(self, *bottoms: Tensor) -> Any:
        tops = self.inner(*(self.plain_in(x, i) for i, x in enumerate(bottoms)))
        return self.out(tops) if isinstance(tops, Tensor) else tops

    def beside(self, node: Node, packed: Sequence[bool]) -> int:
        restored = sum(prod(v.shape) for v, is_packed in zip(node.bottoms, packed, strict=True) if is_packed)
        # The layer is taken to need its tops again; MAX pooling, its places of 8 bytes. Then the top in float32, twice.
        return FLOAT * restored + sum(prod(v.shape) for v in node.tops) * (8 + 2 * FLOAT)


class Int8Move(Int8Module):
    """MAX Pooling, Concat and Flatten, in u8: all bottoms and the top have one format."""

    def forward(self, *bottoms: Tensor) -> Tensor:
        given = [self.packed_in(x, i) for i, x in enumerate(bottoms)]
        layer = self.layer
        if not isinstance(layer, Pooling):
            tops = layer.forward(self, *given)
            top: Tensor = tops[0] if isinstance(tops, tuple) else tops
            return top
        x = given[0]
        if layer.global_pooling:
            return x.flatten(2).amax(2)[:, :, None, None]
        if layer.as_torch(tuple(x.shape[2:])) and x.numel():
            x = x.contiguous(memory_format=torch.channels_last)
            ceil = layer.round_mode == "CEIL"
            sides = list(layer.kernel), list(layer.stride), list(layer.pad)
            pooled: Tensor = torch.ops.quantized.max_pool2d(x, *sides, list(layer.dilation), ceil)
            return pooled
        y: Tensor = layer.largest(self.plain_in(x, 0))
        return self.out(y)


class Weighing(Int8Module):
    """What Int8Convolution and Int8InnerProduct share: weights in s8, laid out for oneDNN when first used."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, layer: Any, reads: Sequence[Format | None], writes: Format | None, weights: Weights) -> None:
        super().__init__(layer, reads, writes)
        self.register_buffer("weight", weights.q)
        self.register_buffer("scale", weights.scale)
        self.register_buffer("bias", weights.bias)
        self.register_buffer("no_zeros", torch.zeros(len(weights.q), dtype=torch.int64), persistent=False)
        assert self.reads[0] is not None
        self.format: Format = self.reads[0]
        self.packed: dict[Any, Any] = {}

    def bias_for(self, zero: int) -> Tensor:
        """The bias that makes up for what `zero` in place of 0 adds to each sum."""
        if not zero:
            return self.bias
        per_zero = self.weight.flatten(1).double().sum(1) * self.scale.double() * self.format.scale
        return (self.bias.double() - zero * per_zero).float()

    def beside(self, node: Node, packed: Sequence[bool]) -> int:
        held = super().beside(node, packed)
        if isinstance(self.layer, Convolution) and (self.layer.summed or self.layer.negative_slope):
            each = FLOAT if self.writes is None else 1  # what is added, written over
            held += prod(node.tops[0].shape) * (4 * FLOAT if self.layer.negative_slope else each)
        return held

    def as_weights(self) -> Tensor:
        """The weights as they count, float32."""
        return Weights(self.weight, self.scale, self.bias).restored()

    def target(self) -> tuple[float, int, torch.dtype]:
        """Scale, zero and type of what the kernel writes."""
        return (1.0, 0, torch.float32) if self.writes is None else (self.writes.scale, self.writes.zero, torch.uint8)

    def slowly(self, *bottoms: Tensor) -> Tensor:
        """The same numbers through floating point: for shapes that no kernel takes, and where a graph is traced."""
        x, *others = bottoms
        whole = [self.format.restored(self.packed_in(x, 0)), *(self.plain_in(y, 1) for y in others)]
        tops = self.layer.forward(_Blobs(self.as_weights(), self.bias), *whole)
        return self.out(tops[0] if isinstance(tops, tuple) else tops)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.packed = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"packed": {}}


@dataclass(frozen=True, slots=True)
class _Blobs:
    """What a layer's own forward takes for its module."""

    weight: Tensor
    bias: Tensor


class Int8Convolution(Weighing):
    """A Convolution of u8, with sum and ReLU in the same walk over memory. A sum adds in the top's own type."""

    layer: Convolution

    def __init__(
        self, layer: Convolution, reads: Sequence[Format | None], writes: Format | None, weights: Weights
    ) -> None:
        if not layer.bias_term:
            layer = _with_bias(layer)
        super().__init__(layer, reads, writes, weights)
        self.geometry = (list(layer.stride), list(layer.pad), list(layer.dilation), layer.group)
        self.padded = any(layer.pad)
        self.fitting: tuple[Shape, bool] = ((), False)  # the last size of images, and whether the kernel takes it

    def forward(self, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        if torch.compiler.is_compiling() or not self.fits(x):
            return self.slowly(*bottoms)
        q = self.packed_in(x, 0).contiguous(memory_format=torch.channels_last)
        weight, bias, zero = self.kernel(q)
        layer, ops = self.layer, torch.ops.onednn
        scale, offset, kind = self.target()
        given = (q, self.format.scale, zero, weight, self.scale, self.no_zeros)
        y: Tensor
        if layer.negative_slope:  # no such post-op
            y = ops.qconv2d_pointwise(*given, bias, *self.geometry, 1.0, 0, torch.float32, "none", [], "")
            y = y + self.plain_in(bottoms[1], 1) if layer.summed else y
            return self.out(F.leaky_relu_(y, layer.negative_slope))
        cut = "relu" if layer.relu else "none"
        if not layer.summed:
            y = ops.qconv2d_pointwise(*given, bias, *self.geometry, scale, offset, kind, cut, [], "")
            return y
        other, theirs = self.added(bottoms[1])
        y = ops.qconv2d_pointwise.binary(
            *given, other, bias, *self.geometry, scale, offset, kind, theirs.scale, theirs.zero, "sum", 1.0, cut, [], ""
        )
        return y

    def added(self, y: Tensor) -> tuple[Tensor, Format]:
        """The bottom that the sum adds, in memory that the kernel may write over, in the top's type."""
        format = self.reads[1]
        if self.writes is None:
            x, format = self.plain_in(y, 1), Format(1.0)
        else:
            assert format is not None
            x = self.packed_in(y, 1)
        own = x is not y
        laid = x.contiguous(memory_format=torch.channels_last)
        own = own or laid is not x
        return laid if own or self.may_overwrite else laid.clone(), format

    def fits(self, x: Tensor) -> bool:
        """Whether the kernel takes images of this size: no window goes beyond the padding, and none lies in it alone.

        Of those that do oneDNN (in PyTorch 2.13) makes anything where 0 is not 0 in u8, and groups have one channel; and it may
        look for them outside of all memory.
        """
        size = tuple(x.shape[2:])
        known, fits = self.fitting
        if known != size:
            layer = self.layer
            sides = list(zip(size, layer.kernel, layer.stride, layer.pad, layer.dilation, strict=True))
            fits = all(s + 2 * p > d * (k - 1) for s, k, _, p, d in sides)
            fits = fits and (not self.padded or all(windows_see(*side) for side in sides))
            self.fitting = size, fits
        return fits and x.numel() > 0

    def kernel(self, q: Tensor) -> tuple[Tensor, Tensor, int]:
        """Weights in oneDNN's order, the bias, and what stands for 0: without padding the bias sees to that."""
        found = self.packed.get(None)
        if found is None:
            zero = self.format.zero if self.padded else 0
            stride, pad, dilation, group = self.geometry
            scale = self.format.scale
            packed = torch.ops.onednn.qconv_prepack(
                self.weight, self.scale, scale, zero, stride, pad, dilation, group, list(q.shape)
            )
            found = self.packed[None] = packed, self.bias_for(self.format.zero - zero), zero
        return found


class Int8InnerProduct(Weighing):
    """An InnerProduct of u8. Images are read in the order in which they lie, channels last, by weights put in that order."""

    layer: InnerProduct

    def __init__(
        self, layer: InnerProduct, reads: Sequence[Format | None], writes: Format | None, weights: Weights
    ) -> None:
        super().__init__(_with_bias(layer), reads, writes, weights)

    def forward(self, *bottoms: Tensor) -> Tensor:
        x = bottoms[0]
        if torch.compiler.is_compiling() or not x.numel():
            return self.slowly(x)
        q = self.packed_in(x, 0)
        axis = self.layer.axis
        image: Shape | None = None
        if axis == 1 and q.dim() == 4 and q.is_contiguous(memory_format=torch.channels_last):
            image = tuple(q.shape[1:])
            q = q.permute(0, 2, 3, 1)
        batch = q.shape[:axis]
        flat = q.flatten(axis).reshape(-1, self.weight.shape[1])
        weight, bias = self.kernel(flat, image)
        scale, offset, kind = self.target()
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            flat, self.format.scale, 0, weight, self.scale, self.no_zeros, bias, scale, offset, kind, "none", [], ""
        )
        return y if axis == 1 else y.reshape(*batch, -1)

    def kernel(self, flat: Tensor, image: Shape | None) -> tuple[Tensor, Tensor]:
        """Weights in oneDNN's order, for images of this shape that lie with the channels last, and the bias."""
        found = self.packed.get(image)
        if found is None:
            weight = self.weight
            if image:
                weight = weight.view(-1, *image).permute(0, 2, 3, 1).reshape(weight.shape)
            packed = torch.ops.onednn.qlinear_prepack(weight.contiguous(), list(flat.shape))
            found = packed, self.bias_for(self.format.zero)
            self.packed = {image: found}  # one at a time: they are large
        return found


def _with_bias(layer: Any) -> Any:
    """The layer with a bias, and with its outputs first: as the weights are held here."""
    from dataclasses import replace

    return replace(layer, bias_term=True, **({"transpose": False} if isinstance(layer, InnerProduct) else {}))


def module(
    node: Node, reads: Sequence[Format | None], writes: Format | None, weights: Weights
) -> Int8Convolution | Int8InnerProduct:
    """The module that runs a node in int8."""
    kind: Any = Int8InnerProduct if isinstance(node.layer, InnerProduct) else Int8Convolution
    made: Int8Convolution | Int8InnerProduct = kind(node.layer, reads, writes, weights)
    return made


def product(side: int) -> Callable[[], Tensor]:
    """A product of matrices that large, in int8: what a processor reaches at best."""
    x = torch.randint(0, LEVELS + 1, (side, side), dtype=torch.uint8)
    weight = torch.randint(-63, 64, (side, side), dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, [side, side])
    scale, zeros = torch.ones(side), torch.zeros(side, dtype=torch.int64)
    given: Any = (x, 1.0, 0, packed, scale, zeros, None, 1000.0, 128, torch.uint8, "none", [], "")
    return lambda: torch.ops.onednn.qlinear_pointwise(*given)
