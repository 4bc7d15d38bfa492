"""BN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Array, Shape, Shapes
from ..text import Msg
from .base import BlobSpec, Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor

# The fields that only one of the three forms has; the dialects that mean one where no such field is set.
FIELDS = {
    "segnet": ("bn_mode",),
    "pspnet": ("slope_filler", "bias_filler", "momentum", "eps", "frozen", "engine"),
    "ctpn": ("var_eps", "moving_average", "decay", "axis"),
}
DIALECTS = {"pspnet": "pspnet", "mini-caffe": "pspnet", "ctpn": "ctpn", "happynear": "ctpn"}
SEGNET_EPS = 1e-9
MOST_AXES = 4
WITH_STATISTICS, WITHOUT = 4, 2  # how many blobs the forms have


@layer("BN")
@dataclass(frozen=True, slots=True)
class BN(Layer):
    """y = (x - mean) / sqrt(variance + eps) weight + bias, with a mean and a variance for each channel.

    bottom[0]: N x C x H x W (N x C at least)      top[0]: the same
    Three forks give the name three meanings; the form is told by the fields that only one has, else by four params (two
    forms have four blobs), else by the dialect, else it is SegNet's.
    segnet (SegNet, ENet, DeconvNet): bn_mode LEARN takes the batch's statistics, also in TEST, with an eps of 1e-9;
        INFERENCE is x weight + bias alone.  top[1], top[2], if named: the batch's mean and variance, 1 x C x 1 x 1, without
        gradient (0 for INFERENCE).
    pspnet (PSPNet, TSN): in TRAIN the batch's statistics, which change the stored ones to momentum old + (1 - momentum)
        batch's, the variance being the biased one; in TEST the stored ones. frozen: the stored ones always, and weight
        and bias take no gradient.
    ctpn (CTPN, happynear): the batch's statistics, and in TEST the stored ones where moving_average is set; in TRAIN the
        stored ones become (1 - decay) old + decay batch's. axis: that of the channels, 1 or 2.
    Quirk: of stored statistics that are not frozen, the gradient is that of the batch's, (g - mean(g) - y' mean(g y')) /
    sqrt(variance + eps) with y' the normalised x.
    blobs: weight, bias; but for segnet's also mean, variance, not learned; each 1 x C x 1 x 1.
    MACs: N C H W.
    Source: alexgkendall/caffe-segnet, hszhao/PSPNet, happynear/caffe-windows: src/caffe/layers/bn_layer.cpp.
    """

    category = "normalisation"
    n_top = (1, 3)

    form: str = "segnet"
    eps: float = SEGNET_EPS
    inference: bool = False  # segnet
    frozen: bool = False  # pspnet
    stored: bool = False  # whether the stored statistics are used
    momentum: float | None = None  # of the stored statistics; None: they do not change
    axis: int = 1
    outputs: int = 1
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p, test = msg.bn_param, msg.enum("phase") == "TEST"
        form = _form(msg)
        if form != "segnet" and len(msg.top) > 1:
            raise NetError(f"{form}'s BN has one top", at=msg.at("top", 1), expected=1, got=len(msg.top))
        scaled, shifted = ("slope", "bias") if form == "pspnet" else ("scale", "shift")
        for name in {"scale_filler", "shift_filler", "slope_filler", "bias_filler"} - {
            f"{scaled}_filler",
            f"{shifted}_filler",
        }:
            if p.has(name):
                what = f"{form}'s BN has no {name}"
                raise NetError(what, at=p.at(name), expected=f"{scaled}_filler and {shifted}_filler")
        fillers = Filler.read(getattr(p, f"{scaled}_filler")), Filler.read(getattr(p, f"{shifted}_filler"))
        if form == "segnet":
            inference = p.enum("bn_mode") == "INFERENCE"
            return cls(
                form, SEGNET_EPS, inference, outputs=len(msg.top), weight_filler=fillers[0], bias_filler=fillers[1]
            )
        frozen = form == "pspnet" and p.frozen
        for i, param in enumerate(msg.param):  # the layer overwrites what is written there
            if frozen or i > 1:
                param.lr_mult = param.decay_mult = 0.0
        axis = 1
        if form == "pspnet":
            stored, eps, momentum = frozen or test, p.eps, p.momentum
        else:
            stored, eps, momentum = test and p.moving_average, p.var_eps, 1 - p.decay
            axis = int(p.axis)
            if axis not in (1, 2) or len(bottoms[0]) <= axis:
                got = f"{axis}, and the bottom has {len(bottoms[0])} axes"
                raise NetError("axis is out of range", at=p.at("axis"), expected="1 or 2", got=got)
        return cls(form, eps, False, frozen, stored, None if stored or test else momentum, axis, 1, *fillers)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        if len(bottoms[0]) > MOST_AXES:
            raise NetError("the bottom has too many axes", expected=f"at most {MOST_AXES}", got=len(bottoms[0]))
        return (bottoms[0], *(self.shape(bottoms[0]),) * (self.outputs - 1))

    def shape(self, bottom: Shape) -> Shape:
        """The shape of a blob: 1 but along the channels."""
        return tuple(bottom[self.axis] if i == self.axis else 1 for i in range(MOST_AXES))

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        shape = self.shape(bottoms[0])
        specs = {"weight": BlobSpec(shape, self.weight_filler), "bias": BlobSpec(shape, self.bias_filler)}
        if self.form != "segnet":
            specs["mean"] = BlobSpec(shape, learned=False)
            specs["variance"] = BlobSpec(shape, Filler(value=float(self.frozen)), learned=False)
        return specs

    def adopted(self, arrays: Sequence[Array]) -> Sequence[Array]:
        side = [1] * MOST_AXES
        return [a.reshape([*side[: self.axis], -1, *side[self.axis + 1 :]]) for a in arrays]

    def misfit_hint(self, count: int) -> str | None:
        if self.form == "segnet" and count == WITH_STATISTICS:
            return (
                "the file's BN has a mean and a variance, as PSPNet's and CTPN's: tell it by --dialect pspnet or ctpn"
            )
        if self.form != "segnet" and count == WITHOUT:
            return "the file's BN has a scale and a shift alone, as SegNet's: tell it by --dialect segnet"
        return None

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        return prod(tops[0])

    def brief(self) -> str:
        if self.inference:
            return "scale and shift"
        return "" if self.stored else "of the batch"

    def settings(self) -> dict[str, str]:
        """Without what the phase decides."""
        return {k: v for k, v in Layer.settings(self).items() if k not in ("stored", "momentum", "outputs")}

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        x = bottoms[0].to(exact)
        side = m.weight.shape[: x.dim()]
        weight, bias = (b.to(exact).reshape(side) for b in (m.weight, m.bias))
        mean = variance = torch.zeros_like(weight)
        if self.inference:
            y = x
        elif self.stored:
            mean, variance = (b.to(exact).reshape(side) for b in (m.mean, m.variance))
            if self.frozen:
                weight, bias = weight.detach(), bias.detach()
                y = (x - mean) * (variance + self.eps).rsqrt()
            else:
                y = _as_of_batch(x, mean, (variance + self.eps).rsqrt(), self.axis)
        else:
            others = [i for i in range(x.dim()) if i != self.axis]
            mean = x.mean(others, keepdim=True)
            centred = x - mean
            variance = centred.square().mean(others, keepdim=True)
            y = centred * (variance + self.eps).rsqrt()
            if self.momentum is not None and not m.again:
                with torch.no_grad():
                    for held, new in ((m.mean, mean), (m.variance, variance)):
                        held.mul_(self.momentum).add_((1 - self.momentum) * new.reshape(held.shape))
        y = (y * weight + bias).to(bottoms[0].dtype)
        statistics = (mean, variance)[: self.outputs - 1]
        shown = (s.detach().to(y.dtype).reshape(m.weight.shape) for s in statistics)
        return (y, *shown) if self.outputs > 1 else y


def _form(msg: Msg) -> str:
    """Which of the three forms a layer means. Raises: NetError where it has fields of two."""
    p = msg.bn_param
    told = {form: [n for n in names if p.has(n)] for form, names in FIELDS.items()}
    forms = [form for form, names in told.items() if names]
    if len(forms) > 1:
        a, b = forms[:2]
        what = f"{told[a][0]} is of {a}'s BN, and {told[b][0]} of {b}'s"
        raise NetError(what, at=p.at(told[b][0]), hint="keep the fields of one of the two")
    if forms:
        return forms[0]
    many = len(msg.param) > WITHOUT
    scaled = p.has("scale_filler") or p.has("shift_filler")
    dialect = DIALECTS.get(msg.dialect, "segnet")
    if scaled:
        return "ctpn" if many or dialect == "ctpn" else "segnet"
    return "pspnet" if many and dialect == "segnet" else dialect


def _as_of_batch(x: Tensor, mean: Tensor, scale: Tensor, axis: int) -> Tensor:
    """(x - mean) scale, with the gradient of a batch's own statistics."""
    import torch

    class Normalised(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
            y = (x - mean) * scale
            ctx.save_for_backward(y, scale)
            return y

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            (g,), (y, scale) = grads, ctx.saved_tensors
            others = [i for i in range(g.dim()) if i != axis]
            along, level = ((g * f).mean(others, keepdim=True) for f in (y, 1))
            return (g - level - y * along) * scale, None, None

    if not (torch.is_grad_enabled() and x.requires_grad) or torch.compiler.is_compiling():
        return (x - mean) * scale
    top: Tensor = Normalised.apply(x, mean, scale)  # type: ignore[no-untyped-call]
    return top
