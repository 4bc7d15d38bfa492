"""Caffe's update rules as torch.optim.Optimizer classes, for the solver and for loops of one's own.

All of them, in Caffe's order: the gradients of all groups are scaled down together where their L2 norm is above
clip_gradients, divided by iter_size, and weight decay is added (L2: decay w; L1: decay sign(w)); then the rule makes an
update u of each, and w <- w - u. The rate of a group is lr lr_mult, its decay weight_decay decay_mult.
A parameter without a gradient counts as one of gradient 0, as in Caffe: momentum and decay still move it. One with
lr_mult 0 stays as it is, and what a rule would keep of it is kept only where decay makes it other than 0.

Source: Caffe, src/caffe/solvers/sgd_solver.cpp and the solvers beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..errors import NetError
from .settings import Settings

Tensors = list[Tensor]


class CaffeOptimizer(Optimizer):
    """What the rules share. Groups may set lr, lr_mult, weight_decay, decay_mult and what their rule looks at.

    clip_gradients: the greatest L2 norm of all gradients together; below 0: any.  iter_size: how many batches' gradients
    were summed up.  regularization_type: L2 or L1.  All tensors of a group are on one device.
    """

    kept: ClassVar[tuple[str, ...]] = ("history",)  # what the rule keeps of each parameter, in a snapshot's order
    adaptive: ClassVar[bool] = True  # whether it keeps something also where the rate is 0
    updates: dict[Tensor, Tensor] | None = None  # where it is a dict, what was last taken off each parameter

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        weight_decay: float = 0.0,
        clip_gradients: float = -1.0,
        iter_size: int = 1,
        regularization_type: str = "L2",
        **own: float,
    ) -> None:
        if regularization_type not in ("L1", "L2"):
            raise NetError("no such regularization_type", expected="L1 or L2", got=regularization_type)
        if iter_size < 1:
            raise NetError("iter_size is out of range", expected="at least 1", got=iter_size)
        common = {"lr": lr, "lr_mult": 1.0, "weight_decay": weight_decay, "decay_mult": 1.0, "iteration": 0}
        self.clip_gradients, self.iter_size, self.regularization_type = clip_gradients, iter_size, regularization_type
        super().__init__(params, {**common, **own})

    def update(self, group: dict[str, Any], grads: Tensors, rate: float, kept: Sequence[Tensors]) -> Tensors:
        """The updates that these gradients make, by the rule; `kept` is changed. The gradients may be written over."""
        raise NotImplementedError(type(self))

    def fused(self, group: dict[str, Any], params: Tensors, scale: float, decay: float, rate: float) -> bool:
        """Do all of it in one pass over memory, if the rule can; else False."""
        return False

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters by their gradients, which may be written over."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scale = self._clipping() / self.iter_size
        for group in self.param_groups:
            rate, decay = group["lr"] * group["lr_mult"], group["weight_decay"] * group["decay_mult"]
            learns = bool(group["lr_mult"])
            idle = not learns and not (self.adaptive and decay)
            params = [p for p in group["params"] if not idle or self.state.get(p)]
            for part in self._parts(params):
                if learns and self.fused(group, part, scale, decay, rate):
                    updates = self._kept(part)[0]
                else:
                    updates = self.update(group, self._gradients(part, scale, decay), rate, self._kept(part))
                    if learns or not self.adaptive:
                        torch._foreach_sub_(part, updates)
                if self.updates is not None and learns:
                    self.updates.update((p, u.clone()) for p, u in zip(part, updates, strict=True))
            group["iteration"] += 1
        return loss

    @staticmethod
    def _parts(params: Tensors) -> list[Tensors]:
        """Parameters that are updated together: on the CPU one by one, while they are in its cache."""
        return [[p] for p in params] if params and params[0].device.type == "cpu" else [params] if params else []

    def _clipping(self) -> float:
        """What all gradients are multiplied by, so that their norm is clip_gradients at most."""
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if self.clip_gradients < 0 or not grads:
            return 1.0
        norms = torch.stack([n.to(grads[0].device) for n in torch._foreach_norm(grads)])
        norm = float(torch.linalg.vector_norm(norms.double()))
        return self.clip_gradients / norm if norm > self.clip_gradients else 1.0

    def _gradients(self, params: Tensors, scale: float, decay: float) -> Tensors:
        """The gradients, scaled and with the weight decay."""
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        if scale != 1:
            torch._foreach_mul_(grads, scale)
        if decay:
            torch._foreach_add_(grads, params if self.regularization_type == "L2" else _signs(params), alpha=decay)
        return grads

    def _kept(self, params: Tensors) -> list[Tensors]:
        """What the rule keeps of these parameters; zeros at first."""
        for p in params:
            if not self.state.get(p):
                self.state[p].update((name, torch.zeros_like(p)) for name in self.kept)
        return [[self.state[p][name] for p in params] for name in self.kept]

    def history(self, params: Iterable[Tensor]) -> Tensors:
        """What is kept of the parameters, as Caffe's snapshots list it; zeros where there is nothing."""
        params = list(params)
        return [self.state.get(p, {}).get(name, torch.zeros_like(p)) for name in self.kept for p in params]

    @torch.no_grad()
    def load_history(self, params: Iterable[Tensor], history: Sequence[Tensor], iteration: int) -> None:
        """Take what `history` gave, at this iteration; of frozen parameters only what is other than 0."""
        params = list(params)
        frozen = {id(p) for group in self.param_groups for p in group["params"] if not group["lr_mult"]}
        for i, p in enumerate(params):
            held = dict(zip(self.kept, history[i :: len(params)], strict=True))
            self.state.pop(p, None)
            if id(p) not in frozen or any(bool(t.any()) for t in held.values()):
                self.state[p] = {name: torch.empty_like(p).copy_(t) for name, t in held.items()}
        for group in self.param_groups:
            group["iteration"] = iteration


