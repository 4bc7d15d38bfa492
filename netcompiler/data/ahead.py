"""Batches made ahead in other processes, and handed over in memory that all of them share."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import sys
import traceback
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import prod
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from ..errors import NetError
from ..graph import Shape
from .source import Arrays, Batch, Source

MOST_WORKERS = 16
MOST_SHARED = 1 << 30  # bytes of batches that wait to be used
_SPARE = 3  # batches that the user may hold without a copy
METHOD = "fork" if sys.platform == "linux" else "spawn"  # elsewhere a forked process must not run much


def usual_workers() -> int:
    """How many processes decode ahead where the user does not say: all cores of this rank but one, and at least one."""
    if METHOD != "fork":
        return 0  # a script without a guard around its main part would start again in each of them
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")  # torchrun sets it: so many processes share this machine
    return max(1, min(MOST_WORKERS, cores() // max(1, int(ranks) if ranks.isdecimal() else 1) - 1))


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Made:
    """What a worker answers: one Batch per source, the shapes of what lies in the slot, or what went wrong."""

    batches: list[Batch] = field(default_factory=list)
    shapes: list[dict[str, Shape]] | None = None
    error: BaseException | None = None


class Ahead:
    """Successive batches of some sources. Batch k is made by worker k mod W, so all is in order without waiting for it."""

    def __init__(self, sources: Sequence[Source], starts: Sequence[int], rank: int, ranks: int, workers: int) -> None:
        self.sources, self.starts, self.rank, self.ranks = sources, list(starts), rank, ranks
        sizes = [prod(shape) * 4 for source in sources for shape in source.shapes().values()]
        size = sum(sizes)
        self.depth = max(workers + 1, min(2 * workers, MOST_SHARED // max(size, 1)))
        shared = self.depth + _SPARE if METHOD == "fork" and size else 0
        self.slots = [mmap.mmap(-1, size) for _ in range(shared)]
        self.free = deque(range(shared))
        self.asked = self.given = 0
        self.taken: deque[int | None] = deque()
        self.pipes: list[Connection] = []
        self.processes: list[Any] = []
        context: Any = multiprocessing.get_context(METHOD)
        forked = METHOD == "fork"
        for _ in range(workers):
            ours, theirs = context.Pipe()
            args = (sources, rank, ranks, theirs, [*self.pipes, ours] if forked else [], self.slots if forked else [])
            process = context.Process(target=_work, args=args, daemon=True, name="netcompiler data")
            with _unsignalled():
                process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def next(self) -> list[Batch]:
        """The next batch of every source. Raises: NetError, as `Source.take` does, and when a worker is lost."""
        while self.asked < self.given + self.depth:
            slot = self.free.popleft() if self.free else None
            positions = [p + self.asked * s.batch * self.ranks for s, p in zip(self.sources, self.starts, strict=True)]
            self._send(self.asked % len(self.pipes), (positions, slot))
            self.taken.append(slot)
            self.asked += 1
        made = self._receive(self.given % len(self.pipes))
        if made.error is not None:
            raise made.error
        slot = self.taken.popleft()
        self.given += 1
        if slot is None:
            return made.batches
        if made.shapes is None:  # it did not fit
            self.free.append(slot)
            return made.batches
        whole = np.frombuffer(self.slots[slot], np.float32)
        ending = weakref.finalize(whole, self.free.append, slot)  # all views are gone: the slot may be written to again
        ending.atexit = False
        start = 0
        for batch, shapes in zip(made.batches, made.shapes, strict=True):
            for top, shape in shapes.items():
                batch.arrays[top] = whole[start : start + prod(shape)].reshape(shape)
                start += prod(shape)
        return made.batches

    def _send(self, worker: int, request: Any) -> None:
        try:
            self.pipes[worker].send(request)
        except OSError:
            raise self._lost(worker) from None

    def _receive(self, worker: int) -> Made:
        pipe, process = self.pipes[worker], self.processes[worker]
        ready = wait([pipe, process.sentinel])
        if pipe not in ready and not pipe.poll():
            raise self._lost(worker)
        try:
            made: Made = pipe.recv()
        except (EOFError, OSError):
            raise self._lost(worker) from None
        return made

    def _lost(self, worker: int) -> NetError:
        process = self.processes[worker]
        process.join(1)
        code = process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        hint = "too little memory, perhaps: try fewer workers, or none" if code == -signal.SIGKILL else None
        if code == -signal.SIGBUS:
            hint = "a database was cut short while it was read, or its disk failed"
        return NetError("a process that reads data ended", got=f"{how}, process {process.pid}", hint=hint)

    def close(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            with suppress(OSError):
                pipe.close()
        for process in self.processes:
            process.join(0.2)  # a closed pipe is word enough, unless it is at work
            if process.is_alive():
                process.terminate()
        for process in self.processes:
            process.join(1)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self.pipes, self.processes = [], []


@contextmanager
def _unsignalled() -> Iterator[None]:
    """Hold back what a worker will ignore, so that it cannot hit one that is only just starting."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    sources: Sequence[Source],
    rank: int,
    ranks: int,
    pipe: Connection,
    others: Sequence[Connection],
    slots: Sequence[mmap.mmap],
) -> None:
    """A worker's life: make the batches that are asked for, until the pipe is closed."""
    for name in ("SIGINT", "SIGHUP"):  # Ctrl-C and a closed terminal are the main process's affair
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:  # so that the end of the main process closes the pipe
        other.close()
    from .feeds import batch_at

    try:
        while True:
            positions, slot = pipe.recv()
            try:
                batches = [batch_at(s, p, rank, ranks) for s, p in zip(sources, positions, strict=True)]
                made = Made(batches, _put(batches, slots[slot]) if slot is not None else None)
            except NetError as e:
                made = Made(error=e)
            except Exception:
                made = Made(error=RuntimeError(f"in a process that reads data:\n{traceback.format_exc()}"))
            pipe.send(made)
    except (EOFError, OSError):
        pass
    finally:
        for source in sources:
            source.close()


def _put(batches: Sequence[Batch], slot: mmap.mmap) -> list[dict[str, Shape]] | None:
    """Move the arrays of batches to shared memory, in their order; None where they do not fit."""
    arrays = [a for batch in batches for a in batch.arrays.values()]
    if sum(a.nbytes for a in arrays) > len(slot):
        return None
    whole, start = np.frombuffer(slot, np.float32), 0
    for array in arrays:
        whole[start : start + array.size] = array.reshape(-1)
        start += array.size
    shapes = [{top: a.shape for top, a in batch.arrays.items()} for batch in batches]
    for batch in batches:
        batch.arrays = Arrays()
    return shapes
