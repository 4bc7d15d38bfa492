"""`netcompile diff`: two nets side by side by structure, as text, JSON, a picture or a page."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ..binary import read_net
from ..builder import build
from ..compare import (
    COUNTS,
    WORDS,
    Change,
    Diff,
    Pair,
    compare,
    growth,
    totals_rows,
    value_text,
    visible,
    weight_text,
)
from ..drawing.difference import SUFFIXES, Difference
from ..errors import NetError
from ..export import check_targets
from ..files import atomic
from ..graph import UNKNOWN, Array, Graph, Shape, dims
from ..splits import without_splits
from ..text import Msg, parse_message, read_text
from ..upgrade import upgrade
from ..weights import read_weights
from . import dialect_options
from .figures import tell_faults
from .run import input_shapes

EXAMPLES = """\
examples:
  netcompile diff old.prototxt new.prototxt
  netcompile diff deploy.prototxt trained.caffemodel
      the net that was written, and the one that was saved with its weights
  netcompile diff before.caffemodel after.caffemodel -o diff.json
      nets and weights
  netcompile diff old.prototxt new.prototxt -o diff.html
      both nets drawn side by side, what differs marked; also .svg, .png, .pdf

Layers are matched by name, then by structure: the longest runs of layers that are alike. What stands in front of them:
  ~ changed      its type, its settings as they are resolved, what it reads; shapes and figures with it
  + added, - removed
  . affected     not itself, but its shapes or figures by other layers
  * training     only how it learns: fillers, lr_mult and decay_mult, propagate_down
  > renamed      nothing but names differ
The last three, and layers that are the same, are told in one line where there are many; --all lists every layer.
Where the batches differ, layers are compared for one image. An input whose shape one net does not tell has that of the
other net. Of a .caffemodel, the net inside is compared, for the phase that it was saved in unless --phase is given.
The exit code is 0 when nothing differs, 1 when anything does, 2 for a file that cannot be read.
"""


def parser() -> argparse.ArgumentParser:
    """The options of `netcompile diff`."""
    p = argparse.ArgumentParser(
        prog="netcompile diff",
        description="Compare two nets by structure: layers, settings, shapes, figures, weights.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("a", metavar="A", help="a prototxt, or a .caffemodel")
    p.add_argument("b", metavar="B", help="another")
    known = ", ".join((".json", *SUFFIXES))
    p.add_argument("-o", "--output", metavar="OUT", action="append", default=[], help=f"write this file: {known}")
    p.add_argument("--phase", choices=("TRAIN", "TEST"), type=str.upper, help="default: as saved, else TEST")
    p.add_argument("--stage", metavar="S", action="append", default=[], help="a stage that is on (repeatable)")
    p.add_argument("--level", metavar="N", type=int, default=0, help="the level (default: 0)")
    p.add_argument("--input", metavar="NAME=DIMS", action="append", default=[], help="its shape: data=1,3,224,224")
    p.add_argument("--allow-python", action="store_true", help="run the code that Python layers name")
    dialect_options(p, unknown=False)
    p.add_argument("-a", "--all", action="store_true", help="list every layer")
    p.add_argument("-q", "--quiet", action="store_true", help="no output but the exit code, and -o")
    p.add_argument("--json", action="store_true", help="the report as JSON")
    d = p.add_argument_group("pictures: -o diff.svg, .png, .pdf, and .html, a page with the differences beside them")
    d.add_argument("--theme", choices=("auto", "light", "dark"), default="auto", help="auto: as the reader prefers")
    d.add_argument(
        "--fold", metavar="N", type=int, help="what repeats N times is shown once (default: 3; large blocks: 2)"
    )
    d.add_argument("--expand", action="store_true", help="show everything")
    return p


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its message in today's form, the phase that it was saved in, and the weights, where it has any."""

    path: str
    msg: Msg
    faults: tuple[NetError, ...]
    phase: str | None = None
    blobs: Mapping[str, list[Array]] | None = None


def main(arguments: list[str]) -> int:
    """Run `netcompile diff`. Returns the exit code."""
    options = parser().parse_args(arguments)
    check_targets(options.output, SUFFIXES, writers=[".json"])
    if options.fold is not None and options.fold < 2:
        what = "--fold: the least number of repetitions to fold is too small"
        raise NetError(what, expected="at least 2", got=options.fold, hint="--expand shows everything")
    fork = options.dialect
    sides = read_side(options.a, options.phase, fork), read_side(options.b, options.phase, fork)
    a, b = _graphs(sides, options, input_shapes(options.input))
    tell_faults(a, b)
    diff = compare(a, b, sides[0].blobs, sides[1].blobs)
    report = {"files": [options.a, options.b], **diff.as_json()}
    if options.json:
        print(json.dumps(report, indent=1))
    elif not options.quiet:
        for line in _Text(diff, (options.a, options.b), options.all, _colours()).lines():
            print(line)
    drawing = Difference(diff, (options.a, options.b), options.theme, options.fold, options.expand)
    for path in options.output:
        if Path(path).suffix == ".json":
            with atomic(path) as file:
                file.write((json.dumps(report, indent=1) + "\n").encode())
        else:
            drawing.save(path)
        if not (options.json or options.quiet):
            print(f"wrote {path}")
    return 0 if diff.equal else 1


