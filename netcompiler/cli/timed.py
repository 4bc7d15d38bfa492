"""`netcompile time`: how long a net takes, whole and layer by layer, against what the machine could do at best."""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import drawing, export, rows, stats
from ..builder import build
from ..errors import NetError
from ..upgrade import load
from . import TUNE, alone, calibrate, dialect_options, int8_options
from .run import Progress, check_tune, input_shapes, out_of_memory

if TYPE_CHECKING:
    from ..graph import Node
    from ..module import CompiledNet
    from ..timing import Ceilings

EXAMPLES = """\
examples:
  netcompile time model_zoo/ResNet-50-deploy.prototxt
      forward of the optimised net: whole, and by layer
  netcompile time net.prototxt -w net.caffemodel --batch 8 --dtype bfloat16
  netcompile time net.prototxt -w net.caffemodel --dtype int8 --calibrate pictures/
  netcompile time train_val.prototxt --phase TRAIN --batch 8 --backward
      forward and backward; the layers are timed forward only
  netcompile time net.prototxt --peers
      beside plain PyTorch, torch.compile, ONNX Runtime and OpenVINO, as far as they are installed
  netcompile time net.prototxt -o time.html
      the page of the net, coloured by measured time

The whole net and its layers are measured in separate passes, each after one that warms up; so the sum of the layers is more
than the whole where looking at the clock costs. "roof" is the share of what the machine was just measured to reach: the
larger of operations against a large matrix product, and bytes against copying memory. Numbers of a busy machine mean little.
"""


BY_LAYER = ", run one by one; the whole net is one program"


def parser() -> argparse.ArgumentParser:
    """The options of `netcompile time`."""
    p = argparse.ArgumentParser(
        prog="netcompile time",
        description="Measure a net: whole, layer by layer, and against the machine's ceilings.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("net", metavar="NET", help="the net definition, a prototxt of any generation")
    p.add_argument("-w", "--weights", metavar="FILE", action="append", default=[], help="weights; else random ones")
    p.add_argument("-o", "--output", metavar="OUT", action="append", default=[], help="write this page (.html)")
    p.add_argument("--phase", choices=("TRAIN", "TEST"), default="TEST", type=str.upper, help="default: TEST")
    p.add_argument("--input", metavar="NAME=DIMS", action="append", default=[], help="its shape: data=1,3,224,224")
    p.add_argument("--batch", metavar="N", type=int, help="the first dim of all inputs")
    p.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: CUDA when there is one)")
    p.add_argument("--dtype", metavar="T", help="float32 (default), tf32 (CUDA), bfloat16, float16, float64 or int8")
    p.add_argument("--iters", metavar="N", type=int, default=20, help="how many runs are measured (default: 20)")
    p.add_argument("--no-optimize", action="store_true", help="one module per Caffe layer")
    p.add_argument("--tune", action="store_true", help=TUNE)
    p.add_argument("--backward", action="store_true", help="measure forward and backward; with --no-optimize")
    p.add_argument("--peers", action="store_true", help="measure other engines in turn with this one, if installed")
    p.add_argument("--allow-python", action="store_true", help="run the code that Python layers name")
    dialect_options(p)
    p.add_argument("--json", action="store_true", help="the report as JSON")
    int8_options(p)
    return p


