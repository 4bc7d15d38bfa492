"""A search among kernels by measuring them, whose findings are kept on disk for the next time."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from .. import __version__, rows
from ..errors import NetError, NetWarning
from ..files import atomic
from ..graph import Graph, Node
from . import onednn
from .onednn import PackedConvolution

Progress = Callable[[str, int, int], None]
ROUNDS, SECONDS = (5, 40), 0.3  # fewest and most measured runs of each candidate, and for how long in between
GAIN = 0.98  # another choice than the usual one must take less than this share of its time


@dataclass(frozen=True, slots=True)
class Choices:
    """What holds for a net as a whole.

    program: it may run as one program.  siblings: 1 x 1 convolutions over one blob are merged.
    """

    program: bool = True
    siblings: bool = False


USUAL = Choices()
ALL = (USUAL, Choices(siblings=True), Choices(program=False), Choices(program=False, siblings=True))


class Findings:
    """What was found on this machine, by what was measured: name of the choice, and seconds of each. One JSON file.

    A file that cannot be read counts as empty; one that cannot be written is told in a NetWarning.
    """

    def __init__(self, dtype: torch.dtype, path: Path | None = None) -> None:
        self.path = path or folder() / "tuning.json"
        self.told: set[str] = set()
        self.machine = machine(dtype)
        found = self._read().get(self.machine)
        self.here: dict[str, Any] = found if isinstance(found, dict) else {}

    def get(self, what: str, among: Sequence[str]) -> str | None:
        """What was chosen among these candidates; None where it was never measured, or others were."""
        found = self.here.get(what)
        if not isinstance(found, dict):
            return None
        seconds = found.get("seconds")
        if not isinstance(seconds, dict) or set(seconds) != set(among):
            return None
        chosen = found.get("choice")
        return chosen if chosen in among else None

    def add(self, what: str, choice: str, seconds: Mapping[str, float]) -> None:
        """Keep a finding, on disk at once: a search may be broken off."""
        self.here[what] = {"choice": choice, "seconds": dict(seconds)}
        others = self._read()  # another process may have found something meanwhile
        kept = others.get(self.machine)
        every = others | {self.machine: (kept if isinstance(kept, dict) else {}) | self.here}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(self.path) as file:
                file.write(json.dumps(every, indent=1, sort_keys=True).encode())
        except (OSError, NetError) as e:
            self._tell(f"what was found is not kept: {e}")

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_bytes())
            if isinstance(found, dict):
                return found
            problem = "it holds no object"
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as e:
            problem = str(e)
        self._tell(f"findings of earlier searches are left out: {problem}")
        return {}

    def _tell(self, problem: str) -> None:
        """Warn of what is wrong with the file, once: it is read and written with each finding."""
        if problem not in self.told:
            self.told.add(problem)
            warnings.warn(NetWarning(f"{self.path}: {problem}"), stacklevel=3)


def folder() -> Path:
    """Where findings are kept: NETCOMPILER_CACHE, or the user's own folder for such things."""
    own = os.environ.get("NETCOMPILER_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(own) if own else Path(base) / "netcompiler"


def machine(dtype: torch.dtype) -> str:
    """What a finding holds for."""
    name = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    kind = str(dtype).removeprefix("torch.")
    level = torch.backends.cpu.get_cpu_capability()
    versions = f"torch {torch.__version__}, netcompiler {__version__}"
    return f"{name} {level}, {torch.get_num_threads()} threads, {versions}, {kind}"


@rows.unwritten()
def tuned(build: Callable[[Choices], Any], progress: Progress | None = None, path: Path | None = None) -> Any:
    """The fastest of the nets that `build` makes, with the fastest kernel for each of its convolutions.

    What was measured on this machine before is not measured again. A search that is broken off (Ctrl-C) leaves the usual
    choice wherever it did not come to.
    """
    usual = build(USUAL)
    if not usual.optimized or usual.device.type != "cpu":
        return usual
    findings = Findings(usual.dtype, path)
    net = usual
    try:
        net = _best_whole(usual, build, findings, progress)
        _best_kernels(net, findings, progress)
    except KeyboardInterrupt:
        warnings.warn(NetWarning("the search was broken off: what it did not come to runs as usual"), stacklevel=2)
    return net


def _best_whole(usual: Any, build: Callable[[Choices], Any], findings: Findings, progress: Progress | None) -> Any:
    what = "net " + _digest(usual.source)
    among = {json.dumps([c.program, c.siblings]): c for c in ALL}
    nets = {next(iter(among)): usual}
    known = findings.get(what, list(among))
    if known is None:
        same: dict[str, str] = {}  # where there are no siblings, what merging them comes to
        for i, (name, choices) in enumerate(among.items()):
            if progress:
                progress("tuning: the net", i, len(among))
            if name not in nets:
                net = build(choices)
                if choices.siblings and str(net.graph) == str(usual.graph):
                    same[name] = next(other for other, c in among.items() if c == replace(choices, siblings=False))
                else:
                    nets[name] = net
        feeds = _feeds(usual)
        with ExitStack() as stack:
            for net in nets.values():
                stack.enter_context(net.afresh())
            seconds = compare({name: _runner(net, feeds) for name, net in nets.items()}, warm=3)
        seconds |= {name: seconds[other] for name, other in same.items()}
        known = fastest(seconds)
        findings.add(what, known, seconds)
    return nets[known] if known in nets else build(among[known])


def _best_kernels(net: Any, findings: Findings, progress: Progress | None) -> None:
    """Where layers run one by one, choose for each kind of convolution in it. (A program chooses for itself.)"""
    nodes = [
        (node, getattr(net, attribute))
        for node, attribute in zip(net.graph.nodes, net.attributes, strict=True)
        if isinstance(getattr(net, attribute), PackedConvolution) and len(onednn.kernels(node)) > 1
    ]
    for i, (node, module) in enumerate(nodes):
        if progress:
            progress("tuning: convolutions", i + 1, len(nodes))
        what, among = _signature(node), onednn.kernels(node)
        known = findings.get(what, among)
        if known is None:
            known = _measured_kernel(node, module, findings, what)
        module.kernel = known


def _measured_kernel(node: Node, module: PackedConvolution, findings: Findings, what: str) -> str:
    x = torch.randn(node.bottoms[0].shape).to(module.weight.dtype).contiguous(memory_format=torch.channels_last)
    kinds: dict[str, Callable[[], Any]] = {}
    for name in onednn.kernels(node):
        twin = _twin(module)
        twin.kernel = name
        kinds[name] = partial(twin, x)
    seconds = compare(kinds)
    known = fastest(seconds)
    findings.add(what, known, seconds)
    return known


def _twin(module: PackedConvolution) -> PackedConvolution:
    """A module with the same weights, and its own order of them."""
    twin = object.__new__(type(module))
    twin.__dict__.update(module.__getstate__())
    return twin


def compare(candidates: Mapping[str, Callable[[], Any]], warm: int = 2) -> dict[str, float]:
    """The median seconds of each, measured in turn, after some runs that warm up."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    begun = time.perf_counter()
    with torch.inference_mode():
        for i in range(warm + ROUNDS[1]):
            if i == warm:
                begun = time.perf_counter()
            if i >= warm + ROUNDS[0] and time.perf_counter() - begun > SECONDS * len(candidates):
                break
            for name, run in candidates.items():
                start = time.perf_counter()
                run()
                if i >= warm:
                    taken[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in taken.items()}


def fastest(seconds: Mapping[str, float]) -> str:
    """The first candidate, unless another one is clearly faster."""
    first, best = next(iter(seconds)), min(seconds, key=lambda name: seconds[name])
    return best if seconds[best] < GAIN * seconds[first] else first


def _runner(net: Any, feeds: Mapping[str, Tensor]) -> Callable[[], Any]:
    return lambda: net.forward(**feeds)


def _feeds(net: Any) -> dict[str, Tensor]:
    """Something for each input of a net: noise, and zeros for labels."""
    noise = torch.Generator().manual_seed(0)
    values = net.graph.inputs()
    return {
        v.blob: torch.zeros(v.shape) if net.is_label(v) else 60 * torch.randn(v.shape, generator=noise) for v in values
    }


def _digest(graph: Graph) -> str:
    """A name for a graph with these shapes; weights do not matter."""
    return hashlib.sha256(str(graph).encode()).hexdigest()[:32]


def _signature(node: Node) -> str:
    """What a convolution's speed depends on."""
    settings = " ".join(f"{k}={v}" for k, v in node.layer.settings().items())
    return f"{node.layer.kind} {'x'.join(map(str, node.bottoms[0].shape))} {settings}"
