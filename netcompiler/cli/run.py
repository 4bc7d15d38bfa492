"""The main command: check, compile, run, report, write."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import drawing, export, rows, stats
from ..builder import build, reshape
from ..errors import NetError
from ..graph import Array, Graph, Value, dims
from ..upgrade import load
from . import CLEAR, alone, calibrate, draw
from .figures import dialect_lines, show, totals_lines, write

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.image import Preparation
    from ..module import CompiledNet


OURS = ("torch", "eager")  # engines whose activations are planned here
# How far optimising may take outputs from those of the plain float32 net, as a share of the largest value.
BOUNDS = {"float64": 1e-4, "float32": 1e-4, "bfloat16": 2e-2, "float16": 2e-2, "int8": 1e-1}


def run_net(options: argparse.Namespace) -> int:
    """Do what the main command's options say. Returns the exit code."""
    export.check_targets(options.output, drawing.SUFFIXES)
    drawing.check_fold(options.fold)
    say = Progress(quiet=options.json)
    shapes = input_shapes(options.input)
    if draw.only_pictures(options) and not options.figures:
        return draw.draw_net(options, shapes)
    if options.phase == "BOTH":
        raise NetError("--phase BOTH is for pictures", expected=f"-o with {', '.join(drawing.SUFFIXES)} alone")
    if options.figures:
        return show(options, shapes)
    int8 = calibrate.wanted(options)
    if options.tune:
        check_tune(options, {"--times": options.times, f"--engine {options.engine}": options.engine != "torch"})
    msg = load(options.net, unknown=options.unknown)
    state = options.phase, options.level, options.stage
    graph = build(msg, *state, shapes, options.allow_python, dialect=options.dialect)
    if options.image:
        pictures = calibrate.image_input(graph)
        graph = reshape(graph, {pictures.blob: (len(options.image), *pictures.shape[1:])})
    prepared = _pictures(options, graph)
    labels = read_labels(options.labels)

    say("loading torch")
    import torch

    from .. import module, timing
    from ..kernels import memory

    memory.keep()

    weights = [path for paths in options.weights for path in paths.split(",")]
    start = time.perf_counter()
    with out_of_memory(graph):
        net = module.compile(
            graph,
            weights or None,
            outputs=options.outputs.split(",") if options.outputs else None,
            device="cpu" if int8 else options.device,
            dtype=None if int8 else options.dtype,
            optimize=not (options.no_optimize or options.times or options.engine != "torch"),
            tune=options.tune,
            weights_policy=options.weights_policy,
            seed=options.seed,
            progress=say.share,
        )
        calibrated: dict[str, Array] = {}
        if int8:
            say("reading the calibration pictures")
            prepare = partial(_preparation, options)
            inputs = calibrate.of_pictures(net, options.calibrate, prepare, options.seed)
            net, calibrated = calibrate.quantized(net, inputs, options.max_error, say), inputs[0]
        compiled = time.perf_counter() - start
        bound = (
            net.with_weights() if options.output else net.source
        )  # before a run in TRAIN changes BatchNorm's statistics
        times: dict[str, float] | None = None
        say("running")
        if stats.peak_activation_bytes(net.graph) > module.memory(net.device):
            raise MemoryError  # else the system might kill us half-way
        feeds = timing.synthetic_feeds(net, options.seed) | calibrated | prepared
        run: Any = net.forward
        if options.engine != "torch":
            from ..engines import Engine

            say(f"building {options.engine}")
            run = Engine(net, options.engine)
        outputs, seconds = _timed(net, feeds, run)
        if options.times:
            say("measuring the layers")
            times = timing.layer_times(net, feeds)
        cost: dict[str, float] = {}
        if run != net.forward or net.optimized or net.dtype not in (torch.float32, torch.float64):
            say("comparing with the plain net")
            cost = module.rewriting_error(net, feeds, None if run == net.forward else outputs)
    say.clear()

    report = _report(options, net, compiled, seconds, outputs, labels)
    report["rewriting_error"] = cost
    if told := calibrate.report_of(net):
        report["int8"] = told.as_dict()
    if times is not None:
        for layer in report["layers"]:
            layer["seconds"] = times.get(layer["name"], 0.0)
    if options.json:
        print(export.as_json(report))
    else:
        _print(report, options, net)
    for path in options.output:
        write(path, msg, bound, report, options, times)
    if options.check is None:
        return 0
    bound_of_error = BOUNDS[calibrate.type_name(net)] if options.check == "" else options.check
    worst = max(cost.values(), default=0.0)
    if not worst <= bound_of_error:
        print(f"--check: the optimised net is off by {worst:.2g}, beyond {bound_of_error:g}", file=sys.stderr)
        return 1
    return 0