def main(arguments: list[str]) -> int:
    """Run `netcompile time`. Returns the exit code."""
    options = parser().parse_args(arguments)
    for path in options.output:
        if Path(path).suffix != ".html":
            raise NetError("measured times are shown on a page", at=path, expected=".html", got=Path(path).suffix)
    export.check_targets(options.output, drawing.SUFFIXES)
    if options.iters < 1:
        raise NetError("too few runs to measure", at="--iters", expected="at least 1", got=options.iters)
    if options.batch is not None and options.batch < 1:
        raise NetError("no batch", at="--batch", expected="at least 1", got=options.batch)
    int8 = calibrate.wanted(options)
    train = {"--backward": options.backward, f"--phase {options.phase}": options.phase != "TEST"}
    if options.tune:
        check_tune(options, train)
    if options.peers:
        alone("--peers", train, "other engines run TEST nets, and forward only")
    say = Progress(quiet=options.json)
    shapes = input_shapes(options.input)
    msg = load(options.net, unknown=options.unknown)
    graph = build(msg, options.phase, inputs=shapes, allow_python=options.allow_python, dialect=options.dialect)
    if options.batch:
        from ..builder import reshape

        batched = {v.blob: (options.batch, *v.shape[1:]) for v in graph.inputs() if v.shape and v.blob not in shapes}
        graph = reshape(graph, batched)
    say("loading torch")
    from .. import module, timing
    from ..kernels import memory

    memory.keep()

    weights = [path for paths in options.weights for path in paths.split(",")]
    plain = options.no_optimize or options.backward or options.phase == "TRAIN"
    with out_of_memory(graph):
        net = module.compile(
            graph,
            weights or None,
            device="cpu" if int8 else options.device,
            dtype=None if int8 else options.dtype,
            optimize=not plain,
            tune=options.tune,
            progress=say.share,
        )
        if int8:
            say("reading the calibration pictures")
            net = calibrate.quantized(net, calibrate.of_pictures(net, options.calibrate), options.max_error, say)
        feeds = timing.placed(net)
        say("measuring the whole net")
        whole = timing.net_times(net, feeds, options.iters, options.backward)
        say("measuring the layers")
        layers = timing.node_times(net, feeds, options.iters)
        say("measuring the machine")
        roof = timing.ceilings(net)
        peers = _peers(net, feeds, options.iters, say) if options.peers else {}
    say.clear()
    report = _report(net, whole, layers, roof, peers, options.backward) | {
        "file": str(options.net),
        "iters": options.iters,
    }
    if told := calibrate.report_of(net):
        report["int8"] = told.as_dict()
    print(export.as_json(report)) if options.json else _print(report)
    for path in options.output:
        times = {name: row["seconds"] for row in report["layers"] for name in row["layers"][:1]}
        drawing.draw(net.with_weights(), path, times=times)
        if not options.json:
            print(f"wrote {path}")
    return 0


