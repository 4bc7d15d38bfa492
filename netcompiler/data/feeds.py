"""The tops of a net's data layers, batch after batch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from ..builder import included, net_state
from ..codegen import fills_itself
from ..errors import NetError, NetWarning
from ..graph import Array, Graph, Shape
from ..text import Msg
from .ahead import Ahead, usual_workers
from .draws import random_seed
from .hdf5 import HDF5Source
from .memory import MemorySource
from .records import DatabaseSource, ListSource
from .source import Batch, Setting, Source
from .windows import WindowSource

SOURCES: dict[str, Callable[[Msg, int, Setting], Source]] = {
    "Data": DatabaseSource,
    "HDF5Data": HDF5Source,
    "ImageData": ListSource,
    "WindowData": WindowSource,
}
HINTS = {  # for layers whose values come from elsewhere
    "Input": "a train_val net has data layers; `netcompile NET` runs a deploy net once",
    "MemoryData": "its arrays are given in Python: docs/data.md",
}
VERSION = 1  # of what `state` gives


def open_feeds(
    msg: Msg,
    phase: str,
    level: int = 0,
    stages: Iterable[str] = (),
    *,
    root: str | os.PathLike[str] = ".",
    rank: int = 0,
    ranks: int = 1,
    seed: int | None = None,
    workers: int | None = None,
    on_fault: str = "stop",
    arrays: Mapping[str, Array] | None = None,
) -> Feeds:
    """Open the stores of a net's data layers: Data, ImageData, HDF5Data and WindowData, and MemoryData with `arrays`.

    msg: the net in today's form.  phase, level, stages: the NetState whose layers are meant, as `build` takes them.
    root: a folder to look in for sources that the working directory does not have.
    rank, ranks: rank r of R reads records r, r + R, r + 2R, ...; in TEST each reads all of them, as in Caffe.
    seed: of shuffling, random crops and mirroring; None: another one each time.
    workers: processes that decode ahead; None: as many as pay, 0: none. The batches are the same.
    on_fault: "stop" at a record or picture that cannot be read, or "skip" it: the next good one takes its place, a
    NetWarning tells so, and `Feeds.skipped` counts.
    arrays: what MemoryData layers hold, by top: any number of rows. Without it the caller feeds such layers.

    Raises: NetError for a store that cannot be opened, and for settings that make no sense.
    """
    if phase not in ("TRAIN", "TEST"):
        raise NetError("unknown phase", expected="TRAIN or TEST", got=phase)
    if on_fault not in ("stop", "skip"):
        raise NetError("unknown on_fault", expected="stop or skip", got=on_fault)
    if not 0 <= rank < ranks:
        raise NetError("no such rank", expected=f"0 to {ranks - 1}", got=rank)
    setting = Setting(str(root), random_seed() if seed is None else seed, on_fault == "skip", phase == "TRAIN")
    state = net_state(msg, phase, level, stages)
    sources: list[Source] = []
    try:
        for index, m in enumerate(msg.layer):
            if not included(m, *state):
                continue
            with _Placed(m):
                if m.type in SOURCES:
                    sources.append(SOURCES[m.type](m, index, setting))
                elif m.type == "MemoryData" and arrays:
                    sources.append(MemorySource(m, index, setting, arrays))
        idle = set(arrays or ()).difference(*(s.tops for s in sources if isinstance(s, MemorySource)))
        if idle:
            raise NetError(f'no MemoryData layer makes "{min(idle)}" in {phase}', at=msg.at(), hint="leave it out")
        share = (rank, ranks) if phase == "TRAIN" else (0, 1)
        return Feeds(sources, setting, *share, workers=workers)
    except BaseException:
        for source in sources:
            source.close()
        raise


class Feeds:
    """The next batch of every fed top, in Caffe's order. See `open_feeds`.

    shapes: every fed top with its batch, for `build(inputs=...)`.  skipped: how many unreadable records were passed over.
    """

    def __init__(
        self,
        sources: list[Source],
        setting: Setting,
        rank: int = 0,
        ranks: int = 1,
        workers: int | None = None,
    ) -> None:
        self.sources, self.setting, self.rank, self.ranks = sources, setting, rank, ranks
        self.seed = setting.seed
        self.skipped = 0
        self.shapes: dict[str, Shape] = {}
        for source in sources:
            with _Placed(source):
                self.shapes.update(source.shapes())
        self.positions = [source.start() for source in sources]
        self.closed = False
        self.ahead: Ahead | None = None
        self.costly = [i for i, s in enumerate(sources) if s.costly or (workers and not s.held)]
        if workers is not None and workers < 0:
            raise NetError("a negative number of workers", expected="0 or more", got=workers)
        self.workers = (usual_workers() if workers is None else workers) if self.costly else 0

    def next(self) -> dict[str, Array]:
        """The next batch, float32, by top. Raises: NetError for what cannot be read."""
        if self.closed:
            raise NetError("the feeds are closed")
        arrays: dict[str, Array] = {}
        batches = self._batches()
        for i, (source, batch) in enumerate(zip(self.sources, batches, strict=True)):
            self.positions[i] += source.batch * self.ranks
            arrays.update(batch.arrays)
            for fault in batch.faults:
                self.skipped += 1
                told = f"layer {source.title}: passed over, {self.skipped} so far: {fault}"
                warnings.warn(told, NetWarning, stacklevel=2)
        return arrays

    def state(self) -> dict[str, Any]:
        """Where the feeds are, as JSON can hold it: the same on every rank, and good for any number of ranks."""
        positions = {s.tops[0]: p for s, p in zip(self.sources, self.positions, strict=True)}
        return {"version": VERSION, "seed": self.seed, "positions": positions}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken. Raises: NetError when it is of another net."""
        tops = [s.tops[0] for s in self.sources]
        positions = state.get("positions") if isinstance(state, Mapping) else None
        sound = (
            isinstance(positions, Mapping)
            and all(isinstance(p, int) and p >= 0 for p in positions.values())
            and isinstance(state.get("seed"), int)
        )
        if not isinstance(positions, Mapping) or not sound or state.get("version") != VERSION:
            raise NetError("this is no state of data feeds", expected="what Feeds.state() gave", got=f"{state!r:.80}")
        if set(positions) != set(tops):
            expected, got = ", ".join(tops) or "no data layer", ", ".join(positions) or "no data layer"
            raise NetError("the state is of other data layers", expected=expected, got=got)
        self._halt()
        self.positions = [positions[top] for top in tops]
        self.seed = state["seed"]
        for source in self.sources:
            source.seed(self.seed)

    def skip(self, batches: int) -> None:
        """Go past so many batches, as if they had been taken."""
        self._halt()
        pairs = zip(self.sources, self.positions, strict=True)
        self.positions = [p + batches * source.batch * self.ranks for source, p in pairs]

    def close(self) -> None:
        """Let go of files and processes."""
        self.closed = True
        self._halt()
        for source in self.sources:
            source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _batches(self) -> list[Batch]:
        """The batches at the positions of now."""
        made: dict[int, Batch] = {}
        try:
            if self.workers:
                if self.ahead is None:
                    sources, starts = [self.sources[i] for i in self.costly], [self.positions[i] for i in self.costly]
                    self.ahead = Ahead(sources, starts, self.rank, self.ranks, self.workers)
                made = dict(zip(self.costly, self.ahead.next(), strict=True))
            for i, (source, position) in enumerate(zip(self.sources, self.positions, strict=True)):
                if i not in made:
                    made[i] = batch_at(source, position, self.rank, self.ranks)
        except BaseException:  # we stay where we are, and what was made ahead is no longer what comes next
            self._halt()
            raise
        return [made[i] for i in range(len(self.sources))]

    def _halt(self) -> None:
        """Forget what was made ahead."""
        if self.ahead is not None:
            self.ahead.close()
            self.ahead = None


def check_fed(graph: Graph, shapes: Mapping[str, Shape]) -> None:
    """Raises: NetError for an input of the net that neither fills itself nor is among these tops of feeds."""
    for node in graph.nodes:
        if node.layer.is_input and not fills_itself(node.layer) and any(v.blob not in shapes for v in node.tops):
            hint = HINTS.get(node.layer.kind, "its store is not read here; Python can feed it: Solver(feeds=...)")
            raise NetError("nothing feeds this input", layer=node.title, at=node.at, hint=hint)


def batch_at(source: Source, position: int, rank: int, ranks: int) -> Batch:
    """The batch of one rank, when all ranks together stand at a position."""
    with _Placed(source):
        return source.take(range(position + rank, position + rank + source.batch * ranks, ranks))


class _Placed:
    """Says in a NetError which layer it is about."""

    def __init__(self, layer: Msg | Source) -> None:
        self.layer = layer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(e, NetError):
            layer = self.layer
            e.layer = e.layer or (layer.title if isinstance(layer, Source) else f'"{layer.name}" ({layer.type})')
            e.at = e.at or (layer.at if isinstance(layer, Source) else layer.at())
