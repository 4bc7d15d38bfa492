"""How long each layer of a compiled net takes, measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from . import rows
from .codegen import fills_itself
from .errors import NetError
from .graph import Array

if TYPE_CHECKING:
    from .module import CompiledNet

RUNS = 5
LEAST, LONG = 6, 0.3  # runs of what shows a ceiling, and seconds


def synthetic_feeds(net: CompiledNet, seed: int = 0) -> dict[str, Array]:
    """Something for each input: noise of a picture's size, zeros for labels."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for node in net.graph.nodes:
        for value in node.tops if node.layer.is_input and not fills_itself(node.layer) else ():
            if net.is_label(value):
                feeds[value.blob] = np.zeros(value.shape, np.float32)
            else:
                feeds[value.blob] = np.asarray(60 * rng.standard_normal(value.shape, np.float32), np.float32)
    return feeds


def layer_times(net: CompiledNet, feeds: Mapping[str, Any] | None = None, runs: int = RUNS) -> dict[str, float]:
    """The seconds of each layer's forward, by its name: the median of some runs of the net, after one that warms up.

    Layers of one name count together. Inputs take no time. On CUDA each layer is waited for, so that the sum is more than a
    run of the net takes.
    feeds: the inputs by blob name; `synthetic_feeds` unless given.  runs: how many are measured.
    Raises: NetError for an optimised net, whose layers are no longer Caffe's.
    """
    if net.optimized:
        raise NetError("the layers of an optimised net are not those of the file", hint="compile with optimize=False")
    seconds: dict[str, list[float]] = {}
    for node, taken in zip(net.graph.nodes, node_times(net, feeds, runs), strict=True):
        if taken:
            before = seconds.setdefault(node.name, [0.0] * runs)
            seconds[node.name] = [a + b for a, b in zip(before, taken, strict=True)]
    return {name: median(taken) for name, taken in seconds.items()}


@rows.unwritten()
def node_times(net: CompiledNet, feeds: Mapping[str, Any] | None = None, runs: int = RUNS) -> list[list[float]]:
    """For each node of the net's graph, the seconds that its module took in each of some runs; none for inputs.

    After one run that warms up. feeds: the inputs by blob name; `synthetic_feeds` unless given.
    """
    import torch

    given = placed(net, feeds)
    seconds: list[list[float]] = [[] for _ in net.graph.nodes]
    started = 0.0

    def before(*_: Any) -> None:
        nonlocal started
        started = _now(net)

    def behind(place: int) -> Any:
        def hook(*_: Any) -> None:
            seconds[place].append(_now(net) - started)

        return hook

    hooks = []
    for place, (node, attribute) in enumerate(zip(net.graph.nodes, net.attributes, strict=True)):
        if not node.layer.is_input or fills_itself(node.layer):
            module = net.get_submodule(attribute)
            hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(behind(place))]
    try:
        with torch.inference_mode(), net.afresh():
            for _ in range(_positive(runs) + 1):
                net.forward(**given)
    finally:
        for hook in hooks:
            hook.remove()
    return [taken[1:] for taken in seconds]


@rows.unwritten()
def net_times(
    net: CompiledNet, feeds: Mapping[str, Any] | None = None, runs: int = RUNS, backward: bool = False
) -> list[float]:
    """The seconds of some runs of the whole net, after one that warms up; of an optimised net three, as its second run makes
    one program of it.

    backward: forward and backward, from the net's loss, or from the sum of all outputs where it has none.
    """
    import torch

    given = placed(net, feeds)
    taken = []
    warm = 3 if net.optimized else 1
    with torch.inference_mode(not backward), net.afresh():
        for _ in range(_positive(runs) + warm):
            start = _now(net)
            outputs = net.forward(**given)
            if backward:
                net.zero_grad(set_to_none=True)
                weighted = any(any(n.loss_weights) for n in net.graph.nodes)
                loss = net.loss(outputs) if weighted else torch.stack([y.sum() for y in outputs.values()]).sum()
                with net.precision():
                    loss.backward()  # type: ignore[no-untyped-call]
            taken.append(_now(net) - start)
    return taken[warm:]


def placed(net: CompiledNet, feeds: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The inputs as tensors on the net's device, so that their way there is not measured."""
    import torch

    return {name: torch.as_tensor(x).to(net.device) for name, x in (feeds or synthetic_feeds(net)).items()}


def _now(net: CompiledNet) -> float:
    """The time at which the device has done all that it was told."""
    if net.device.type == "cuda":
        import torch

        torch.cuda.synchronize(net.device)
    return time.perf_counter()


def _positive(runs: int) -> int:
    if runs < 1:
        raise NetError("too few runs to measure", expected="at least 1", got=runs)
    return runs


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a device reaches at best, measured on the spot. operations and bytes: per second."""

    operations: float
    bytes: float

    def seconds(self, operations: float, moved: float) -> float:
        """The least time for that many operations and bytes: a roofline, after Williams et al. 2009."""
        return max(operations / self.operations, moved / self.bytes)


def ceilings(net: CompiledNet) -> Ceilings:
    """The device's ceilings in the net's type: of a large matrix product, and of copying memory beyond all caches."""
    import torch

    small = net.device.type == "cpu"
    side, size = (1024, 1 << 26) if small else (8192, 1 << 30)
    a, b = (torch.randn(side, side, device=net.device).to(net.dtype) for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=net.device)
    target = torch.zeros_like(source)

    def best(work: Any) -> float:
        """The least seconds of one run. A busy machine has quiet moments, so many are made."""
        taken: list[float] = []
        begun = _now(net)
        while len(taken) < LEAST or _now(net) - begun < LONG:
            start = _now(net)
            work()
            taken.append(_now(net) - start)
        return min(taken)

    ways: list[Any] = [lambda: torch.mm(a, b)]
    if hasattr(net, "report"):  # quantised
        from .kernels import int8

        ways = [int8.product(side)]
    elif small and net.dtype == torch.float32 and torch._C._has_mkldnn:
        ops: Any = torch.ops.mkldnn  # what runs convolutions; torch.mm is MKL's, half as fast on some processors
        packed = ops._reorder_linear_weight(b, side)
        ways.append(lambda: ops._linear_pointwise(a, packed, None, "none", [], ""))
    product, copy = min(map(best, ways)), best(lambda: target.copy_(source))
    return Ceilings(2 * side**3 / product, 2 * size / copy)
