"""How many of other people's prototxts are read and built, and why the others are not.

    python benchmarks/corpus.py FOLDER [--processes N] [--seconds N] [--only WORD]

FOLDER holds INDEX.tsv, one row a file: path, family, kind (deploy, train_val, test, solver, fragment), template (y where
words are still to be filled in). Templates and fragments are no whole files and are left out.

A solver counts when it is read. A net counts when it builds in every state that it is written for: those of the solvers
beside it where it has stages, else TRAIN and TEST where its rules name them, else the phase of its kind. Inputs and data
layers whose shape hangs on files that are not here are given one: as many pictures as they say, of the size that is usual
for the family (`PICTURES`), and labels as the losses want them. No other layer is helped, no code that a net names is
run, and nothing is computed: all this is about shapes. A file that takes longer than --seconds counts as refused.

Prints each refusal with its place, the causes by how many files have them, and three shares: of all whole files; without
the texts of Caffe's own unit tests (family bvlc_unit_pairs: snippets of nets that show how texts are upgraded, filtered
and split, and that nobody builds); and of those that Caffe does not stop at as well (`CAFFE_STOPS`).
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import re
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import netcompiler
from netcompiler import upgrade
from netcompiler.builder import included, net_state
from netcompiler.errors import NetError, ShapeUnknown
from netcompiler.graph import UNKNOWN
from netcompiler.layers import registry

State = tuple[str, tuple[str, ...]]
Shape = tuple[int, ...]
PICTURE = (3, 224, 224)
PICTURES = {  # where PICTURE is not what a family's data layers make
    "12net": (3, 12, 12),
    "24net": (3, 24, 24),
    "48net": (3, 48, 48),
    "alexnet": (3, 227, 227),
    "bvlc_legacy_V0": (3, 227, 227),
    "caffenet": (3, 227, 227),
    "center_loss": (3, 112, 96),
    "siamese": (2, 28, 28),
    "cifar": (3, 32, 32),
    "inception_v3": (3, 299, 299),
    "mnist": (1, 28, 28),
    "mobilenet_ssd": (3, 300, 300),
    "segnet": (3, 360, 480),
    "sr_vdsr_aod": (1, 41, 41),
    "ssd": (3, 300, 300),
}
NAMED = {  # what other data layers make, by the names of their tops
    "cont_sentence": (80, 32),
    "frame_fc7": (80, 32, 4096),
    "input_sentence": (80, 32),
    "stage_indicator": (80, 32),
    "target_sentence": (80, 32),
}
# Layers that compare a map of classes with one label for each place; others want labels of the first bottom's shape.
CLASSES = ("Accuracy", "HingeLoss", "InfogainLoss", "MultinomialLogisticLoss", "ParseEvaluate", "SoftmaxWithLoss")
SNIPPETS = "bvlc_unit_pairs"
# What Caffe and all its forks stop at too: faults of the text, and checks that Caffe's layers have.
CAFFE_STOPS = re.compile(
    r"a bad value for|a field name is missing|has no field|num_output must be positive|unknown bottom"
    r"|the wrong number of bottoms|top_k is out of range|-1 cannot be found from the count"
    r'|the crop is larger than the picture|unknown layer type "implicit"'
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one file: `fault` is None where it counts."""

    path: str
    kind: str
    fault: NetError | None = None
    state: State | None = None

    @property
    def is_snippet(self) -> bool:
        """Whether it is of the unit tests of texts."""
        return f"/{SNIPPETS}/" in self.path

    @property
    def caffe_stops(self) -> bool:
        """Whether Caffe refuses it as well."""
        if self.fault is None or self.fault.expected == "a string in quotes":  # MyCaffe's own reader wants no quotes
            return False
        return CAFFE_STOPS.search(self.fault.what) is not None

    @property
    def cause(self) -> str:
        """The fault without names, so that alike ones fall together."""
        return re.sub(r'"[^"]*/[^"]*"', '"..."', self.fault.what) if self.fault else ""


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of INDEX.tsv that are whole files."""
    with open(folder / "INDEX.tsv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file, delimiter="\t"))
    return [row for row in found if row["template"] != "y" and row["kind"] != "fragment"]


def judge(folder: Path, row: dict[str, str]) -> Verdict:
    """Read and build one file."""
    path, kind = row["path"], row["kind"]
    state = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", netcompiler.NetWarning)
            if kind == "solver":
                upgrade.load_solver(folder / path)
                return Verdict(path, kind)
            net = netcompiler.load(folder / path)
            for state in solver_states(folder / path, net) or states(net, kind):
                built(net, state, picture(row))
    except NetError as e:
        return Verdict(path, kind, e, state)
    return Verdict(path, kind)


def states(net: Any, kind: str) -> list[State]:
    """The states that a net is written for: those that include its data layers, or that rules name, else by its kind."""
    usual = "TRAIN" if kind == "train_val" else "TEST"
    sources = [m for m in net.layer if not m.raw.bottom] or list(net.layer)
    rules = [rule for m in net.layer for rule in m.include]
    phases = {rule.enum("phase") for rule in rules if rule.has("phase")} or {usual}
    stages = {tuple(rule.stage) for rule in rules} | {()}
    found = []
    for phase in sorted(phases):
        for stage in sorted(stages):
            held = [m.name for m in sources if included(m, *net_state(net, phase, 0, stage))]
            if held:
                found.append((phase, stage))
    return found or [(usual, ())]


def solver_states(path: Path, net: Any) -> list[State]:
    """The states in which the solvers beside a net that has stages run it."""
    found = []
    if any(rule.stage for m in net.layer for rule in (*m.include, *m.exclude)):
        owner, name = path.name.split("__")[0], path.name.split("__")[-1]
        for solver in map(upgrade.load_solver, sorted(path.parent.glob(f"{owner}__*solver*"))):
            if solver.net.split("/")[-1] == name:
                found += [("TRAIN", tuple(solver.train_state.stage))]
                found += [("TEST", tuple(state.stage)) for state in solver.test_state]
    return found


def picture(row: dict[str, str]) -> Shape:
    """The size of a family's pictures."""
    known = (shape for word, shape in PICTURES.items() if word in f"{row['family']} {row['path']}")
    return next(known, PICTURE)


