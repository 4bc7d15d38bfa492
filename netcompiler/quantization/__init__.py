"""Post-training quantisation: a compiled net -> the same net in int8, calibrated on inputs like those that it is to see."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import rows
from ..errors import NetError
from ..graph import Graph, Node, Value

if TYPE_CHECKING:
    from torch import Tensor

    from ..kernels.int8 import Format, Weights
    from ..module import CompiledNet
    from .net import QuantizedNet
    from .ranges import Range
    from .report import LayerReport

Feeds = dict[str, Any]
Progress = Callable[[str, int, int], None]  # what, done, of how many

AUTO = "auto"
TRIALS = 8  # batches that ways to choose ranges are tried on


@rows.unwritten()
def quantize(
    net: CompiledNet,
    calibration: Iterable[Any],
    *,
    max_error: float | None = None,
    method: str = AUTO,
    progress: Progress | None = None,
) -> QuantizedNet:
    """The net with its convolutions and inner products in int8: weights s8 for each channel, activations u8.

    net: as `compile` gives it, on the CPU in float32; it stays as it is.
    calibration: batches like those that the net is to see: arrays or tensors for its first input, or {input: array}. A
    quarter of them is held back, to measure what quantising cost.
    max_error: how far any output may be from the float32 net's on what was held back, as a share of its largest value. Layers
    go back to float32, those that do most to the outputs first, until that is kept; then those that do no harm come back,
    the largest first.
    method: how ranges are chosen: minmax, percentile, mse, or auto: that one of them that costs least.
    progress: called with (what, done, of how many).
    Raises: NetError for a net or inputs that cannot be used, and where no layer can run in int8 within max_error.
    """
    import torch

    from .net import QuantizedNet
    from .ranges import METHODS

    if method not in (AUTO, *METHODS):
        raise NetError("unknown method", expected=", ".join((AUTO, *METHODS)), got=method)
    if max_error is not None and not max_error >= 0:
        raise NetError("a bound is not negative", at="max_error", got=max_error)
    _check(net)
    batches = _batches(net, calibration)
    fit, held, apart = _parts(net, batches)
    with torch.no_grad():
        work = _Work(QuantizedNet(net.with_weights()), fit, held if apart else [], progress or _silent)
        return work.run((method,) if method != AUTO else METHODS, max_error)


def _silent(what: str, done: int, total: int) -> None:
    pass


def _check(net: Any) -> None:
    """Raises: NetError for a net that cannot be quantised."""
    import torch

    from ..kernels import int8
    from ..module import CompiledNet

    if not isinstance(net, CompiledNet):
        raise NetError("no net to quantize", expected="what netcompiler.compile gives", got=type(net).__name__)
    if net.source.phase != "TEST":
        raise NetError("only a TEST net can be quantised", at=net.source.name, got=f"phase {net.source.phase}")
    if net.device.type != "cpu" or net.dtype != torch.float32:
        got = f"{net.device}, {str(net.dtype).removeprefix('torch.')}"
        raise NetError("int8 is for nets on the CPU, made from float32", at=net.source.name, got=got)
    if not int8.available():
        raise NetError("this PyTorch has no int8 kernels", got=torch.__version__, hint="use torch 2.6 or later")


def _batches(net: CompiledNet, calibration: Any) -> list[Feeds]:
    """The calibration inputs by name. Raises: NetError where there are none, or of the wrong kind."""
    hint = "give arrays like those that the net is to see, a few hundred images at best"
    if isinstance(calibration, str | bytes | os.PathLike) or calibration is None:
        raise NetError(
            "no calibration inputs", expected="arrays, or {input: array}", got=f"{calibration!r:.60}", hint=hint
        )
    inputs = net.graph.inputs()
    if not inputs:
        raise NetError("a net without inputs cannot be calibrated", at=net.graph.name)
    one = isinstance(calibration, Mapping) or hasattr(calibration, "shape")
    found: list[Feeds] = []
    for batch in (calibration,) if one else calibration:
        found.append(dict(batch) if isinstance(batch, Mapping) else {inputs[0].blob: batch})
    if not found:
        raise NetError("no calibration inputs", expected="at least 1", got=0, hint=hint)
    return found


def _parts(net: CompiledNet, batches: list[Feeds]) -> tuple[list[Feeds], list[Feeds], bool]:
    """Those to calibrate with, those to measure with, and whether they are others."""
    if len(batches) == 1:
        batches = _halves(net, batches[0])
    if len(batches) == 1:
        return batches, batches, False
    held = batches[3::4] or batches[-1:]
    kept = [b for b in batches if not any(b is other for other in held)]
    return kept, held, True


def _halves(net: CompiledNet, batch: Feeds) -> list[Feeds]:
    """One batch in two, where its inputs agree on how many items there are and the net takes fewer."""
    import numpy as np

    from ..builder import reshape

    shapes = {name: tuple(np.shape(x)) for name, x in batch.items()}
    counts = {shape[0] for shape in shapes.values() if shape}
    if len(counts) != 1 or not all(shapes.values()) or counts < {2}:
        return [batch]
    (count,) = counts
    first = count - max(count // 4, 1)
    if first < 1:
        return [batch]
    try:
        for part in (first, count - first):
            reshape(net.graph, {name: (part, *shape[1:]) for name, shape in shapes.items()})
    except NetError:
        return [batch]
    return [{name: x[:first] for name, x in batch.items()}, {name: x[first:] for name, x in batch.items()}]


@dataclass(slots=True)
class _Off:
    """How far outputs are from others, over batches."""

    largest: dict[str, list[float]] = field(default_factory=dict)  # of the difference, of the value
    squares: dict[str, list[float]] = field(default_factory=dict)
    same: int = 0
    ranked: int = 0
    items: int = 0

    def add(self, got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
        scored = False
        for name, right in want.items():
            x = got[name]
            if x.shape != right.shape:  # of detections, say
                self.largest[name] = self.squares[name] = [float("inf"), 1.0]
            if x.shape != right.shape or not right.numel():
                continue
            exact, off = right.double(), x.double() - right.double()
            for sums, pair in (
                (self.largest, (off.abs().max(), exact.abs().max())),
                (self.squares, (off.square().sum(), exact.square().sum())),
            ):
                old = sums.setdefault(name, [0.0, 0.0])
                new = [float(v) for v in pair]
                sums[name] = [max(a, b) if sums is self.largest else a + b for a, b in zip(old, new, strict=True)]
            if any(v != v for v in self.squares[name]):  # NaN, which max() may lose
                self.largest[name][0] = float("nan")
            if (
                not scored
                and right.dim() >= 2
                and right.shape[1] >= 2
                and right.numel() == right.shape[0] * right.shape[1]
            ):
                scored = True
                classes = [t.reshape(t.shape[:2]).argmax(1) for t in (x, right)]
                self.same += int((classes[0] == classes[1]).sum())
                self.ranked += len(right)
        self.items += next((len(t) for t in want.values() if t.dim()), 1)

    def errors(self) -> dict[str, float]:
        return {name: off / most if most else off for name, (off, most) in self.largest.items()}

    def error(self) -> float:
        return _worst(self.errors().values())

    def noise(self) -> float:
        return _worst((off / most) ** 0.5 if most else off for off, most in self.squares.values())


def _worst(values: Iterable[float]) -> float:
    """The largest; NaN counts as beyond all."""
    return max((float("inf") if v != v else v for v in values), default=0.0)


@dataclass(slots=True)
class _Work:
    """One net being quantised."""

    net: QuantizedNet
    fit: list[Feeds]
    held: list[Feeds]
    progress: Progress
    weights: dict[int, Weights] = field(default_factory=dict)  # by place in the graph
    refused: dict[int, str] = field(default_factory=dict)
    families: dict[Value, Value] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        return self.net.graph

    def run(self, methods: Sequence[str], max_error: float | None) -> QuantizedNet:
        from .plan import Plan
        from .report import Report

        self.find_weights()
        if not self.weights:
            raise NetError("no layer of this net can run in int8", at=self.graph.name, got=self.reasons())
        plan = Plan.of(self.graph, self.weights)
        self.families = plan.families(self.graph)
        ranges = self.observe()
        measured = self.held or self.fit
        right = self.outputs("the float32 net", measured)
        tried, formats = self.choose(methods, ranges, right if not self.held else None)
        rows = self.local_errors(plan, formats, measured)
        kept, shares, off = self.search(formats, measured, right, max_error)
        self.net.arrange({p: self.weights[p] for p in kept}, formats)
        why = f"the bound of {max_error:g} was not kept with it" if max_error is not None else ""
        report = Report(
            tuple(self.row(p, node, kept, rows, shares, why) for p, node in self.counted()),
            off.error(),
            off.errors(),
            off.noise(),
            off.same / off.ranked if off.ranked else None,
            off.items,
            min(tried, key=lambda m: tried[m]) if len(tried) > 1 else methods[0],
            tried,
            len(self.fit),
            len(self.held),
            max_error,
        )
        self.net.settle(report)
        return self.net

    def counted(self) -> list[tuple[int, Node]]:
        return [(place, node) for place, node in enumerate(self.graph.nodes) if node.layer.counted]

    def reasons(self) -> str:
        told = [f"{self.graph.nodes[p].title}: {why}" for p, why in self.refused.items()]
        return "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "") if told else "it has none"

    def find_weights(self) -> None:
        """The weights in s8 of each layer that can run so; and why the others cannot."""
        from ..kernels import int8
        from ..layers.inner_product import InnerProduct

        levels = int8.weight_levels()
        for place, node in self.counted():
            plain: Any = self.net.get_submodule(self.net.attributes[place])
            why = int8.refusal(node)
            why = why or int8.refusal(node, plain.weight)
            if why:
                self.refused[place] = why
                continue
            turned = isinstance(node.layer, InnerProduct) and node.layer.transpose
            bias = plain.bias if getattr(node.layer, "bias_term", True) else None
            self.weights[place] = int8.Weights.of(plain.weight.t() if turned else plain.weight, bias, levels)

    def each(self, what: str, batches: list[Feeds]) -> Iterable[Feeds]:
        with self.net.afresh():  # each pass starts without the states that the one before left
            for i, batch in enumerate(batches):
                yield batch
                self.progress(what, i + 1, len(batches))

    def outputs(self, what: str, batches: list[Feeds]) -> list[dict[str, Tensor]]:
        return [{k: v.clone() for k, v in self.net.forward(**batch).items()} for batch in self.each(what, batches)]

    def observe(self) -> dict[Value, Range]:
        """The range of each family of values over the calibration inputs: first its ends, then what lies between."""
        from .ranges import Range

        ranges = {head: Range() for head in set(self.families.values())}
        seen: set[Value] = set()
        readers: list[tuple[Any, list[tuple[int, Value]]]] = []
        for node, attribute in zip(self.graph.nodes, self.net.attributes, strict=True):
            new = [(i, v) for i, v in enumerate(node.bottoms) if v in self.families and v not in seen]
            seen.update(v for _, v in new)
            if new:
                readers.append((self.net.get_submodule(attribute), new))

        def widen(value: Value, x: Tensor) -> None:
            if not ranges[self.families[value]].widen(x):
                got, hint = "NaN or an infinity", "int8 cannot hold these; look at the weights and at the inputs"
                raise NetError(f'blob "{value.blob}" is not finite over the calibration inputs', got=got, hint=hint)

        def count(value: Value, x: Tensor) -> None:
            ranges[self.families[value]].count(x)

        def hook(see: Callable[[Value, Tensor], None], new: list[tuple[int, Value]]) -> Any:
            def before(_: Any, bottoms: tuple[Tensor, ...]) -> None:
                for i, value in new:
                    see(value, bottoms[i])

            return before

        for what, see in (("ranges", widen), ("counts", count)):
            hooks = [module.register_forward_pre_hook(hook(see, new)) for module, new in readers]
            try:
                for batch in self.each(what, self.fit):
                    self.net.forward(**batch)
            finally:
                for handle in hooks:
                    handle.remove()
        return ranges

    def choose(
        self, methods: Sequence[str], ranges: Mapping[Value, Range], right: list[dict[str, Tensor]] | None
    ) -> tuple[dict[str, float], dict[Value, Format]]:
        """What each method costs over inputs that were calibrated with, and the formats by the best."""
        batches = self.fit[:TRIALS]
        if len(methods) > 1:
            right = right[:TRIALS] if right else self.outputs("float32", batches)
        tried: dict[str, float] = {}
        best: dict[Value, Format] = {}
        for method in methods:
            found = {head: kept.format(method) for head, kept in ranges.items()}
            formats = {value: found[head] for value, head in self.families.items()}
            if len(methods) == 1:
                return {}, formats
            assert right is not None
            noise = self.off(f"trying {method}", self.weights, formats, batches, right).noise()
            if not tried or noise < min(tried.values()):
                best = formats
            tried[method] = noise
        return tried, best

    def off(
        self,
        what: str,
        places: Iterable[int],
        formats: Mapping[Value, Format],
        batches: list[Feeds],
        right: list[dict[str, Tensor]],
    ) -> _Off:
        """How far the net is off with these nodes in int8."""
        self.net.arrange({place: self.weights[place] for place in places}, formats)
        found = _Off()
        for batch, want in zip(self.each(what, batches), right, strict=True):
            found.add(self.net.forward(**batch), want)
        return found

    def local_errors(self, plan: Any, formats: Mapping[Value, Format], batches: list[Feeds]) -> dict[int, _Off]:
        """How far each layer alone is off over what it reads in the float32 net."""
        from ..kernels import int8

        self.net.arrange({}, formats)
        found = {place: _Off() for place in self.weights}
        hooks = []
        for place, weights in self.weights.items():
            node = self.graph.nodes[place]
            reads = [formats[v] if v in plan.wanted else None for v in node.bottoms]
            top = formats[node.tops[0]] if node.tops[0] in plan.packed else None
            module = int8.module(node, reads, top, weights)
            plain = self.net.get_submodule(self.net.attributes[place])
            tops: list[Tensor] = []

            def before(_: Any, bottoms: tuple[Tensor, ...], module: Any = module, tops: list[Tensor] = tops) -> None:
                tops.append(module(*bottoms))  # before the layer itself, which may write over a bottom

            def behind(
                _: Any,
                __: Any,
                want: Tensor,
                off: _Off = found[place],
                top: Format | None = top,
                tops: list[Tensor] = tops,
            ) -> None:
                got = tops.pop()
                off.add({"": top.restored(got) if top else got}, {"": want})

            hooks += [plain.register_forward_pre_hook(before), plain.register_forward_hook(behind)]
        try:
            for batch in self.each("errors by layer", batches):
                self.net.forward(**batch)
        finally:
            for handle in hooks:
                handle.remove()
        return found

    def search(
        self,
        formats: Mapping[Value, Format],
        batches: list[Feeds],
        right: list[dict[str, Tensor]],
        max_error: float | None,
    ) -> tuple[list[int], dict[int, float], _Off]:
        """The nodes that stay in int8, what each alone does to the outputs where that was measured, and the error then."""
        places = list(self.weights)
        whole = self.off("int8", places, formats, batches, right)
        if max_error is None or whole.error() <= max_error:
            return places, {}, whole
        shares = {}
        for i, place in enumerate(places):
            shares[place] = self.off("", [place], formats, batches, right).error()
            self.progress("one layer at a time", i + 1, len(places))
        ordered = sorted(places, key=lambda p: -shares[p])
        # The fewest that have to go, were the error to fall with each; whatever is found was measured.
        low, high = 1, len(ordered) - 1
        best: tuple[list[int], _Off] | None = None
        reached = whole.error()
        while low <= high:
            gone = (low + high) // 2
            stay = sorted(ordered[gone:])
            off = self.off(f"{len(stay)} layers in int8", stay, formats, batches, right)
            reached = min(reached, off.error())
            if off.error() <= max_error:
                best, high = (stay, off), gone - 1
            else:
                low = gone + 1
        if best is None:
            least = min(reached, *shares.values())
            got = f"{whole.error():.2g} with all {len(places)} layers in int8, {least:.2g} with the fewest"
            hint = "more calibration inputs, a larger bound, or bfloat16"
            raise NetError(
                "int8 cannot keep the bound", at=self.graph.name, expected=f"at most {max_error:g}", got=got, hint=hint
            )
        stay, off = best
        away = set(places).difference(stay)
        for place in sorted(away, key=lambda p: -self.macs(p)):  # some of them were in bad company
            more = sorted([*stay, place])
            found = self.off(f"{len(more)} layers in int8", more, formats, batches, right)
            if found.error() <= max_error:
                stay, off = more, found
        return stay, shares, off

    def macs(self, place: int) -> int:
        node = self.graph.nodes[place]
        return node.layer.macs(node.bottom_shapes, node.top_shapes)

    def row(
        self, place: int, node: Node, kept: list[int], rows: Mapping[int, _Off], shares: Mapping[int, float], why: str
    ) -> LayerReport:
        from .report import LayerReport

        inside = place in kept
        off = rows.get(place)
        return LayerReport(
            node.name,
            node.layer.kind,
            "int8" if inside else "float32",
            self.macs(place),
            off.error() if off else None,
            off.noise() if off else None,
            shares.get(place),
            "" if inside else self.refused.get(place, why),
        )
