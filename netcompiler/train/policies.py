"""How the learning rate follows the iteration: Caffe's policies, as functions and as PyTorch's LRSchedulers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, floor, inf
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .settings import Settings


def rate(settings: Settings, iteration: int) -> float:
    """The learning rate of an iteration, counted from 0. Source: Caffe, src/caffe/solvers/sgd_solver.cpp."""
    return settings.base_lr * share(settings, iteration)


def share(s: Settings, t: int) -> float:
    """What base_lr is multiplied by at iteration t. Behind max_iter, where Caffe has no number, poly stays at 0."""
    if s.lr_policy in ("step", "multistep"):
        return _power(s.gamma, steps(s, t))
    if s.lr_policy == "exp":
        return _power(s.gamma, t)
    if s.lr_policy == "inv":
        return _power(1 + s.gamma * t, -s.power)
    if s.lr_policy == "poly":
        return _power(max(1 - t / s.max_iter, 0.0), s.power)
    if s.lr_policy == "sigmoid":
        return _sigmoid(s.gamma * (t - s.stepsize))
    return 1.0


def steps(s: Settings, t: int) -> int:
    """How many steps, or stepvalues, are passed at iteration t: `current_step` of a snapshot; 0 for other policies."""
    if t < 0 or s.lr_policy not in ("step", "multistep"):
        return 0
    return t // s.stepsize if s.lr_policy == "step" else _passed(s.stepvalue, t)


def _passed(stepvalues: Sequence[int], t: int) -> int:
    """Caffe's quirk: it looks at the next stepvalue only, and passes one in an iteration at most."""
    count, reached = 0, -1
    for value in stepvalues:
        reached = max(value, reached + 1)
        count += reached <= t
    return count


def _power(base: float, exponent: float) -> float:
    try:
        return float(base**exponent)
    except (OverflowError, ZeroDivisionError):
        return inf


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x)) if x > -700 else 0.0


class Policy(LRScheduler):
    """A scheduler that is stepped once after each iteration, and multiplies each group's first lr by `share(t)`."""

    def __init__(self, optimizer: Optimizer, share: Callable[[int], float], last_epoch: int = -1) -> None:
        self.share = share
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """The rates of the iteration that comes next."""
        return [base * self.share(self.last_epoch) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Without the function, which the constructor gives again."""
        return {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "share")}


class Fixed(Policy):
    """lr."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        super().__init__(optimizer, lambda t: 1.0, last_epoch)


class Step(Policy):
    """lr gamma ^ floor(t / stepsize)."""

    def __init__(self, optimizer: Optimizer, stepsize: int, gamma: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, lambda t: _power(gamma, floor(t / stepsize)), last_epoch)


class Exp(Policy):
    """lr gamma ^ t."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, lambda t: _power(gamma, t), last_epoch)


class Inv(Policy):
    """lr (1 + gamma t) ^ -power."""

    def __init__(self, optimizer: Optimizer, gamma: float, power: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, lambda t: _power(1 + gamma * t, -power), last_epoch)


class MultiStep(Policy):
    """lr gamma ^ (number of stepvalues reached)."""

    def __init__(self, optimizer: Optimizer, stepvalues: Sequence[int], gamma: float, last_epoch: int = -1) -> None:
        values = tuple(stepvalues)
        super().__init__(optimizer, lambda t: _power(gamma, _passed(values, t)), last_epoch)


class Poly(Policy):
    """lr (1 - t / max_iter) ^ power; 0 from max_iter on."""

    def __init__(self, optimizer: Optimizer, max_iter: int, power: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, lambda t: _power(max(1 - t / max_iter, 0.0), power), last_epoch)


class Sigmoid(Policy):
    """lr / (1 + exp(-gamma (t - stepsize)))."""

    def __init__(self, optimizer: Optimizer, gamma: float, stepsize: int, last_epoch: int = -1) -> None:
        super().__init__(optimizer, lambda t: _sigmoid(gamma * (t - stepsize)), last_epoch)
