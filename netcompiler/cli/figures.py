"""`netcompile NET --figures`: each layer's figures and the net's, without running it; nets that do not build, in part."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import export
from ..drawing import SUFFIXES, draw
from ..errors import NetError, NetWarning
from ..export.sheet import shape_of
from ..graph import Graph, Shape
from ..looking import look
from ..stats import in_bytes
from ..text import Msg
from ..weights import bind, read_weights

MOST_TOLD = 20  # faults; there may be one for each layer
STATIC = (".csv", ".json", ".prototxt")  # what can be written of a net that was not run


def show(options: argparse.Namespace, inputs: Mapping[str, Shape]) -> int:
    """Do what the main command's options say, but for running the net. Returns the exit code."""
    if options.times:
        raise NetError("--figures runs nothing, and measures no times", hint="leave --figures out")
    for path in options.output:
        if Path(path).suffix not in (*STATIC, *SUFFIXES):
            expected = ", ".join((*STATIC, *SUFFIXES))
            hint = "leave --figures out: the net is run, and its weights are there to write"
            raise NetError("--figures runs nothing, and has no weights", at=path, expected=expected, hint=hint)
    state = options.phase, options.level, options.stage
    msg, graph = look(options.net, *state, inputs, options.allow_python, options.dialect, options.unknown)
    if options.outputs:
        graph = graph.reaching(options.outputs.split(","))
    tell_faults(graph)
    report = export.describe(graph) | {"file": str(options.net)}
    if options.json:
        print(export.as_json(report))
    else:
        if not options.quiet:
            _table(report["layers"])
        print(f"{'net':<12} {report['name'] or '(no name)'}, phase {report['phase']}, {len(graph.nodes)} layers")
        for word, text in (*dialect_lines(report), *totals_lines(report["totals"])):
            print(f"{word:<12} {text}")
    graph = bound(graph, options) if options.output else graph
    for path in options.output:
        write(path, msg, graph, report, options)
    return 0


def tell_faults(*graphs: Graph) -> None:
    """What is wrong with nets that do not build, each fault once."""
    faults = list(dict.fromkeys(str(fault) for graph in graphs for error in graph.faults for fault in error.all))
    for fault in faults[:MOST_TOLD]:
        warnings.warn(fault, NetWarning, stacklevel=2)
    if len(faults) > MOST_TOLD:
        warnings.warn(f"and {len(faults) - MOST_TOLD} more faults", NetWarning, stacklevel=2)


def bound(graph: Graph, options: argparse.Namespace) -> Graph:
    """The graph with the weights that -w names, where the files have them; as it is where -w names none."""
    if not options.weights:
        return graph
    blobs = read_weights(*(path for paths in options.weights for path in paths.split(",")))
    graph = bind(graph, blobs, policy=options.weights_policy, seed=options.seed, warn=not graph.faults)
    known = (n if n.name in blobs or any(p.name for p in n.params) else replace(n, blobs=()) for n in graph.nodes)
    return graph.with_nodes(known)


def write(
    path: str,
    msg: Msg,
    graph: Graph,
    report: dict[str, Any],
    options: argparse.Namespace,
    times: dict[str, float] | None = None,
) -> None:
    """Write one file in the format of its suffix, and say so."""
    if Path(path).suffix in SUFFIXES:
        if not options.weights:  # nobody wants to see how random ones lie
            graph = graph.with_nodes(replace(node, blobs=()) for node in graph.nodes)
        draw(graph, path, **style(options), times=times)
    else:
        export.write(path, msg, graph, report, options.phase, options.level, options.stage)
    if not options.json:
        print(f"wrote {path}")


def style(options: argparse.Namespace) -> dict[str, Any]:
    """How pictures are to look, as `draw` takes it."""
    return {name: getattr(options, name) for name in ("direction", "theme", "fold", "expand")}


def dialect_lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The fork that a net is written for, and what says so; nothing for Caffe itself."""
    name, sign = report["dialect"], report["dialect_sign"]
    return [("dialect", f"{name} ({sign or 'as told'})")] if name != "bvlc" else []


def totals_lines(totals: dict[str, Any]) -> list[tuple[str, str]]:
    """A net's totals in words, each with a word in front."""
    share, least = totals["per_image"], "at least " if totals["unknown"] else ""
    lines = [
        ("params", f"{least}{totals['params']:,} learned, {in_bytes(totals['weight_bytes'])} of weights"),
        ("MACs", f"{least}{totals['macs']:,}"),
        ("activations", f"{least}{_held(totals)}"),
    ]
    if totals["images"] > 1:
        macs = f"{share['macs']:,.15g} MACs; {_held(share)}"
        lines.append(("one image", f"{least}{macs}, of a batch of {totals['images']}"))
    if totals["intensity"] is not None:
        lines.append(
            ("intensity", f"{totals['intensity']:.4g} operations for each byte of weights and activations moved")
        )
    if totals["unknown"]:
        lines.append(("not counted", f"{totals['unknown']} of {totals['layers']} layers, whose figures are not known"))
    return lines


def _held(figures: dict[str, Any]) -> str:
    kept, peak = in_bytes(figures["activation_bytes"]), in_bytes(figures["peak_activation_bytes"])
    return f"{kept} all kept, {peak} at the peak"


def _table(layers: list[dict[str, Any]]) -> None:
    rows: list[tuple[str, ...]] = [
        ("layer", "top shapes", "params", "MACs", "activations", "ops/byte", "field", "stride", "centre")
    ]
    rows += [_row(layer) for layer in layers]
    widths = [min(30, max(len(row[i]) for row in rows)) for i in range(9)]
    for row in rows:
        cells = [c if len(c) <= w else c[: w - 3] + "..." for c, w in zip(row, widths, strict=True)]
        placed = [c.rjust(w) if i > 1 else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        print("  ".join(placed).rstrip())
    print()


def _row(layer: dict[str, Any]) -> tuple[str, ...]:
    known = layer["params"] is not None
    counts = [f"{layer[name]:,}" if layer[name] else "" for name in ("params", "macs")]
    counts.append(in_bytes(layer["activation_bytes"]) if layer["activation_bytes"] else "")
    counts.append(f"{layer['intensity']:.1f}" if layer["intensity"] else "")
    shapes = ", ".join(map(shape_of, layer["tops"]))
    field = next((top["field"] for top in layer["tops"] if top["field"]), None)
    parts = (
        ("x".join(map(str, field["size"])), *map(_alike, (field["stride"], field["centre"]))) if field else ("",) * 3
    )
    return (layer["name"], shapes, *(counts if known else "????"), *(parts if known else "???"))


def _alike(values: list[float | None]) -> str:
    """Numbers of each axis; one where they are all the same. `-`: it does not move."""
    texts = ["-" if v is None else f"{v:.4g}" for v in values]
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)
