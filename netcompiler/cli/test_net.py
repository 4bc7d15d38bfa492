"""`netcompile test`: the mean of every output of a trained net over batches of its own data, as `caffe test` tells it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import export, rows, stats
from ..builder import build
from ..errors import NetError
from ..graph import Array, Graph, Value
from ..upgrade import load
from . import dialect_options
from .run import Progress, input_shapes, out_of_memory
from .telling import passed_over
from .train import FAULT, ON_FAULT, WORKERS

if TYPE_CHECKING:
    from ..module import CompiledNet

EXAMPLES = """\
examples:
  netcompile test train_val.prototxt -w net_iter_10000.caffemodel --iterations 100
      100 batches of the TEST net's data layers; the mean of each output
  netcompile test train_val.prototxt -w net.caffemodel --stage val --json
"""
MOST_SHOWN = 1000  # values of an output that are told one by one
ITERATIONS = 50


def parser() -> argparse.ArgumentParser:
    """The options of `netcompile test`."""
    p = argparse.ArgumentParser(
        prog="netcompile test",
        description="Run a trained net over its test data, and tell the mean of every output.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("net", metavar="NET", help="the net with its data layers, a prototxt of any generation")
    p.add_argument("-w", "--weights", metavar="FILE", action="append", required=True, help="weights; several: A,B")
    p.add_argument("--weights-policy", metavar="P", default="strict", help="strict, reshape, skip or skip:LAYER,...")
    p.add_argument("--iterations", metavar="N", type=int, default=ITERATIONS, help=f"batches (default: {ITERATIONS})")
    p.add_argument("--stage", metavar="S", action="append", default=[], help="a stage that is on (repeatable)")
    p.add_argument("--level", metavar="N", type=int, default=0, help="the level (default: 0)")
    p.add_argument("--input", metavar="NAME=DIMS", action="append", default=[], help="a shape: label=100,1")
    p.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: CUDA when there is one)")
    p.add_argument("--dtype", metavar="T", help="float32 (default), bfloat16, float16 or float64")
    p.add_argument("--no-optimize", action="store_true", help="one module per Caffe layer")
    p.add_argument("--on-fault", choices=ON_FAULT, default="stop", help=FAULT)
    p.add_argument("--workers", metavar="N", type=int, help=WORKERS)
    p.add_argument("--allow-python", action="store_true", help="run the code that Python layers name")
    dialect_options(p)
    p.add_argument("--seed", metavar="N", type=int, default=0, help="of what is random in the data (default: 0)")
    p.add_argument("--json", action="store_true", help="the report as JSON")
    return p


def main(arguments: list[str]) -> int:
    """Run `netcompile test`. Returns the exit code."""
    options = parser().parse_args(arguments)
    if options.iterations < 1:
        raise NetError("too few batches", at="--iterations", expected="at least 1", got=options.iterations)
    say = Progress(quiet=options.json)
    from ..data.feeds import check_fed, open_feeds

    msg = load(options.net, unknown=options.unknown)
    root = str(Path(options.net).parent)
    given: dict[str, Any] = {
        "root": root,
        "seed": options.seed,
        "on_fault": options.on_fault,
        "workers": options.workers,
    }
    with open_feeds(msg, "TEST", options.level, options.stage, **given) as feeds:
        shapes = {**feeds.shapes, **input_shapes(options.input)}
        state = "TEST", options.level, options.stage
        graph = build(msg, *state, shapes, options.allow_python, dialect=options.dialect)
        check_fed(graph, feeds.shapes)
        say("loading torch")
        from .. import module
        from ..kernels import memory

        memory.keep()
        weights = [path for paths in options.weights for path in paths.split(",") if path]
        with out_of_memory(graph):
            net = module.compile(
                graph,
                weights,
                device=options.device,
                dtype=options.dtype,
                optimize=not options.no_optimize,
                weights_policy=options.weights_policy,
                progress=say.share,
            )
            start = time.perf_counter()
            means, losses = _means(net, graph, feeds, options.iterations, say)
    seconds = time.perf_counter() - start
    say.clear()
    report: dict[str, Any] = {
        "net": graph.name,
        "iterations": options.iterations,
        "images": stats.images(graph) * options.iterations,
        "seconds": seconds,
        "loss": sum(w * losses[v] for v, w in _weighted(graph)),
        "outputs": {v.blob: means[v].tolist() for v in graph.outputs},
        "skipped": feeds.skipped,
    }
    if options.json:
        print(export.as_json(report))
    else:
        _print(report, graph, means)
    return 0


def _weighted(graph: Graph) -> list[tuple[Value, float]]:
    """The tops that carry a loss weight, with it."""
    return [(v, w) for n in graph.nodes for v, w in zip(n.tops, n.loss_weights, strict=True) if w]


def _means(
    net: CompiledNet, graph: Graph, feeds: Any, iterations: int, say: Progress
) -> tuple[dict[Value, Array], dict[Value, float]]:
    """The mean over batches of each output, value by value; and of the sum of each top that is part of the loss."""
    import torch

    from ..train.nets import add, named

    weighted = _weighted(graph)
    sums: dict[Value, Any] = {}
    with torch.inference_mode(), rows.gathered(), named(net):
        for i in range(iterations):
            if say.on:
                say(f"batch {i + 1:,} of {iterations:,}")
            found = net.forward(**feeds.next())
            for value in dict.fromkeys((*graph.outputs, *(v for v, _ in weighted))):
                add(sums, value, value.blob, found[value.blob].double().cpu().numpy())
    means: dict[Value, Array] = {value: total / iterations for value, total in sums.items()}
    return means, {value: float(means[value].sum()) for value, _ in weighted}


def _print(report: dict[str, Any], graph: Graph, means: dict[Value, Array]) -> None:
    count, seconds = report["iterations"], report["seconds"]
    speed = f", {report['images'] / seconds:,.1f} images/s" if seconds else ""
    print(f"{graph.name or '(no name)'}: {count:,} batches, {report['images']:,} images in {seconds:.1f} s{speed}")
    weights = dict(_weighted(graph))
    if weights:
        print(f"Loss: {report['loss']:.6g}")
    if report["skipped"]:
        print(passed_over(report["skipped"]))
    for value in graph.outputs:
        _print_output(value, means[value].ravel(), weights.get(value, 0.0))


def _print_output(value: Value, numbers: Sequence[float] | Array, weight: float) -> None:
    """An output's values, a line each, with what they add to the loss; of very many, in short."""
    if len(numbers) > MOST_SHOWN:
        spread = f"{np.min(numbers):.6g} to {np.max(numbers):.6g}, mean {np.mean(numbers):.6g}"
        print(f"{value.blob} = {len(numbers):,} values, {spread} (--json has them all)")
        return
    for number in numbers:
        share = f" (* {weight:g} = {weight * number:.6g} loss)" if weight else ""
        print(f"{value.blob} = {number:.6g}{share}")