@rows.unwritten()
def _peers(net: CompiledNet, feeds: dict[str, Any], iters: int, say: Progress) -> dict[str, Any]:
    """The median seconds of each engine that is there, taken in turn with this net; or why it cannot run."""
    import time

    import torch

    from ..engines import ENGINES, Engine, available
    from ..module import CompiledNet

    plain = CompiledNet(net.with_weights(), device=net.device, dtype=net.dtype).eval()
    engines: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for name in ENGINES:
        if name == "torch":
            continue
        say(f"building {name}")
        try:
            engines[name] = Engine(plain, name) if available(name) else None
        except NetError as e:
            told[name] = str(e.got or e.what)
        if name in engines and engines[name] is None:
            told[name] = "not installed"
    runs = {"netcompiler": lambda: net.forward(**feeds)} | {
        name: (lambda engine=engine: engine(**feeds)) for name, engine in engines.items() if engine
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for i in range(iters + 1):
            say(f"measuring peers, {i} of {iters}")
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if net.device.type == "cuda":
                    torch.cuda.synchronize(net.device)
                if i:
                    taken[name].append(time.perf_counter() - start)
    return told | {name: _spread(seconds) for name, seconds in taken.items()}


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    quarter = len(ordered) // 4
    return {"median": statistics.median(ordered), "low": ordered[quarter], "high": ordered[-1 - quarter]}


def _report(
    net: CompiledNet,
    whole: list[float],
    layers: list[list[float]],
    roof: Ceilings,
    peers: dict[str, Any],
    backward: bool,
) -> dict[str, Any]:
    """What was measured, as plain values. backward: whether `whole` is of forward and backward; the layers' are not."""
    import torch

    from ..passes.groups import groups

    item = torch.empty(0, dtype=net.dtype).element_size()
    rows: list[dict[str, Any]] = []
    for node, attribute, members, taken in zip(
        net.graph.nodes, net.attributes, groups(net.source, net.graph), layers, strict=True
    ):
        if not taken:
            continue
        seconds = statistics.median(taken)
        size = getattr(net.get_submodule(attribute), "bytes_each", item)
        operations, moved = 2 * node.layer.macs(node.bottom_shapes, node.top_shapes), _moved(node) * size
        rows.append(
            {
                "layers": [m.name for m in members],
                "types": [m.layer.kind for m in members],
                "seconds": seconds,
                "operations": operations,
                "bytes": moved,
                "roof": roof.seconds(operations, moved) / seconds if seconds and not node.layer.views else None,
            }
        )
    totals = stats.totals(net.source)
    return {
        "name": net.graph.name,
        "phase": net.graph.phase,
        "device": str(net.device),
        "dtype": calibrate.type_name(net),
        "optimized": net.optimized,
        "whole": _spread(whole),
        "images": totals.images,
        "sum_of_layers": sum(row["seconds"] for row in rows),
        "roof": None
        if backward
        else sum(r["roof"] * r["seconds"] for r in rows if r["roof"]) / statistics.median(whole),
        "ceilings": asdict(roof),
        "memory": _memory(net),
        "planned_activation_bytes": net.planned_bytes(),
        "one_program": net.one_program,
        "layers": rows,
        "peers": peers,
    }


def _moved(node: Node) -> int:
    """How many values a node reads and writes, each once: its bottoms, its blobs, and its tops."""
    from math import prod

    values = sum(prod(v.shape) for v in {*node.bottoms, *node.tops})
    return values + sum(spec.count for spec in node.layer.blobs(node.bottom_shapes).values())


def _memory(net: CompiledNet) -> int:
    """The most bytes that were held at once: of the device, or of this process."""
    if net.device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(net.device))
    try:
        import resource
    except ImportError:  # Windows does not tell in this way
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _print(report: dict[str, Any]) -> None:
    rows = [
        (
            " + ".join(row["layers"]),
            " + ".join(row["types"]),
            f"{1e3 * row['seconds']:.3f}",
            f"{100 * row['seconds'] / report['sum_of_layers']:.1f}" if report["sum_of_layers"] else "",
            f"{100 * row['roof']:.0f}" if row["roof"] is not None else "",
        )
        for row in report["layers"]
    ]
    head = ("layers", "types", "ms", "%", "roof %")
    widths = [min(44, max(len(r[i]) for r in (head, *rows))) for i in range(5)]
    for row in (head, *rows):
        cells = [c if len(c) <= w else c[: w - 3] + "..." for c, w in zip(row, widths, strict=True)]
        print(
            "  ".join(c.rjust(w) if i > 1 else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        )
    print()
    whole, roof = report["whole"], report["ceilings"]
    spread = f"{1e3 * whole['low']:.2f} to {1e3 * whole['high']:.2f}"
    lines = [
        ("net", f"{report['name'] or '(no name)'}, phase {report['phase']}"),
        ("device", f"{report['device']}, {report['dtype']}{', optimised' if report['optimized'] else ''}"),
        (
            "whole",
            f"{1e3 * whole['median']:.2f} ms (half of the runs: {spread}), {report['images'] / whole['median']:.1f} images/s",
        ),
        (
            "layers",
            f"{1e3 * report['sum_of_layers']:.2f} ms, all added up" + (BY_LAYER if report["one_program"] else ""),
        ),
        ("machine", f"{roof['operations'] / 1e9:,.0f} GFLOP/s, {roof['bytes'] / 1e9:.1f} GB/s, measured just now"),
        *([] if report["roof"] is None else [("roof", f"{100 * report['roof']:.0f} % of what these ceilings allow")]),
        (
            "memory",
            f"{report['memory'] / 1e6:,.0f} MB at the peak, of the whole process; "
            f"{stats.in_bytes(report['planned_activation_bytes'])} at most for activations",
        ),
    ]
    if "int8" in report:
        lines.insert(
            2, ("int8", f"{100 * report['int8']['share_of_macs']:.4g} % of the MACs; see netcompile --dtype int8")
        )
    for word, text in lines:
        print(f"{word:<12} {text}")
    ours = report["peers"].get("netcompiler")
    for name, found in report["peers"].items():
        if isinstance(found, str):
            print(f"{name:<12} {found}")
        else:
            ratio = f"{found['median'] / ours['median']:.2f} of ours"
            print(f"{name:<12} {1e3 * found['median']:.2f} ms, {ratio}")