def built(net: Any, state: State, image: Shape) -> Any:
    """The graph of a net in a state, data layers of unknown shape given one after the other."""
    phase, stages = state
    inputs: dict[str, Shape] = {}
    fitted = False
    while True:
        try:
            return netcompiler.build(net, phase, stages=stages, inputs=inputs)
        except ShapeUnknown as e:
            layer = next(m for m in net.layer if m.at("type") == e.at or m.at() == e.at)
            top = layer.raw.top[e.top]
            inputs[top] = NAMED.get(top) or (batch(layer), *(image if e.top == 0 else (1,)))
        except NetError:
            targets = {} if fitted else wanted(net, state, inputs)
            if not targets:
                raise
            inputs |= targets
            fitted = True


def wanted(net: Any, state: State, inputs: dict[str, Shape]) -> dict[str, Shape]:
    """The shapes that losses and accuracies ask of the inputs that they compare something with."""
    phase, stages = state
    graph = netcompiler.build(net, phase, stages=stages, inputs=inputs, partial=True)
    fed = {v.blob for v in graph.inputs()}
    found = {}
    for m in net.layer:
        compares = m.type in CLASSES or (m.type in registry and registry[m.type].is_loss)
        node = next((n for n in graph.nodes if n.name == m.name), None)
        if compares and len(m.bottom) > 1 and m.bottom[1] in fed and node is not None:
            scores = next((v.shape for v in node.bottoms if v.blob == m.bottom[0]), ())
            if scores and scores != UNKNOWN:
                found[m.bottom[1]] = (scores[0], 1, *scores[2:]) if m.type in CLASSES else scores
    return found


def batch(layer: Any) -> int:
    """How many pictures a data layer reads at once."""
    for field, value in layer.raw.ListFields():
        if field.message_type is not None and "batch_size" in field.message_type.fields_by_name and value.batch_size:
            return int(value.batch_size)
    return 2


def survey(folder: Path, processes: int, seconds: float, only: str = "") -> Iterator[Verdict]:
    """The verdicts on all whole files, in the order of INDEX.tsv."""
    work = [(folder, row, seconds) for row in rows(folder) if only in row["path"]]
    if processes == 1:
        yield from map(_timed, work)
        return
    with multiprocessing.Pool(processes) as pool:
        yield from pool.imap(_timed, work, chunksize=8)


def _timed(work: tuple[Path, dict[str, str], float]) -> Verdict:
    folder, row, seconds = work

    def stop(*_: Any) -> None:
        raise NetError(f"not done after {seconds:g} s", at=str(folder / row["path"]))

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return judge(folder, row)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def share(verdicts: list[Verdict]) -> str:
    """How many of them count, in words."""
    good = sum(v.fault is None for v in verdicts)
    return f"{good:5} of {len(verdicts):5}, {good / max(len(verdicts), 1):.1%}"


def main() -> None:
    """Print the survey."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path, metavar="FOLDER")
    words.add_argument("--processes", type=int, default=os.cpu_count())
    words.add_argument("--seconds", type=float, default=20, help="for one file")
    words.add_argument("--only", default="", help="only paths that hold this word")
    options = words.parse_args()
    start = time.perf_counter()
    verdicts = list(survey(options.folder, options.processes, options.seconds, options.only))
    took = time.perf_counter() - start
    refused = [v for v in verdicts if v.fault]
    for v in refused:
        phase, stages = v.state or ("", ())
        print(" ".join(filter(None, (v.path, phase, *stages))), v.fault, "", sep="\n")
    for (cause, stops), n in Counter((v.cause, v.caffe_stops) for v in refused).most_common():
        print(f"{n:5}  {cause}{' (Caffe too)' if stops else ''}")
    for kind in dict.fromkeys(v.kind for v in verdicts):
        print(f"{kind:35}{share([v for v in verdicts if v.kind == kind])}")
    print(f"{'all whole files':35}{share(verdicts)}")
    print(f"{'without the unit tests of texts':35}{share([v for v in verdicts if not v.is_snippet])}")
    print(f"{'that Caffe does not stop at, too':35}{share([v for v in verdicts if not v.caffe_stops])}")
    print(f"in {took:.1f} s, {options.processes} processes")


if __name__ == "__main__":
    main()