def _signs(params: Tensors) -> Tensors:
    return list(torch._foreach_sign(params))


class SGD(CaffeOptimizer):
    """h <- momentum h + rate g;  u = h. The rate is inside h, unlike in torch.optim.SGD: a change of rate acts slowly."""

    adaptive = False

    def __init__(self, params: Iterable[Any], *, lr: float, momentum: float = 0.0, **common: Any) -> None:
        super().__init__(params, lr=lr, momentum=momentum, **common)

    def fused(self, group: dict[str, Any], params: Tensors, scale: float, decay: float, rate: float) -> bool:
        """PyTorch's own fused rule at lr 1, on gradients divided by 1 / rate: that puts the rate inside h."""
        grads = [p.grad for p in params if p.grad is not None]
        factor = rate * scale
        plain = self.regularization_type == "L2" and 1e-30 < factor < 1e30 and bool(group["momentum"])
        if not plain or len(grads) < len(params) or any(p.dtype != torch.float32 for p in params):
            return False
        (h,) = self._kept(params)
        torch._fused_sgd_(
            params,
            grads,
            h,
            weight_decay=decay * rate,
            momentum=group["momentum"],
            lr=1.0,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            grad_scale=torch.full((), 1 / factor, dtype=torch.float32, device=params[0].device),
        )
        return True

    def update(self, group: dict[str, Any], grads: Tensors, rate: float, kept: Sequence[Tensors]) -> Tensors:
        (h,) = kept
        torch._foreach_mul_(h, group["momentum"])
        torch._foreach_add_(h, grads, alpha=rate)
        return h


class Nesterov(CaffeOptimizer):
    """h' <- momentum h + rate g;  u = (1 + momentum) h' - momentum h."""

    adaptive = False

    def __init__(self, params: Iterable[Any], *, lr: float, momentum: float = 0.0, **common: Any) -> None:
        super().__init__(params, lr=lr, momentum=momentum, **common)

    def update(self, group: dict[str, Any], grads: Tensors, rate: float, kept: Sequence[Tensors]) -> Tensors:
        (h,) = kept
        momentum = group["momentum"]
        u = list(torch._foreach_mul(h, -momentum))
        torch._foreach_mul_(h, momentum)
        torch._foreach_add_(h, grads, alpha=rate)
        torch._foreach_add_(u, h, alpha=1 + momentum)
        return u


class AdaGrad(CaffeOptimizer):
    """h <- h + g^2;  u = rate g / (sqrt(h) + delta)."""

    def __init__(self, params: Iterable[Any], *, lr: float, delta: float = 1e-8, **common: Any) -> None:
        super().__init__(params, lr=lr, delta=delta, **common)

    def update(self, group: dict[str, Any], grads: Tensors, rate: float, kept: Sequence[Tensors]) -> Tensors:
        (h,) = kept
        torch._foreach_addcmul_(h, grads, grads)
        return _divided(grads, h, group["delta"], rate)


