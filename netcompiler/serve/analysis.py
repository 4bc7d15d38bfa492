"""A text -> what the editor shows of it: faults at their places, the graph as far as it can be made out, figures."""

from __future__ import annotations

import gc
import hashlib
import json
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..builder import build
from ..drawing.page import page_data
from ..errors import NetError, NetWarning, ShapeUnknown, Span
from ..graph import Graph, Shape
from ..layers import registry
from ..prototxt import Unreadable, extent
from ..text import Msg, parse_message
from ..upgrade import upgrade, upgrade_solver

FILE = "the text"  # stands for the file in places, and is not shown
KEPT = 8  # analyses kept, so that undo and a second tab answer at once


@dataclass(frozen=True, slots=True)
class State:
    """What a net is looked at as: the NetState, shapes given for inputs that the net does not tell them of, and the fork
    that it is written for, as `build` takes it."""

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()
    inputs: tuple[tuple[str, Shape], ...] = ()
    dialect: str | None = None


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of a text.

    kind: "net" or "solver".  msg: the message in today's form, None where the upgrade refuses it.
    graph: in part where there are faults; None for a solver, and without msg.
    readable: False where the text cannot be made out to its end; then the graph is that of what stands above.
    whole: whether the message holds all that the text says.
    """

    kind: str
    faults: tuple[NetError, ...]
    warnings: tuple[str, ...] = ()
    msg: Msg | None = None
    graph: Graph | None = None
    readable: bool = True
    whole: bool = True


def analyse(text: str, state: State = State(), file: str = FILE) -> Analysis:
    """All faults of a text, and its graph. Python layers' code is never run. Not for two threads at once: see Analyst."""
    found: list[NetError] = []
    msg = parse_message(text, file=file, faults=found)
    if _is_solver(msg, text, found):
        return _solver(text)
    readable = not any(isinstance(e, Unreadable) for e in found)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", NetWarning)
        try:
            msg = upgrade(msg)
            about: dict[str, Any] = {"partial": True, "dialect": state.dialect}
            graph = build(msg, state.phase, state.level, state.stages, _useful(msg, state), **about)
        except NetError as e:
            return Analysis("net", (*found, *_above(e.all, msg, readable)), readable=readable, whole=not found)
    faults = (*found, *_above((e for f in graph.faults for e in f.all), msg, readable))
    notes = dict.fromkeys(str(w.message) for w in told if issubclass(w.category, NetWarning))
    return Analysis("net", faults, tuple(notes), msg, graph, readable, not found)


def _above(faults: Iterable[NetError], msg: Msg, readable: bool) -> list[NetError]:
    """The faults, but for those of the layer that a text breaks off in: it is not all there."""
    last = msg.layer[-1].at() if len(msg.layer) else None
    if readable or last is None:
        return list(faults)
    return [e for e in faults if isinstance(e.at, Span) and (e.at.line, e.at.column) < (last.line, last.column)]


def _useful(msg: Msg, state: State) -> dict[str, Shape]:
    """The given shapes of inputs that the net has: a name may be on its way out of the text."""
    fed = [layer for layer in msg.raw.layer if layer.type in registry and registry[layer.type].is_input]
    tops = {top for layer in fed for top in layer.top}
    return {name: shape for name, shape in state.inputs if name in tops}


def _is_solver(msg: Msg, text: str, faults: list[NetError]) -> bool:
    """Whether a text without any layer reads better as a solver's settings."""
    if not faults or len(msg.layer) or len(msg.layers):
        return False
    others: list[NetError] = []
    parse_message(text, kind="SolverParameter", file=FILE, faults=others)
    return len(others) < len(faults)


def _solver(text: str) -> Analysis:
    faults: list[NetError] = []
    msg: Msg | None = parse_message(text, kind="SolverParameter", file=FILE, faults=faults)
    readable = not any(isinstance(e, Unreadable) for e in faults)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetWarning)
        try:
            msg = upgrade_solver(msg) if msg is not None else None
        except NetError as e:
            faults += e.all
            msg = None
    return Analysis("solver", tuple(faults), msg=msg, readable=readable, whole=not faults)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the editor is told of a text. net: what the diagram draws, as JSON; "null" for none.  id: stands for the net."""

    kind: str
    readable: bool
    problems: list[dict[str, Any]]
    net: str
    id: str


class Analyst:
    """Analyses texts, one at a time, and remembers the last answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, State], Answer] = OrderedDict()

    def alone(self) -> threading.Lock:
        """To be held while a text is analysed: warnings are caught for the whole process."""
        return self._lock

    def __call__(self, text: str, state: State) -> Answer:
        with self.alone():
            key = (text, state)
            found = self._known.pop(key, None)
            if found is None:
                with _uncollected():
                    found = _answer(text, state)
            self._known[key] = found
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
            return found


@contextmanager
def _uncollected() -> Iterator[None]:
    """The garbage collector waits: looking through a large net again and again while it grows takes a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _answer(text: str, state: State) -> Answer:
    found = analyse(text, state)
    net = None
    if found.graph is not None:
        net = page_data(found.graph, text=text) | {"file": "", "text": ""}  # the editor has the text
    told = json.dumps(net, separators=(",", ":"))
    identity = hashlib.sha256(told.encode()).hexdigest() if net else ""
    return Answer(found.kind, found.readable, problems(found), told, identity)


def problems(analysis: Analysis) -> list[dict[str, Any]]:
    """The faults and warnings as plain values, from top to bottom: severity, what, expected and so on, line, column, end.

    Places count from 1, `end` is the column behind the last character. `asks` names the inputs that need a shape.
    """
    found: list[dict[str, Any]] = []
    lines: dict[int, list[dict[str, Any]]] = {}
    for fault in analysis.faults:
        problem = _problem(fault, analysis.graph)
        beside = lines.setdefault(problem.get("line", 0), [])
        if not any(_overlap(problem, other) for other in beside):  # a bad value has consequences, told at its own place
            beside.append(problem)
            found.append(problem)
    found += map(_note, analysis.warnings)
    return sorted(found, key=lambda p: (p.get("line", 0), p.get("column", 0)))


def _problem(fault: NetError, graph: Graph | None) -> dict[str, Any]:
    told = {"what": fault.what, "layer": fault.layer, "expected": fault.expected, "got": fault.got, "hint": fault.hint}
    found: dict[str, Any] = {"severity": "error"} | {k: str(v) for k, v in told.items() if v is not None}
    if isinstance(fault, ShapeUnknown) and graph is not None:
        nodes = [n for n in graph.nodes if n.title == fault.layer]
        found |= {"severity": "ask", "asks": [v.blob for n in nodes[:1] for v in n.tops]}
        found["hint"] = "give the shape of the input"
    if isinstance(fault.at, Span):
        at = fault.at
        found |= {"line": at.line, "column": at.column, "end": extent(at.excerpt, at.column)}
    return found


def _overlap(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return "line" in a and a["column"] < b["end"] and b["column"] < a["end"]


_PLACED = re.compile(rf"{re.escape(FILE)}:(\d+):(\d+): (.*)", re.DOTALL)


def _note(text: str) -> dict[str, Any]:
    placed = _PLACED.fullmatch(text)
    if not placed:
        return {"severity": "warning", "what": text}
    line, column = int(placed[1]), int(placed[2])
    return {"severity": "warning", "what": placed[3], "line": line, "column": column, "end": column + 1}
