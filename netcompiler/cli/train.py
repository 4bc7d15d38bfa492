"""`netcompile train`: a solver.prototxt, from its first iteration or from a snapshot to the last."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import sys
import time
import types
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NetError, NetWarning
from . import CLEAR, dialect_options
from .run import out_of_memory

if TYPE_CHECKING:
    from ..train.solver import Solver

Event = Mapping[str, Any]

EXAMPLES = """\
examples:
  netcompile train solver.prototxt
      from the beginning, weights by the net's fillers
  netcompile train solver.prototxt -w pretrained.caffemodel --set base_lr=0.001
      fine-tune: layers of the same name start from the file's weights, renamed ones afresh
  netcompile train solver.prototxt --snapshot net_iter_5000.solverstate
      go on from a snapshot, of Caffe as well
  netcompile train solver.prototxt --snapshot latest --log train.jsonl
      go on from the newest snapshot of this solver, if there is one; `netcompile plot train.jsonl` draws the log
  torchrun --nproc-per-node=4 -m netcompiler train solver.prototxt --snapshot latest
      on four GPUs; batch_size is each one's own

Ctrl-C stops after the iteration that is running, with a snapshot unless snapshot_after_train is false; kill -HUP takes a
snapshot and goes on. The exit code is 0 also when a signal stopped the training.
"""
EFFECTS = ("snapshot", "stop", "none")
LATEST = "latest"
ON_FAULT = ("stop", "skip")
FAULT = "at a record or picture that cannot be read: stop (default), or skip it and tell how many in the end"
CHECKPOINT = (
    "keep the blobs at the ends of N segments of the net only, and make the others again for the backward pass: less "
    "memory, more time, the same numbers (without N: the square root of the number of layers)"
)
LOG = "add what is told to this file, an event on a line (under torchrun say --log-file: it takes --log for its own)"
WEIGHTS = "weights to start from: .caffemodel or .caffemodel.h5; several (A,B): the last that has a layer counts"


def parser() -> argparse.ArgumentParser:
    """The options of `netcompile train`."""
    p = argparse.ArgumentParser(
        prog="netcompile train",
        description="Train a net as Caffe's solver.prototxt says.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("solver", metavar="SOLVER", help="the solver's prototxt, of any generation")
    p.add_argument("-w", "--weights", metavar="FILE", action="append", default=[], help=WEIGHTS)
    p.add_argument("--snapshot", metavar="S", help=f"a .solverstate or .solverstate.h5 to go on from, or: {LATEST}")
    p.add_argument(
        "--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: as solver_mode says, else CUDA if any)"
    )
    p.add_argument("--dtype", metavar="T", help="float32 (default), float64, or bfloat16 over float32 weights")
    p.add_argument("--set", metavar="FIELD=VALUE", action="append", default=[], help="a field of the solver, set anew")
    p.add_argument("--seed", metavar="N", type=int, help="of fillers, Dropout, shuffling; in place of random_seed")
    for name, default in (("sigint", "stop"), ("sighup", "snapshot")):
        p.add_argument(
            f"--{name}-effect", f"--{name}_effect", choices=EFFECTS, default=default, help=f"default: {default}"
        )
    p.add_argument("--log", "--log-file", metavar="FILE.jsonl", help=LOG)
    p.add_argument("--tensorboard", metavar="DIR", help="write curves for TensorBoard into this folder")
    p.add_argument("--on-fault", choices=ON_FAULT, default="stop", help=FAULT)
    p.add_argument("--checkpoint", metavar="N", type=int, nargs="?", const=0, help=CHECKPOINT)
    p.add_argument("--sync-batchnorm", action="store_true", help="BatchNorm looks at the batches of all ranks as one")
    p.add_argument("--allow-python", action="store_true", help="run the code that Python layers name")
    dialect_options(p, unknown=False)
    p.add_argument("-q", "--quiet", action="store_true", help="tell nothing but warnings and faults")
    return p


def main(arguments: list[str]) -> int:
    """Run `netcompile train`. Returns the exit code."""
    options = parser().parse_args(arguments)
    overrides = assignments(options.set)
    weights = [path for paths in options.weights for path in paths.split(",") if path]
    if options.snapshot and weights and options.snapshot != LATEST:
        hint = "a snapshot has its own weights: leave one of the two out"
        raise NetError("--snapshot and --weights are both given", hint=hint)
    for path in (*weights, *([options.snapshot] if options.snapshot not in (None, LATEST) else [])):
        if not Path(path).is_file():
            raise NetError("there is no such file", at=path)
    if options.seed is not None and options.seed < 0:
        raise NetError("a seed cannot be negative", at="--seed", got=options.seed)
    board = open_board(options.tensorboard) if options.tensorboard and is_first() else None
    if not is_first():
        warnings.simplefilter("ignore", NetWarning)  # rank 0 tells it
    if "RANK" in os.environ:  # before torch starts: it tells each run of which parameters it did not have to look for
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from ..train.log import Log
    from ..train.ranks import Exchange, joined
    from ..train.settings import load_settings
    from ..train.solver import Solver

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetWarning)  # the solver tells it again
        settings = load_settings(options.solver, overrides)
    device = options.device or ("cpu" if settings.solver_mode == "CPU" else None)
    with (
        contextlib.ExitStack() as stack,
        joined(device) as ranks,
        Signals(options.sigint_effect, options.sighup_effect) as signals,
    ):
        seed, snapshot = options.seed, options.snapshot
        if seed is None and settings.random_seed < 0 and ranks.count > 1:
            seed = ranks.same(secrets.randbits(31))
        if snapshot == LATEST:
            snapshot = ranks.same(latest(settings.snapshot_prefix))
        solver = Solver(
            options.solver,
            weights=None if snapshot else weights or None,
            device=ranks.device,
            dtype=options.dtype,
            overrides=overrides,
            rank=ranks.rank,
            ranks=ranks.count,
            seed=seed,
            allow_python=options.allow_python,
            on_fault=options.on_fault,
            sync_batchnorm=options.sync_batchnorm,
            checkpoint=options.checkpoint,
            dialect=options.dialect,
        )
        stack.callback(solver.close)
        if snapshot:
            solver.restore(snapshot)
        exchange = Exchange(ranks, signals.take)
        exchange.join(solver)
        tellers: list[Callable[[Event], None]] = []
        if ranks.rank == 0 and not options.quiet:
            teller = Teller(solver, ranks.count, options.snapshot, snapshot)
            stack.callback(teller.clear)
            tellers.append(teller)
        if ranks.rank == 0 and options.log:
            log = Log(options.log)
            stack.callback(log.close)
            tellers.append(lambda event: log(event) if event["kind"] != "iteration" else None)
        if board:
            stack.callback(board.close)
            tellers.append(board)

        def tell(event: Event) -> None:
            for one in tellers:
                one(event)

        with out_of_memory(solver.net.graph, "a smaller batch_size; iter_size makes up for it"):
            solver.solve(callback=tell if tellers else None, stop=exchange.request)
    return 0


def is_first() -> bool:
    """Whether this process is rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def assignments(texts: list[str]) -> dict[str, str]:
    """What --set options say. Raises: NetError for one that is not FIELD=VALUE, and for a field that is set twice.

    >>> assignments(["base_lr=0.01", "snapshot_prefix=a=b"])
    {'base_lr': '0.01', 'snapshot_prefix': 'a=b'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise NetError("--set is not FIELD=VALUE", expected="such as base_lr=0.01", got=text)
        if name.strip() in found:
            raise NetError(f"--set gives {name.strip()} twice", hint="several values of one field: stepvalue=100,200")
        found[name.strip()] = value
    return found


def latest(prefix: str) -> str | None:
    """The newest snapshot of a prefix: that of the most iterations whose weights are there too; None without any.

    A snapshot that is in the making is not there yet, as files are written whole or not at all.
    """
    start = Path(f"{prefix}_iter_")
    found: list[tuple[int, str]] = []
    with contextlib.suppress(OSError):
        for path in start.parent.iterdir():
            for suffix, model in ((".solverstate", ".caffemodel"), (".solverstate.h5", ".caffemodel.h5")):
                number = path.name.removeprefix(start.name).removesuffix(suffix)
                ours = number.isdecimal() and path.name == f"{start.name}{number}{suffix}"
                if ours and path.with_name(f"{start.name}{number}{model}").exists():
                    found.append((int(number), str(path)))
    return max(found)[1] if found else None


class Signals:
    """Turns SIGINT and SIGHUP into requests: "stop", "snapshot", or nothing, as Caffe does.

    A second SIGINT ends a single process at once. What was set before comes back when the block ends.
    """

    def __init__(self, sigint: str, sighup: str) -> None:
        self.effects = {signal.SIGINT: sigint}
        if hasattr(signal, "SIGHUP"):  # not on Windows
            self.effects[signal.SIGHUP] = sighup
        self.pending: list[str] = []
        self.before: dict[signal.Signals, Any] = {}
        self.since: float | None = None  # when the first SIGINT came

    def __enter__(self) -> Signals:
        with contextlib.suppress(ValueError):  # not the main thread: the caller deals with signals
            for number in self.effects:
                self.before[number] = signal.signal(number, self.catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def catch(self, number: int, frame: types.FrameType | None) -> None:
        """Note a signal."""
        effect = self.effects[signal.Signals(number)]
        if effect == "none":
            return
        self.pending.append(effect)
        if number == signal.SIGINT and effect == "stop" and "TORCHELASTIC_RUN_ID" not in os.environ:
            now = time.monotonic()  # torchrun passes the terminal's signal on once more
            if self.since is not None and now - self.since > 1:
                raise KeyboardInterrupt
            self.since = self.since or now

    def take(self) -> str | None:
        """What was asked for since the last time: "stop" before "snapshot"."""
        pending, self.pending = self.pending, []
        return "stop" if "stop" in pending else "snapshot" if pending else None


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
        dtype = str(net.dtype).removeprefix("torch.")
        yield f"iterations {event['iter']:,} to {s.max_iter:,} on {net.device}{threads}, {dtype}{each}"
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
        """The line that follows each iteration."""
        done, last = event["iter"], self.solver.settings.max_iter
        filled = 24 * done // max(last, 1)
        parts = [f"[{'#' * filled}{'.' * (24 - filled)}] {done:,}/{last:,}"]
        parts += [f"loss {number(self.solver.loss)}", f"lr {number(event['lr'])}"]
        (start, before), (end, after) = self.marks[0], self.marks[-1]
        if event["images"] and end > start:
            speed = (after - before) * event["images"] * self.ranks / (end - start)
            parts.append(f"{number(speed, 3)} images/s")
        left = self.left()
        if left is not None:
            parts.append(f"{duration(left)} left")
        room = max(shutil.get_terminal_size().columns - 1, 20)  # a line that wraps could not be taken back
        print(f"{CLEAR}{'  '.join(parts)[:room]}", end="", file=sys.stderr, flush=True)

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
