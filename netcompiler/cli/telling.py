"""How a training is told: lines on stdout, a line of progress on a terminal, curves for TensorBoard."""

from __future__ import annotations

import shutil
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..errors import NetError, NetWarning
from . import CLEAR

if TYPE_CHECKING:
    from ..train.solver import Solver

Event = Mapping[str, Any]

BAR = 24  # the width of the bar that fills while one waits


class Teller:
    """Tells how the training goes: lines on stdout, and on a terminal one line that follows each iteration."""

    def __init__(self, solver: Solver, ranks: int, wanted: str | None, snapshot: str | None) -> None:
        """wanted: what --snapshot said.  snapshot: what was found."""
        self.solver, self.ranks, self.wanted, self.snapshot = solver, ranks, wanted, snapshot
        self.live = sys.stderr.isatty()
        self.loss: float | None = None  # of the last display
        self.marks: deque[tuple[float, int]] = deque(maxlen=50)  # when how many iterations were done
        self.shown = 0.0

    def __call__(self, event: Event) -> None:
        """Tell of an event."""
        kind, iteration = event["kind"], event["iter"]
        if kind == "start":
            self.marks.append((time.monotonic(), iteration))
            for line in self.heading(event):
                self.say(line)
        elif kind == "iteration":
            self.tick(event)
        elif kind == "display":
            if not isfinite(event["loss"]) and (self.loss is None or isfinite(self.loss)):
                told = f"the loss is {event['loss']:g} at iteration {iteration:,}: the training has diverged"
                warnings.warn(f"{told}; a smaller base_lr or clip_gradients may help", NetWarning, stacklevel=2)
            self.loss = event["loss"]
            if not self.live:
                self.say(", ".join([f"iteration {iteration:,}", *self.words(event)]))
        elif kind == "test":
            which = f" of net {event['net']}" if len(self.solver.test_nets) > 1 else ""
            outputs = [f"{name} {number(v)}" for name, v in event["outputs"].items()]
            whole = [f"loss in all {number(event['loss'])}"] if "loss" in event else []
            self.say(f"iteration {iteration:,}, test{which}: {', '.join(outputs + whole)}")
        elif kind == "snapshot":
            self.say(f"iteration {iteration:,}: wrote {event['paths'][1]}")
        elif kind == "debug":
            for line in event["lines"]:
                self.say(line)
        elif kind == "done":
            if event["skipped"]:
                self.say(passed_over(event["skipped"]))
            self.say(f"{'stopped by a signal' if event['stopped'] else 'done'} after {iteration:,} iterations")

    def heading(self, event: Event) -> Iterator[str]:
        """What is trained, from where to where, on what."""
        import torch

        s, net = self.solver.settings, self.solver.net
        learned = sum(p.numel() for p in net.parameters() if p.requires_grad)
        fixed = sum(p.numel() for p in net.parameters() if not p.requires_grad)
        kept = f", {fixed:,} fixed" if fixed else ""
        tests = len(self.solver.test_nets)
        each_test = f", {tests} test net{'s' if tests > 1 else ''}" if tests else ""
        yield f"{net.graph.name or 'net'}: {s.type}, {learned:,} parameters learned{kept}{each_test}"
        threads = f" ({torch.get_num_threads()} threads)" if net.device.type == "cpu" else ""
        each = f", {self.ranks} ranks of this batch" if self.ranks > 1 else ""
        dtype = "tf32" if net.tf32 else str(net.dtype).removeprefix("torch.")
        yield f"iterations {event['iter']:,} to {s.max_iter:,} on {net.device}{threads}, {dtype}{each}"
        if event["iter"] >= s.max_iter:
            yield f"nothing is left to train: max_iter is {s.max_iter:,}"
        if self.snapshot:
            yield f"going on from {self.snapshot}"
        elif self.wanted:
            yield f"there is no snapshot {s.snapshot_prefix}_iter_* yet: from the beginning"

    def words(self, event: Event) -> Iterator[str]:
        """The loss, the rate and the outputs of a display, the speed, and the time left."""
        yield f"loss {number(event['loss'])}"
        yield f"lr {number(event['lr'])}"
        outputs = event["outputs"]
        if len(outputs) > 1 or set(outputs) != set(event["loss_weights"]):  # a single loss is told already
            yield from (f"{name} {number(v)}" for name, v in outputs.items())
        if event["images"] and event["seconds"]:
            yield f"{number(event['images'] * self.ranks / event['seconds'], 3)} images/s"
        left = self.left()
        if left is not None:
            yield f"{duration(left)} left"

    def left(self) -> float | None:
        """The seconds that the training will still take, by how long the last iterations took."""
        if len(self.marks) < 2 or self.marks[-1][1] <= self.marks[0][1]:
            return None
        (start, before), (end, after) = self.marks[0], self.marks[-1]
        still: int = self.solver.settings.max_iter - after
        return (end - start) / (after - before) * still

    def tick(self, event: Event) -> None:
        """An iteration is done."""
        now = time.monotonic()
        self.marks.append((now, event["iter"]))
        if self.live and now - self.shown > 0.2:
            self.shown = now
            self.line(event)

    def line(self, event: Event) -> None:
        """The line that follows each iteration. Where there is little room, the bar is the first to shrink."""
        done, last = event["iter"], self.solver.settings.max_iter
        parts = [f"{done:,}/{last:,}", f"loss {number(self.solver.loss)}", f"lr {number(event['lr'])}"]
        (start, before), (end, after) = self.marks[0], self.marks[-1]
        if event["images"] and end > start:
            speed = (after - before) * event["images"] * self.ranks / (end - start)
            parts.append(f"{number(speed, 3)} images/s")
        left = self.left()
        if left is not None:
            parts.append(f"{duration(left)} left")
        told = "  ".join(parts)
        room = max(shutil.get_terminal_size().columns - 1, 20)  # a line that wraps could not be taken back
        width = min(BAR, room - len(told) - len("[] "))
        filled = width * done // max(last, 1)
        bar = f"[{'#' * filled}{'.' * (width - filled)}] " if width >= BAR // 4 else ""
        print(f"{CLEAR}{bar}{told[:room]}", end="", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line on stdout, in place of the line that follows."""
        self.clear()
        print(text, flush=True)

    def clear(self) -> None:
        """Take the line back."""
        if self.live:
            print(CLEAR, end="", file=sys.stderr, flush=True)


def passed_over(count: int) -> str:
    """How many unreadable records were skipped.

    >>> passed_over(1), passed_over(1200)
    ('1 unreadable record was passed over', '1,200 unreadable records were passed over')
    """
    return f"{count:,} unreadable record{' was' if count == 1 else 's were'} passed over"


def number(value: Any, digits: int = 5) -> str:
    """A number, or the mean of a list of them, for people.

    >>> number(0.123456789), number(12345.6, 3), number([0.25, 0.75])
    ('0.12346', '12,300', '0.5 (mean of 2)')
    """
    if isinstance(value, list):
        return f"{number(sum(value) / len(value))} (mean of {len(value)})" if value else "none"
    if abs(value) >= 1000 and digits < 5:
        scale = 10 ** (len(str(int(abs(value)))) - digits)
        return f"{round(value / scale) * scale:,}" if scale > 1 else f"{value:,.0f}"
    return f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """A span of time to two units.

    >>> [duration(s) for s in (7.4, 75, 3700, 200000)]
    ['7 s', '1 min 15 s', '1 h 1 min', '2 d 7 h']
    """
    whole = max(0, round(seconds))
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (big, size), (small, less) in zip(units, units[1:], strict=False):
        if whole >= size:
            rest = whole % size // less
            return f"{whole // size} {big} {rest} {small}" if rest else f"{whole // size} {big}"
    return f"{whole} s"


def open_board(folder: str) -> Board:
    """The curves of a folder for TensorBoard. Raises: NetError where the library is missing, or the folder unwritable."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise NetError("--tensorboard needs a library", hint="pip install 'netcompiler[tensorboard]'") from None
    try:
        return Board(SummaryWriter(folder))
    except OSError as e:
        raise NetError(f"cannot be written: {e.strerror or e}", at=folder) from None


class Board:
    """Writes events as TensorBoard's curves: train/loss, train/lr, train/<output>, test/<output>."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def __call__(self, event: Event) -> None:
        """Write the numbers of a display or a test."""
        kind = event["kind"]
        if kind not in ("display", "test"):
            return
        values: dict[str, Any] = {}
        if kind == "display":
            values = {"train/loss": event["loss"], "train/lr": event["lr"]}
        place = "train" if kind == "display" else f"test{event['net'] or ''}"
        for name, value in event["outputs"].items():
            several = value if isinstance(value, list) else [value]
            for i, one in enumerate(several):
                values.setdefault(f"{place}/{name}{f'/{i}' if isinstance(value, list) else ''}", one)
        for name, value in values.items():
            self.writer.add_scalar(name, value, event["iter"])

    def close(self) -> None:
        """Write what is still held, and close the files."""
        self.writer.close()
