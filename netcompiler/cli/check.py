"""`netcompile check`: what becomes of any number of prototxts, file by file, and of their layer types in total."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import dialects, layers
from ..builder import build, included, net_state
from ..errors import NetError, NetWarning, ShapeUnknown, Span
from ..text import Msg, parse_message, read_text
from ..upgrade import upgrade, upgrade_solver
from . import dialect_options
from .run import input_shapes

EXAMPLES = """\
examples:
  netcompile check net.prototxt
  netcompile check models/ --json > report.json
  netcompile check train_val.prototxt --phase TRAIN --input data=8,3,224,224

A net is built for TEST and for TRAIN; the better result counts, and the other phase's faults are told. It is one of:
  builds
  shapes needed  it builds once the shape of an input is given (--input): the net does not tell it
  refused        with every reason and its place
  solver         a solver's file, which reads; the net that it names is not followed
The exit code is 0 when no file is refused, else 2.
"""


def parser() -> argparse.ArgumentParser:
    """The options of `netcompile check`."""
    p = argparse.ArgumentParser(
        prog="netcompile check",
        description="Check Caffe net definitions without running them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("path", metavar="FILE_OR_DIR", nargs="+", help="prototxts, or folders to search for *.prototxt")
    p.add_argument("--phase", choices=("TRAIN", "TEST"), type=str.upper, help="this phase only (default: both)")
    p.add_argument("--stage", metavar="S", action="append", default=[], help="a stage that is on (repeatable)")
    p.add_argument("--level", metavar="N", type=int, default=0, help="the level (default: 0)")
    p.add_argument(
        "--input", metavar="NAME=DIMS", action="append", default=[], help="a shape, for nets with that input"
    )
    dialect_options(p)
    p.add_argument("-q", "--quiet", action="store_true", help="totals only")
    p.add_argument("--json", action="store_true", help="the report as JSON")
    return p


RESULTS = ("builds", "shapes needed", "refused")  # of a net, the best first


@dataclass
class Verdict:
    """What became of one file."""

    path: str
    result: str
    faults: list[NetError] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)
    layers: int = 0
    phases: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)  # unknown fields, by --unknown keep


def main(arguments: list[str]) -> int:
    """Run `netcompile check`. Returns the exit code."""
    options = parser().parse_args(arguments)
    if options.dialect:
        dialects.checked(options.dialect)
    shapes = input_shapes(options.input)
    verdicts = []
    for path in _files(options.path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NetWarning)
            verdict = check(path, [options.phase] if options.phase else ["TEST", "TRAIN"], options, shapes)
        verdicts.append(verdict)
        if not options.json and not options.quiet:
            _tell(verdict)
    if not verdicts:
        raise NetError("no prototxt found", at=", ".join(options.path), expected="files, or folders with *.prototxt")
    if options.json:
        print(json.dumps(_as_json(verdicts), indent=1))
    else:
        _totals(verdicts)
    return 2 if any(v.result == "refused" for v in verdicts) else 0


def _files(paths: Iterable[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        yield from sorted(p for p in path.rglob("*.prototxt") if not p.is_dir()) if path.is_dir() else [path]


def check(path: Path, phases: list[str], options: argparse.Namespace, shapes: dict[str, tuple[int, ...]]) -> Verdict:
    """The verdict on one file. Unknown fields and layers do not stop the count of its layer types."""
    try:
        text = read_text(path)
    except NetError as e:
        return Verdict(str(path), "refused", [e])
    faults: list[NetError] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", NetWarning)
        msg = parse_message(text, file=str(path), faults=faults, unknown=options.unknown)
    kept = [str(w.message).removeprefix(f"{path}:") for w in told]
    if faults and not _types(msg):
        solver_faults: list[NetError] = []
        solver = parse_message(text, kind="SolverParameter", file=str(path), faults=solver_faults)
        if len(solver_faults) < len(faults):
            return _solver(str(path), solver, solver_faults)
    try:
        msg = upgrade(msg)
    except NetError as e:
        return Verdict(str(path), "refused", [*faults, *e.all], _types(msg))
    verdict = Verdict(str(path), "refused", faults, _types(msg), kept=kept)
    if not faults:
        _build(msg, phases, options, shapes, verdict)
    return verdict


def _solver(path: str, solver: Msg, faults: list[NetError]) -> Verdict:
    try:
        upgrade_solver(solver)
    except NetError as e:
        faults = [*faults, *e.all]
    return Verdict(path, "refused" if faults else "solver", faults)


def _build(
    msg: Msg, phases: list[str], options: argparse.Namespace, shapes: dict[str, tuple[int, ...]], verdict: Verdict
) -> None:
    """Build in each phase; the best result counts, since many nets are written for one phase only."""
    results = {}
    told: set[str] = set()
    for phase in phases:
        try:
            verdict.layers = max(verdict.layers, len(_with_known_inputs(msg, phase, options, shapes).nodes))
            results[phase] = "builds"
        except NetError as e:
            results[phase] = "shapes needed" if isinstance(e, ShapeUnknown) else "refused"
            verdict.faults += [f for f in e.all if str(f) not in told]
            told.update(str(f) for f in e.all)
    verdict.result = next(r for r in RESULTS if r in results.values())
    verdict.phases = results


def _with_known_inputs(msg: Msg, phase: str, options: argparse.Namespace, shapes: dict[str, tuple[int, ...]]) -> Any:
    """Build with those of the given shapes that the net has a use for: a folder's nets have different inputs."""
    state = net_state(msg, phase, options.level, options.stage)
    sources = [m for m in msg.layer if m.type in layers.registry and layers.registry[m.type].is_input]
    inputs = {top for m in sources if included(m, *state) for top in m.top}
    given = {name: shape for name, shape in shapes.items() if name in inputs}
    return build(msg, phase, options.level, options.stage, given, dialect=options.dialect)


