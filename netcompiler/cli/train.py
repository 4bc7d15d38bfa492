"""`netcompile train`: a solver.prototxt, from its first iteration or from a snapshot to the last."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NetError, NetWarning
from . import dialect_options
from .run import out_of_memory
from .telling import Event, Teller, open_board

if TYPE_CHECKING:
    from ..train.ranks import Ranks
    from ..train.solver import Solver

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
WORKERS = "processes that decode pictures ahead, for each net (default: as many as pay; 0: none)"
CHECKPOINT = (
    "keep the blobs at the ends of N segments of the net only, and make the others again for the backward pass: less "
    "memory, more time, the same numbers (without N: the square root of the number of layers)"
)
SET = "a field of the solver set anew, or one of its train_state: train_state.stage=S"
CHANNELS_LAST = "keep 4-D blobs in the memory order N H W C, which many GPUs convolve faster; the numbers are the same"
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
    p.add_argument(
        "--dtype", metavar="T", help="float32 (default), tf32 (CUDA), float64, or bfloat16 over float32 weights"
    )
    p.add_argument("--set", metavar="FIELD=VALUE", action="append", default=[], help=SET)
    p.add_argument("--seed", metavar="N", type=int, help="of fillers, Dropout, shuffling; in place of random_seed")
    for name, default in (("sigint", "stop"), ("sighup", "snapshot")):
        p.add_argument(
            f"--{name}-effect", f"--{name}_effect", choices=EFFECTS, default=default, help=f"default: {default}"
        )
    p.add_argument("--log", "--log-file", metavar="FILE.jsonl", help=LOG)
    p.add_argument("--tensorboard", metavar="DIR", help="write curves for TensorBoard into this folder")
    p.add_argument("--on-fault", choices=ON_FAULT, default="stop", help=FAULT)
    p.add_argument("--workers", metavar="N", type=int, help=WORKERS)
    p.add_argument("--checkpoint", metavar="N", type=int, nargs="?", const=0, help=CHECKPOINT)
    p.add_argument("--channels-last", action="store_true", help=CHANNELS_LAST)
    p.add_argument("--sync-batchnorm", action="store_true", help="BatchNorm looks at the batches of all ranks as one")
    p.add_argument("--allow-python", action="store_true", help="run the code that Python layers name")
    dialect_options(p, unknown=False)
    p.add_argument("-q", "--quiet", action="store_true", help="tell nothing but warnings and faults")
    return p


def main(arguments: list[str]) -> int:
    """Run `netcompile train`. Returns the exit code."""
    options = parser().parse_args(arguments)
    overrides, weights = assignments(options.set), start_weights(options)
    board = open_board(options.tensorboard) if options.tensorboard and is_first() else None
    if not is_first():
        warnings.simplefilter("ignore", NetWarning)  # rank 0 tells it
    if "RANK" in os.environ:  # before torch starts: it tells each run of which parameters it did not have to look for
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
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
            channels_last=options.channels_last,
            on_fault=options.on_fault,
            workers=options.workers,
            sync_batchnorm=options.sync_batchnorm,
            checkpoint=options.checkpoint,
            dialect=options.dialect,
        )
        stack.callback(solver.close)
        if snapshot:
            solver.restore(snapshot)
        exchange = Exchange(ranks, signals.take)
        exchange.join(solver)
        tellers = list(listeners(options, solver, ranks, snapshot, stack))
        if board:
            stack.callback(board.close)
            tellers.append(board)

        def tell(event: Event) -> None:
            for one in tellers:
                one(event)

        with out_of_memory(solver.net.graph, "a smaller batch_size; iter_size makes up for it"):
            solver.solve(callback=tell if tellers else None, stop=exchange.request)
    return 0


def start_weights(options: argparse.Namespace) -> list[str]:
    """The files of --weights. Raises: NetError for options that make no sense, and for files that are not there."""
    weights = [path for paths in options.weights for path in paths.split(",") if path]
    if options.snapshot and weights and options.snapshot != LATEST:
        hint = "a snapshot has its own weights: leave one of the two out"
        raise NetError("--snapshot and --weights are both given", hint=hint)
    for path in (*weights, *([options.snapshot] if options.snapshot not in (None, LATEST) else [])):
        if not Path(path).is_file():
            raise NetError("there is no such file", at=path)
    if options.seed is not None and options.seed < 0:
        raise NetError("a seed cannot be negative", at="--seed", got=options.seed)
    return weights


def listeners(
    options: argparse.Namespace, solver: Solver, ranks: Ranks, snapshot: str | None, stack: contextlib.ExitStack
) -> Iterator[Callable[[Event], None]]:
    """On rank 0: what tells the user how it goes, and what writes the log. `stack` ends them."""
    from ..train.log import Log

    if ranks.rank == 0 and not options.quiet:
        teller = Teller(solver, ranks.count, options.snapshot, snapshot)
        stack.callback(teller.clear)
        yield teller
    if ranks.rank == 0 and options.log:
        log = Log(options.log)
        stack.callback(log.close)
        yield lambda event: log(event) if event["kind"] != "iteration" else None


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
