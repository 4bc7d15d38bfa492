"""`netcompile plot`: curves of loss, rate and outputs over iterations, out of our logs and Caffe's."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Callable, Sequence
from math import isfinite
from os.path import commonpath
from pathlib import Path

from .. import export
from ..drawing.curves import SCALES, SUFFIXES, Chart, Curve, Panel
from ..drawing.theme import THEMES
from ..errors import NetError
from ..files import atomic
from ..train.log import LOSS, RATE, Key, Run, read_log

EXAMPLES = """\
examples:
  netcompile plot train.jsonl -o curves.svg
      of `netcompile train solver.prototxt --log train.jsonl`
  netcompile plot caffe.INFO ours.jsonl -o curves.png
      several trainings over one another; a log of `caffe train` (its stderr, or glog's file) does as well
  netcompile plot train.jsonl -o curves.csv
      the numbers, a row for each iteration that is told of
  netcompile plot train.jsonl
      a summary in words
"""
MOST_VALUES = 8  # of an output that are drawn one by one; of more, the mean is
LOSSES = ("loss", "err", "cost")
STEEP = 20.0  # the largest rate over the least, from which its scale is logarithmic by itself
SCORES = ("acc", "top", "precision", "recall", "map", "iou", "auc")


def parser() -> argparse.ArgumentParser:
    """The options of `netcompile plot`."""
    p = argparse.ArgumentParser(
        prog="netcompile plot",
        description="Draw the curves of one or more trainings.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("logs", metavar="LOG", nargs="+", help="a JSONL file of `netcompile train --log`, or a log of Caffe")
    p.add_argument(
        "-o", "--output", metavar="OUT", action="append", default=[], help="write this: .svg, .png, .pdf, .csv"
    )
    p.add_argument("--scale", choices=SCALES, default="auto", help="auto: log where values differ a thousandfold")
    p.add_argument("--theme", choices=THEMES, default="auto", help="auto: as the reader prefers")
    p.add_argument("--title", metavar="T", help="what stands above (default: the net's name)")
    return p


def main(arguments: list[str]) -> int:
    """Run `netcompile plot`. Returns the exit code."""
    options = parser().parse_args(arguments)
    for path in options.output:
        suffix = Path(path).suffix
        if suffix not in (*SUFFIXES, ".csv"):
            expected = ", ".join((*SUFFIXES, ".csv"))
            raise NetError(
                "curves are not written in this format", at=path, expected=expected, got=suffix or "no suffix"
            )
    export.check_targets(options.output, (*SUFFIXES, ".csv"))
    runs = [read_log(path) for path in options.logs]
    names = short_names(options.logs)
    titles = list(dict.fromkeys(run.title for run in runs if run.title))
    title = options.title or ", ".join(titles) or ", ".join(names)
    chart = Chart(title, panels(runs, names, options.scale), options.theme)
    for path in options.output:
        if Path(path).suffix == ".csv":
            with atomic(path) as file:
                file.write(table(runs, names).encode())
        else:
            chart.save(path)
        print(f"wrote {path}")
    if not options.output:
        for run in runs:
            _tell(run)
    return 0


def short_names(files: Sequence[str]) -> list[str]:
    """What some files are called in short: their paths, without the folder that all are in.

    >>> short_names(["runs/a/log.jsonl", "runs/b/log.jsonl"])
    ['a/log.jsonl', 'b/log.jsonl']
    """
    try:
        folder = commonpath([Path(file).parent for file in files])
    except ValueError:  # absolute and relative ones
        return list(files)
    return [str(Path(file).relative_to(folder)) for file in files]


def panels(runs: Sequence[Run], names: Sequence[str], scale: str = "auto") -> list[Panel]:
    """A panel for the losses, one for each other output, and one for the rate.

    The outputs of the training net that are the loss, or part of it, are drawn only where there are several of them.
    """
    shown: dict[str, list[tuple[int, Key]]] = {"loss": []}
    for i, run in enumerate(runs):
        parts = {k.name for k in run.curves if k.of == "train" and k.output and _is(k.name, LOSSES)}
        for key in sorted(run.curves, key=lambda k: (k.of != "train", k.net)):  # else in the order of the log
            if key == RATE or (key.of == "train" and key.name in parts and len(parts) == 1 and key.output):
                continue
            title = "loss" if not key.output or (key.item < 0 and _is(key.name, LOSSES)) else key.name
            if key.item <= 0 or _size(run, key) <= MOST_VALUES:
                shown.setdefault(title, []).append((i, key))
    shown["learning rate"] = [(i, RATE) for i, run in enumerate(runs) if RATE in run.curves]
    found = []
    for title, entries in shown.items():
        kinds = list(dict.fromkeys(key for _, key in entries))
        curves = []
        for n, (i, key) in enumerate(entries):
            points, name = _points(runs[i], key)
            if title == "learning rate":
                name = "rate"
            if len(runs) > 1:
                name = names[i] if len(kinds) == 1 else f"{name} · {names[i]}"
            colour, dash = (i, kinds.index(key)) if len(runs) > 1 else (n, 0)
            curves.append(Curve(name, tuple(points), colour, dash))
        best = "least" if _is(title, LOSSES) else "most" if _is(title, SCORES) else ""
        own = scale
        if title == "learning rate" and scale == "auto":
            rates = [y for curve in curves for _, y in curve.finite]
            own = "log" if rates and 0 < min(rates) * STEEP <= max(rates) else scale
        if curves:
            found.append(Panel(title, tuple(curves), own, best))
    return found


def _is(name: str, words: Sequence[str]) -> bool:
    return any(word in name.lower() for word in words)


def _size(run: Run, key: Key) -> int:
    """How many values the output has that a key is one value of."""
    return sum(k._replace(item=0) == key._replace(item=0) for k in run.curves)


def _points(run: Run, key: Key) -> tuple[list[tuple[float, float]], str]:
    """A curve and its name; of an output of many values, their mean."""
    if key.item != 0 or _size(run, key) <= MOST_VALUES:
        return [(float(x), y) for x, y in run.curves[key]], str(key)
    sums: dict[int, list[float]] = {}
    for other, points in run.curves.items():
        if other._replace(item=0) == key:
            for x, y in points:
                sums.setdefault(x, []).append(y)
    name = f"{key._replace(item=-1)}, mean of {_size(run, key)}"
    return [(float(x), sum(values) / len(values)) for x, values in sorted(sums.items())], name


def table(runs: Sequence[Run], names: Sequence[str]) -> str:
    """All curves as CSV: a row for each iteration, a column for each curve; with several logs, their name first."""
    keys = list(dict.fromkeys(key for run in runs for key in run.curves))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    several = len(runs) > 1
    rows.writerow([*(["log"] if several else []), "iteration", *map(str, keys)])
    for run, name in zip(runs, names, strict=True):
        curves = {key: dict(points) for key, points in run.curves.items()}
        for x in sorted({x for points in curves.values() for x in points}):
            cells = [f"{curves[k][x]:.9g}" if x in curves.get(k, {}) else "" for k in keys]
            rows.writerow([*([name] if several else []), x, *cells])
    return text.getvalue()


def _tell(run: Run) -> None:
    """The last and the best value of each curve."""
    print(f"{run.file}{f': {run.title}' if run.title else ''}")
    for key in sorted(run.curves, key=lambda k: (k.of != "train", k not in (LOSS, RATE))):
        x, y = run.curves[key][-1]
        words = f"{y:.6g} at iteration {x:,}"
        finite = [p for p in run.curves[key] if isfinite(p[1])]
        pick: Callable[..., tuple[int, float]] | None = None
        if finite and _is(key.name, LOSSES):
            pick = min
        elif finite and _is(key.name, SCORES):
            pick = max
        if pick:
            x, y = pick(finite, key=lambda p: p[1])
            words += f"; best {y:.6g} at {x:,}"
        print(f"  {key!s:<24} {words}")