def read_side(path: str, phase: str | None = None, dialect: str | None = None) -> Side:
    """A prototxt, or the net and the weights of a .caffemodel.

    phase: the NetState's, where it is asked for: what a saved net says of its own is dropped then.
    dialect: the fork that saved a .caffemodel; detected for None.
    Raises: NetError for a file that cannot be read.
    """
    if not _is_binary(path):
        faults: list[NetError] = []
        msg = upgrade(parse_message(read_text(path), file=path, faults=faults))
        if not len(msg.layer):
            raise NetError.join(faults or [NetError("the net has no layers", at=path)])
        return Side(path, msg, tuple(faults))
    msg = without_splits(upgrade(read_net(path, dialect)))
    saved = {m.enum("phase") for m in msg.layer if m.has("phase")}
    saved |= {rule.enum("phase") for m in msg.layer for rule in m.include if rule.has("phase")}
    if phase:
        for m in msg.layer:
            m.raw.ClearField("phase")
    return Side(path, msg, (), "TRAIN" if saved == {"TRAIN"} else "TEST" if saved else None, read_weights(path))


def _is_binary(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
    except OSError:
        return False  # the reader of text says why
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    return not utf16 and bool(re.search(rb"[\x00-\x08\x0e-\x1f]", head))


def _graphs(sides: tuple[Side, Side], options: argparse.Namespace, shapes: Mapping[str, Shape]) -> tuple[Graph, Graph]:
    """Both graphs, as far as they can be built; an input that one does not tell the shape of has that of the other."""
    default = sides[0].phase or sides[1].phase or "TEST"
    tops = [{top for m in side.msg.raw.layer for top in m.top} for side in sides]
    inputs = {top: None for side in sides for m in side.msg.raw.layer if not m.bottom for top in m.top}
    for name in shapes:
        if name not in inputs:
            what = f'no input of the two nets is called "{name}"'
            raise NetError(what, expected=f"one of {', '.join(inputs) or 'none'}")

    def built(k: int, more: Mapping[str, Shape]) -> Graph:
        given = {name: shape for name, shape in {**more, **shapes}.items() if name in tops[k]}
        phase = options.phase or sides[k].phase or default
        state = phase, options.level, options.stage
        about: dict[str, Any] = {"partial": True, "dialect": options.dialect}
        graph = build(sides[k].msg, *state, given, options.allow_python, **about)
        for fault in graph.faults:
            fault.at = fault.at or sides[k].path
        return replace(graph, faults=(*sides[k].faults, *graph.faults))

    a, b = built(0, {}), built(1, {})
    known = [{v.blob: v.shape for v in graph.inputs()} for graph in (a, b)]
    open_ = [{v.blob for n in g.nodes if not n.bottoms for v in n.tops if v.shape == UNKNOWN} for g in (a, b)]
    more = [{name: known[1 - k][name] for name in open_[k] & set(known[1 - k])} for k in (0, 1)]
    return built(0, more[0]) if more[0] else a, built(1, more[1]) if more[1] else b


# --- text ---

RED, GREEN, YELLOW, CYAN, DIM, BOLD = "31", "32", "33", "36", "2", "1"
MARKS = {
    "changed": ("~", YELLOW),
    "added": ("+", GREEN),
    "removed": ("-", RED),
    "affected": (".", DIM),
    "training": ("*", CYAN),
    "renamed": (">", CYAN),
    "same": (" ", DIM),
}
QUIET = {  # told of in one line where they stand together
    "same": "the same",
    "renamed": "renamed",
    "training": "with other training settings",
    "affected": "with other shapes or figures",
}
FEW = 8  # layers of a quiet status that are listed all the same


def _colours() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


class _Text:
    """The lines that tell of a Diff."""

    def __init__(self, diff: Diff, files: tuple[str, str], every: bool, colours: bool) -> None:
        self.diff, self.files, self.every, self.colours = diff, files, every, colours

    def painted(self, text: str, *codes: str) -> str:
        return f"\033[{';'.join(codes)}m{text}\033[0m" if self.colours and codes else text

    def lines(self) -> Iterator[str]:
        """All of them."""
        diff = self.diff
        for mark, colour, file, graph in (("-", RED, self.files[0], diff.a), ("+", GREEN, self.files[1], diff.b)):
            name = f"{visible(graph.name)}, " if graph.name else ""
            about = f"{name}phase {graph.phase}, {len(graph.nodes)} layers"
            yield self.painted(f"{mark * 3} {visible(file)}  ({about})", BOLD, colour)
        if diff.equal:
            yield "no differences" + (f", the weights are equal ({diff.weighed} blobs)" if diff.weighed else "")
            return
        for change in diff.changes:
            yield f"{change.what}: {self.change(change)}"
        yield ""
        count = diff.count()
        listed = {
            s for s in MARKS if s not in QUIET or self.every or (s in ("renamed", "training") and count[s] <= FEW)
        }
        for loud, group in groupby(diff.pairs, key=lambda pair: pair.status in listed):
            pairs = list(group)
            yield from (line for pair in pairs for line in self.pair(pair)) if loud else [self.run(pairs)]
        yield from self.training(listed)
        yield ""
        yield from self.weights()
        yield from self.totals()
        words = {"same": "the same", "training": "in training only"}
        yield ", ".join(f"{n} {words.get(status, status)}" for status, n in count.items() if n)

    def run(self, pairs: list[Pair]) -> str:
        """Several layers in one line."""
        names = [self.name(pair) for pair in pairs]
        span = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        found = Counter(pair.status for pair in pairs)
        counts = [f"{found[s]} {word}" if len(pairs) > 1 else word for s, word in QUIET.items() if found[s]]
        return self.painted(f"  {span}: {', '.join(counts)}", DIM)

    def training(self, listed: set[str]) -> Iterator[str]:
        """How often each training setting differs, where that is not listed."""
        found = Counter(
            c.what for p in self.diff.pairs if p.status not in listed or p.status != "training" for c in p.training
        )
        if found and "training" not in listed:
            yield ""
            told = ", ".join(f"{what} in {n} layers" for what, n in found.most_common())
            yield f"training settings that differ (--all lists them): {told}"

    def name(self, pair: Pair) -> str:
        """A layer's name; both, where they differ."""
        names = [
            visible(graph.nodes[i].name) for graph, i in ((self.diff.a, pair.a), (self.diff.b, pair.b)) if i is not None
        ]
        return names[0] if len(set(names)) == 1 else " -> ".join(names)

    def pair(self, pair: Pair) -> Iterator[str]:
        """One layer: a line for itself, and one for each thing that differs."""
        mark, colour = MARKS[pair.status]
        node = self.diff.a.nodes[pair.a] if pair.b is None and pair.a is not None else self.diff.b.nodes[pair.b or 0]
        line = f"{mark} {self.name(pair)}  {visible(node.layer.kind)}"
        if pair.status in ("added", "removed"):
            brief = visible(node.layer.brief())
            shapes = ", ".join(dims(shape) for shape in node.top_shapes)
            line += "".join(f"  {part}" for part in (brief, shapes and f"-> {shapes}") if part)
        yield self.painted(line, colour)
        renamed = [c for c in pair.names if c.what != "name"] if pair.status == "renamed" else []
        training = pair.training if self.every or pair.status == "training" else ()
        for change in (*pair.changes, *pair.effects, *training, *renamed):
            yield f"    {WORDS.get(change.what, change.what):<16} {self.change(change)}"

    def change(self, change: Change) -> str:
        """`old -> new`, and of numbers by how much."""
        a, b = change.a, change.b
        told = f"{self.painted(value_text(change.what, a), RED)} -> {self.painted(value_text(change.what, b), GREEN)}"
        return told + (_noted(growth(a, b)) if change.what in COUNTS else "")

    def weights(self) -> Iterator[str]:
        """A table of the blobs whose values differ, the most different first."""
        if not self.diff.weighed:
            return
        found = [(self.name(pair), w) for pair in self.diff.pairs for w in pair.weights if not w.equal]
        if not found:
            yield f"weights: all {self.diff.weighed} blobs are equal"
            yield ""
            return
        yield f"weights: {len(found)} of {self.diff.weighed} blobs differ"
        found.sort(key=lambda row: -(row[1].relative if row[1].relative is not None else float("inf")))
        shown = found if self.every else found[:20]
        width = max(len(f"{name}.{w.blob}") for name, w in shown)
        for name, w in shown:
            told = f"{name}.{w.blob}".ljust(width)
            yield f"  {told}  {weight_text(w)}"
        if len(found) > len(shown):
            yield f"  ... and {len(found) - len(shown)} more: --all"
        yield ""

    def totals(self) -> Iterator[str]:
        """Both nets' totals, for one image where the batches differ."""
        a, b = self.diff.totals
        many = a.images != b.images
        texts = [
            (WORDS.get(what, what), value_text(what, p), value_text(what, q), _noted(growth(p, q)))
            for what, p, q in totals_rows(self.diff)
        ]
        widths = [max(len(row[k]) for row in texts) for k in range(3)]
        yield "totals" + (", for one image" if many else "")
        for what, p, q, by in texts:
            yield f"  {what:<{widths[0]}}  {p:>{widths[1]}}  {q:>{widths[2]}}{by}".rstrip()
        for file, found in zip(self.files, (a, b), strict=True):
            if found.unknown:
                left = f"{found.unknown} of {found.layers} layers are not known, and not counted"
                yield f"  at least, for {visible(file)}: {left}"


def _noted(by: str) -> str:
    return f"  ({by})" if by else ""