class RMSProp(CaffeOptimizer):
    """h <- rms_decay h + (1 - rms_decay) g^2;  u = rate g / (sqrt(h) + delta)."""

    def __init__(
        self, params: Iterable[Any], *, lr: float, rms_decay: float = 0.99, delta: float = 1e-8, **common: Any
    ) -> None:
        super().__init__(params, lr=lr, rms_decay=rms_decay, delta=delta, **common)

    def update(self, group: dict[str, Any], grads: Tensors, rate: float, kept: Sequence[Tensors]) -> Tensors:
        (h,) = kept
        _average(h, grads, group["rms_decay"])
        return _divided(grads, h, group["delta"], rate)


class AdaDelta(CaffeOptimizer):
    """h <- momentum h + (1 - momentum) g^2;  v = g sqrt((k + delta) / (h + delta));  u = rate v;
    k <- momentum k + (1 - momentum) v^2. Source: also Zeiler 2012, Algorithm 1."""

    kept = ("history", "updates")

    def __init__(
        self, params: Iterable[Any], *, lr: float = 1.0, momentum: float = 0.95, delta: float = 1e-6, **common: Any
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, delta=delta, **common)

    def update(self, group: dict[str, Any], grads: Tensors, rate: float, kept: Sequence[Tensors]) -> Tensors:
        h, k = kept
        momentum, delta = group["momentum"], group["delta"]
        _average(h, grads, momentum)
        v = list(torch._foreach_add(k, delta))
        torch._foreach_div_(v, torch._foreach_add(h, delta))
        torch._foreach_sqrt_(v)
        torch._foreach_mul_(v, grads)
        _average(k, v, momentum)
        torch._foreach_mul_(v, rate)
        return v


class Adam(CaffeOptimizer):
    """m <- momentum m + (1 - momentum) g;  v <- momentum2 v + (1 - momentum2) g^2;
    u = rate sqrt(1 - momentum2^t) / (1 - momentum^t) m / (sqrt(v) + delta), t from 1 on: delta is not corrected for t.
    Source: also Kingma & Ba 2015, section 2, last paragraph."""

    kept = ("mean", "square")

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        momentum2: float = 0.999,
        delta: float = 1e-8,
        **common: Any,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, momentum2=momentum2, delta=delta, **common)

    def update(self, group: dict[str, Any], grads: Tensors, rate: float, kept: Sequence[Tensors]) -> Tensors:
        m, v = kept
        beta1, beta2, t = group["momentum"], group["momentum2"], group["iteration"] + 1
        torch._foreach_mul_(m, beta1)
        torch._foreach_add_(m, grads, alpha=1 - beta1)
        _average(v, grads, beta2)
        return _divided(m, v, group["delta"], rate * sqrt(1 - beta2**t) / (1 - beta1**t))


def _average(h: Tensors, values: Tensors, share: float) -> None:
    """h <- share h + (1 - share) values^2."""
    torch._foreach_mul_(h, share)
    torch._foreach_addcmul_(h, values, values, 1 - share)


def _divided(values: Tensors, squares: Tensors, delta: float, rate: float) -> Tensors:
    """rate values / (sqrt(squares) + delta)."""
    below = list(torch._foreach_sqrt(squares))
    torch._foreach_add_(below, delta)
    u = list(torch._foreach_div(values, below))
    torch._foreach_mul_(u, rate)
    return u


RULES: dict[str, tuple[type[CaffeOptimizer], tuple[str, ...]]] = {  # and the settings that each takes of its own
    "SGD": (SGD, ("momentum",)),
    "Nesterov": (Nesterov, ("momentum",)),
    "AdaGrad": (AdaGrad, ("delta",)),
    "RMSProp": (RMSProp, ("rms_decay", "delta")),
    "AdaDelta": (AdaDelta, ("momentum", "delta")),
    "Adam": (Adam, ("momentum", "momentum2", "delta")),
}


def optimizer(settings: Settings, params: Iterable[Any]) -> CaffeOptimizer:
    """The rule of a solver's settings, over parameters or groups of them."""
    rule, own = RULES[settings.type]
    given = {name: getattr(settings, name) for name in own}
    return rule(
        params,
        lr=settings.base_lr,
        weight_decay=settings.weight_decay,
        clip_gradients=settings.clip_gradients,
        iter_size=settings.iter_size,
        regularization_type=settings.regularization_type,
        **given,
    )
