"""Training as it was told -> curves: our own JSONL logs, written and read, and the logs that Caffe itself writes."""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, isnan, nan
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import NetError, NetWarning, Span

Event = Mapping[str, Any]
Point = tuple[int, float]
_NAMES = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}  # JSON has no such numbers; protobuf's JSON has these words


class Key(NamedTuple):
    """What a curve is of. of: "train" or "test".  name: loss, lr, or an output.  net: which test net.

    item: which value of an output that has several; -1 for an output of one value, and for loss and lr.
    output: whether it is a top of the net, not the whole loss or the rate.
    """

    of: str
    name: str
    net: int = 0
    item: int = -1
    output: bool = True

    def __str__(self) -> str:
        net = f"{self.net}" if self.of == "test" and self.net else ""
        item = f"[{self.item}]" if self.item >= 0 else ""
        whole = {("train", True): " output", ("test", False): " total"}.get((self.of, self.output), "")
        return f"{self.of}{net}{whole} {self.name}{item}"


LOSS = Key("train", "loss", output=False)
RATE = Key("train", "lr", output=False)


@dataclass(slots=True)
class Run:
    """What one log tells. curves: (iteration, value) of each curve, by iteration.  title: the net's name, or ""."""

    file: str
    title: str = ""
    curves: dict[Key, list[Point]] = field(default_factory=dict)

    def add(self, key: Key, iteration: int, value: float) -> None:
        """Add a point. After a resume, what was told of later iterations is of a run that is no more."""
        curve = self.curves.setdefault(key, [])
        while curve and curve[-1][0] >= iteration:
            curve.pop()
        curve.append((iteration, value))

    def add_outputs(self, of: str, iteration: int, outputs: Mapping[str, Any], net: int = 0) -> None:
        """Add a point for each value of some outputs: numbers, or lists of numbers."""
        for name, value in outputs.items():
            if isinstance(value, list):
                for i, one in enumerate(value):
                    self.add(Key(of, name, net, i), iteration, one)
            else:
                self.add(Key(of, name, net), iteration, value)