def _types(msg: Msg) -> Counter[str]:
    """How often each layer type stands in a net, of whatever generation."""
    found = Counter(str(m.type) for m in msg.layer)
    found.update(m.layer.type if m.has("layer") else m.enum("type") for m in msg.layers)
    return found


def _tell(verdict: Verdict) -> None:
    size = f" ({verdict.layers} layers)" if verdict.layers else ""
    only = [phase for phase, result in verdict.phases.items() if result == verdict.result]
    phase = f", as {only[0]} only" if 0 < len(only) < len(verdict.phases) else ""
    print(f"{verdict.result:<14} {verdict.path}{size}{phase}")
    for line in verdict.kept:
        print(f"    {line}")
    for fault in verdict.faults:
        print("    " + "\n    ".join(_brief(fault).splitlines()))


def _brief(fault: NetError) -> str:
    """A fault without the source line: the place says enough in a list."""
    where = f"{fault.at.line}:{fault.at.column}: " if isinstance(fault.at, Span) else ""
    told = f" (expected {fault.expected})" if fault.expected is not None else ""
    told += f" (got {fault.got})" if fault.got is not None else ""
    return f"{where}{f'layer {fault.layer}: ' if fault.layer else ''}{fault.what}{told}"


def _totals(verdicts: list[Verdict]) -> None:
    results = Counter(v.result for v in verdicts)
    print(f"\n{len(verdicts)} files: " + ", ".join(f"{n} {what}" for what, n in results.most_common()))
    types, files = _by_type(verdicts)
    if types:
        print(f"\n{'layer type':<28} {'layers':>8} {'files':>7}")
        for kind, count in sorted(types.items(), key=lambda t: (t[0] not in layers.registry, -t[1], t[0])):
            unknown = "" if kind in layers.registry else "  unknown"
            print(f"{kind or '(none)':<28} {count:>8} {files[kind]:>7}{unknown}")
    sys.stdout.flush()


def _by_type(verdicts: list[Verdict]) -> tuple[Counter[str], Counter[str]]:
    """For each layer type, how many layers have it, and how many files."""
    types: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for verdict in verdicts:
        types.update(verdict.types)
        files.update(verdict.types.keys())
    return types, files


def _as_json(verdicts: list[Verdict]) -> dict[str, Any]:
    types, files = _by_type(verdicts)
    return {
        "files": [
            {
                "path": v.path,
                "result": v.result,
                "layers": v.layers,
                "phases": v.phases,
                "faults": [_fault_as_json(f) for f in v.faults],
                **({"kept": v.kept} if v.kept else {}),
            }
            for v in verdicts
        ],
        "totals": Counter(v.result for v in verdicts),
        "types": {k: {"layers": types[k], "files": files[k], "known": k in layers.registry} for k in sorted(types)},
    }


def _fault_as_json(fault: NetError) -> dict[str, Any]:
    at = fault.at
    place = {"line": at.line, "column": at.column} if isinstance(at, Span) else {}
    told = {"what": fault.what, "layer": fault.layer, "expected": fault.expected, "got": fault.got, "hint": fault.hint}
    return place | {k: str(v) for k, v in told.items() if v is not None}