def check_tune(options: argparse.Namespace, others: dict[str, bool]) -> None:
    """Raises: NetError for options that leave --tune nothing to choose. others: those of one command, by name."""
    phase = {f"--phase {options.phase}": options.phase != "TEST", "--no-optimize": options.no_optimize}
    alone("--tune", phase | others, "there is a choice for optimised TEST nets only")


class Progress:
    """One line on the terminal that says what is going on; nothing where there is no terminal."""

    def __init__(self, quiet: bool) -> None:
        self.on = not quiet and sys.stderr.isatty()
        self.last = 0.0

    def __call__(self, text: str) -> None:
        if self.on:
            print(f"{CLEAR}{text} ...", end="", file=sys.stderr, flush=True)

    def share(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last > 0.05 or done == total:
            self.last = now
            filled = 30 * done // max(total, 1)
            self(f"{what} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total} layers")

    def clear(self) -> None:
        if self.on:
            print(CLEAR, end="", file=sys.stderr, flush=True)


def input_shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """The shapes that --input options give. Raises: NetError for one that is not NAME=DIMS."""
    shapes = {}
    for text in texts:
        name, _, sizes = text.partition("=")
        try:
            shapes[name] = tuple(int(d) for d in sizes.replace("x", ",").split(","))
        except ValueError:
            raise NetError("--input is not NAME=DIMS", expected="such as data=1,3,224,224", got=text) from None
    return shapes


def _pictures(options: argparse.Namespace, graph: Graph) -> dict[str, Array]:
    if not options.image:
        for name, unset in (("mean", None), ("resize", None), ("scale", 1.0)):
            if getattr(options, name) != unset and options.calibrate in ([], [calibrate.SYNTHETIC]):
                raise NetError(f"--{name} is for pictures", hint="name them with --image")
        return {}
    from ..data.image import read_image

    value = calibrate.image_input(graph)
    prepare = _preparation(options, value)
    return {value.blob: np.stack([prepare(read_image(path, value.shape[1])) for path in options.image])}


def _preparation(options: argparse.Namespace, value: Value) -> Preparation:
    """How pictures become this input. Raises: NetError for options that cannot be used."""
    from ..data.image import caffe_preparation

    size = None
    if options.resize:
        try:
            height, width = (int(v) for v in options.resize.split(","))
            size = height, width
        except ValueError:
            raise NetError("--resize is not H,W", expected="such as 256,256", got=options.resize) from None
    return caffe_preparation(value.shape, options.mean, size, options.scale)


def read_labels(path: str | None) -> list[str]:
    """The names of classes, one a line; none without a file. Raises: NetError for a file that cannot be read."""
    if path is None:
        return []
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise NetError(f"the labels cannot be read: {getattr(e, 'strerror', None) or e}", at=path) from None


@rows.unwritten()
def _timed(net: CompiledNet, feeds: dict[str, Array], run: Any) -> tuple[dict[str, Tensor], float]:
    """The outputs, and the seconds of one batch: of the last of some runs, since the first warm up."""
    import torch

    on = {name: torch.from_numpy(x).to(net.device) for name, x in feeds.items()}

    def once() -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = run(**on)  # not net(...), which cannot take an input by the name "self"
        if net.device.type == "cuda":
            torch.cuda.synchronize(net.device)
        return outputs

    with torch.inference_mode():
        for _ in range(2 if net.optimized else 1):  # the second makes one program of the net, where that can be
            once()
        start = time.perf_counter()
        outputs = once()
        return outputs, time.perf_counter() - start


@contextlib.contextmanager
def out_of_memory(graph: Graph, hint: str = "a smaller batch: --input NAME=DIMS") -> Iterator[None]:
    """Turn torch's words for want of memory into a NetError."""
    try:
        yield
    except (MemoryError, RuntimeError) as e:
        if isinstance(e, RuntimeError) and "out of memory" not in str(e) and "alloc" not in str(e):
            raise
        totals = stats.totals(graph)
        got = f"{stats.in_bytes(totals.weight_bytes)} of weights, {stats.in_bytes(totals.peak_activation_bytes)} of activations"
        raise NetError("not enough memory for this net", got=got, hint=hint) from None


@dataclass(frozen=True, slots=True)
class _Range:
    shape: tuple[int, ...]
    least: float
    most: float
    mean: float


def _report(
    options: argparse.Namespace,
    net: CompiledNet,
    compiled: float,
    seconds: float,
    outputs: dict[str, Tensor],
    labels: list[str],
) -> dict[str, Any]:
    """Everything that the command tells, as plain values."""
    arrays = {name: t.detach().float().cpu().numpy() for name, t in outputs.items()}
    report = export.describe(net.source)
    report["file"] = str(options.net)
    report["weights"] = ",".join(options.weights) or "random"
    report["run"] = {
        "device": _device_name(net),
        "dtype": calibrate.type_name(net),
        "optimized": net.optimized,
        "engine": options.engine,
        "compile_seconds": compiled,
        "batch_seconds": seconds,
        "planned_activation_bytes": net.planned_bytes() if options.engine in OURS else None,
    }
    report["ranges"] = {
        name: asdict(_Range(a.shape, float(a.min()), float(a.max()), float(a.mean())))
        for name, a in arrays.items()
        if a.size
    }
    report["top"] = _top(options.image, arrays, labels) if options.weights else []
    return report


def _top(images: list[str], arrays: dict[str, Array], labels: list[str]) -> list[dict[str, Any]]:
    """The best five classes of each picture (or of the first item), from the first output that has class scores."""
    fewest = 2 if images else 5
    for name, array in arrays.items():
        if array.ndim < 2 or array.shape[1] < fewest or array.size != array.shape[0] * array.shape[1]:
            continue
        scores = array.reshape(array.shape[:2])
        rows = []
        for i in range(min(len(images) or 1, len(scores))):
            best = np.argsort(-scores[i], kind="stable")[:5]
            classes = [
                {"class": int(k), "score": float(scores[i, k]), **({"label": labels[k]} if k < len(labels) else {})}
                for k in best
            ]
            rows.append({"output": name, "item": images[i] if images else f"item {i}", "best": classes})
        return rows
    return []


def _device_name(net: CompiledNet) -> str:
    import torch

    if net.device.type == "cuda":
        return f"{net.device} ({torch.cuda.get_device_name(net.device)})"
    return f"{net.device} ({torch.get_num_threads()} threads)"


def _print(report: dict[str, Any], options: argparse.Namespace, net: CompiledNet) -> None:
    if options.code:
        print(net.code)
    elif not options.quiet:
        _table(report["layers"])
        if told := calibrate.report_of(net):
            print(f"{told.table()}\n")
    totals, run = report["totals"], report["run"]
    engine = "" if run["engine"] == "torch" else f", by {run['engine']}"
    random = "" if options.weights else "  (no -w given: random, by the net's fillers, 0 where it names none)"
    lines = [
        ("net", f"{report['name'] or '(no name)'}, phase {report['phase']}, {totals['layers']} layers"),
        *dialect_lines(report),
        *((word, text + (random if word == "params" else "")) for word, text in totals_lines(totals)),
        ("device", f"{run['device']}, {run['dtype']}{', optimised' if run['optimized'] else ''}{engine}"),
        ("time", f"{run['compile_seconds']:.2f} s to compile, {1e3 * run['batch_seconds']:.1f} ms to run one batch"),
    ]
    if run["planned_activation_bytes"] is not None:
        planned = stats.in_bytes(run["planned_activation_bytes"])
        lines.append(("memory", f"{planned} at most for activations while it runs"))
    if told := calibrate.report_of(net):
        lines.append(("int8", told.summary()))
    for name, off in report["rewriting_error"].items():
        far = "beyond measure (another shape, or no numbers)" if off == inf else f"by {off:.1e} of its largest value"
        lines.append(("rewriting", f"{name} is off {far} from the plain float32 net"))
    for name, r in report["ranges"].items():
        spread = f"{r['least']:.6g} to {r['most']:.6g}, mean {r['mean']:.6g}"
        lines.append(("output", f"{name} {dims(tuple(r['shape']))}: {spread}"))
    for word, text in lines:
        print(f"{word:<12} {text}")
    for row in report["top"]:
        print(f"top {len(row['best'])} of {row['output']}, {row['item']}:")
        for best in row["best"]:
            print(f"  {best['score']:10.6f}  {best['class']:5d}  {best.get('label', '')}".rstrip())


def _table(layers: list[dict[str, Any]]) -> None:
    timed = bool(layers) and "seconds" in layers[0]
    head = ("layer", "type", "bottoms", "top shapes", "params", "MACs", *(["time"] if timed else []))
    rows = [
        (
            layer["name"],
            layer["type"],
            ", ".join(layer["bottoms"]),
            ", ".join(dims(tuple(t["shape"])) for t in layer["tops"]),
            f"{layer['params']:,}" if layer["params"] else "",
            f"{layer['macs']:,}" if layer["macs"] else "",
            *([f"{1e3 * layer['seconds']:.3f} ms"] if timed else []),
        )
        for layer in layers
    ]
    widths = [min(40, max(len(r[i]) for r in (head, *rows))) for i in range(len(head))]
    for row in (head, *rows):
        cells = [_cut(c, w) for c, w in zip(row, widths, strict=True)]
        placed = [c.rjust(w) if i > 3 else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        print("  ".join(placed).rstrip())
    print()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