class Log:
    """A JSONL log: one event on a line, each written at once. What the file holds already stays.

    When it can no longer be written, on a full disk say, that is told once in a NetWarning, and training goes on.
    Raises: NetError when the file cannot be opened, and when it holds something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        try:
            self._file: IO[bytes] | None = open(path, "ab+")  # noqa: SIM115
            self._drop_half_line()
        except OSError as e:
            raise NetError(f"cannot be written: {e.strerror or e}", at=self.path) from None

    def _drop_half_line(self) -> None:
        """Take away the end of a line that a killed run left. Raises: NetError for a file that is no log."""
        assert self._file
        self._file.seek(0)
        if self._file.read(1) not in (b"", b"{"):
            raise NetError("is no log of training", at=self.path, expected="a JSONL file, or a new one")
        end = at = self._file.seek(0, os.SEEK_END)
        while at:
            start = max(0, at - 4096)
            self._file.seek(start)
            line = self._file.read(at - start).rfind(b"\n")
            if line >= 0:
                at = start + line + 1
                break
            at = start
        if at < end:
            self._file.truncate(at)

    def __call__(self, event: Event) -> None:
        """Write an event, with the time."""
        if not self._file:
            return
        line = json.dumps(_plain({**event, "time": round(time.time(), 3)}), ensure_ascii=False, allow_nan=False)
        try:
            self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
            self._file.flush()
        except OSError as e:
            warnings.warn(f"{self.path}: no more is logged: {e.strerror or e}", NetWarning, stacklevel=2)
            self.close()

    def close(self) -> None:
        """Close the file; later events go nowhere."""
        file, self._file = self._file, None
        try:
            if file:
                file.close()
        except OSError:  # what could not be written was told of
            pass


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def read_log(path: str | os.PathLike[str]) -> Run:
    """The curves of a log: JSONL of ours, or what Caffe told on stderr or in its log file (glog).

    Raises: NetError for a file that cannot be read, that is neither, or in which no iteration is told of.
    """
    at = str(path)
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as e:
        raise NetError(f"cannot be read: {getattr(e, 'strerror', None) or e}", at=at) from None
    text = data.decode(errors="replace")
    run = Run(at)
    if text.lstrip()[:1] == "{":
        _read_jsonl(text, run)
    elif not _read_glog(text, run):
        expected = "a JSONL file of `netcompile train --log`, or what `caffe train` told on stderr"
        raise NetError("is no log of training", at=at, expected=expected)
    if not run.curves:
        raise NetError("the log tells of no iteration", at=at, hint="display in the solver says how often it is told")
    return run


def _read_jsonl(text: str, run: Run) -> None:
    for event in _events(text, run.file):
        kind, iteration = event.get("kind"), event.get("iter")
        if kind == "start":
            run.title = str(event.get("net") or run.title)
        if not isinstance(iteration, int) or isinstance(iteration, bool):
            continue
        outputs = event.get("outputs")
        outputs = outputs if isinstance(outputs, dict) else {}
        numbers = {name: v for name, v in map(_number, outputs.items()) if v is not None}
        if kind == "display":
            for key in (LOSS, RATE):
                value = _number((key.name, event.get(key.name)))[1]
                if isinstance(value, float):
                    run.add(key, iteration, value)
            run.add_outputs("train", iteration, numbers)
        elif kind == "test":
            which = event.get("net")
            net = which if isinstance(which, int) else 0
            loss = _number(("loss", event.get("loss")))[1]
            if isinstance(loss, float):
                run.add(Key("test", "loss", net, output=False), iteration, loss)
            run.add_outputs("test", iteration, numbers, net)


def _events(text: str, file: str) -> Iterator[dict[str, Any]]:
    """The events of a JSONL text. The last line may be cut off: training may still go on, or was killed."""
    lines = text.split("\n")
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError:
            if i == len(lines) - 1:
                return
            event = None
        if not isinstance(event, dict):
            raise NetError("this line is no event", at=Span(file, i + 1, 1, line[:160]), expected="an object of JSON")
        yield event


def _number(item: tuple[str, Any]) -> tuple[str, float | list[float] | None]:
    """A named number, or list of numbers, out of JSON; None for anything else."""
    name, value = item
    if isinstance(value, list):
        several = [_number(("", v))[1] for v in value]
        return name, [v if isinstance(v, float) else nan for v in several]
    if isinstance(value, str):
        return name, _NAMES.get(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return name, float(value)
    return name, None


# --- Caffe's own logs ---

_HEAD = re.compile(r"^[IWEF]\d{4,8} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.+-]+:\d+\] ?", re.MULTILINE)  # of every line by glog
_LOSS = re.compile(r"Iteration (\d+)\b.*, loss = (\S+)$")
_RATE = re.compile(r"Iteration (\d+), lr = (\S+)$")
_TESTING = re.compile(r"Iteration (\d+), Testing net \(#(\d+)\)$")
_TEST_LOSS = re.compile(r"Test loss: (\S+)$")
_OUTPUT = re.compile(r"(Train|Test) net output #\d+: (.+?) = (\S+)(?: \(\* \S+ = \S+ loss\))?$")
_SOLVING = re.compile(r"Solving (.*)$")


def _read_glog(text: str, run: Run) -> bool:
    """Read what Caffe told. Returns: whether it is of glog at all."""
    found = False
    at, net = 0, 0  # the iteration and the test net that lines without them are about
    told: dict[str, dict[str, list[float]]] = {"train": {}, "test": {}}  # an output of several values has as many lines

    def close() -> None:
        for of, outputs in told.items():
            plain = {name: values if len(values) > 1 else values[0] for name, values in outputs.items()}
            run.add_outputs(of, at, plain, net if of == "test" else 0)
            outputs.clear()

    for line in text.splitlines():
        head = _HEAD.match(line)
        if not head:
            continue
        found = True
        words = line[head.end() :].strip()
        if m := _OUTPUT.match(words):
            value = _float(m[3])
            if value is not None:
                told[m[1].lower()].setdefault(m[2], []).append(value)
        elif m := _RATE.match(words):
            _add(run, RATE, int(m[1]), m[2])
        elif m := _TEST_LOSS.match(words):
            _add(run, Key("test", "loss", net, output=False), at, m[1])
        elif m := _LOSS.match(words):
            close()
            at = int(m[1])
            _add(run, LOSS, at, m[2])
        elif m := _TESTING.match(words):
            close()
            at, net = int(m[1]), int(m[2])
        elif m := _SOLVING.match(words):
            run.title = m[1].strip()
    close()
    return found


def _add(run: Run, key: Key, iteration: int, text: str) -> None:
    value = _float(text)
    if value is not None:
        run.add(key, iteration, value)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # a line that was cut off
        return None
