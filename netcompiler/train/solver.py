"""Solver: a solver.prototxt at work, in the order of things that Caffe keeps."""

from __future__ import annotations

import os
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .. import rows
from ..binary import write_caffemodel, write_h5
from ..binary.state import SolverState
from ..builder import build
from ..data.feeds import check_fed, open_feeds
from ..errors import NetError, NetWarning
from ..graph import Array, Shape, dims
from ..module import DTYPES, CompiledNet, compile
from ..text import Msg
from ..weights import bind, read_weights
from . import snapshot as snapshots
from .checkpoint import Checkpointed
from .debug import Watch
from .draws import Draws
from .fuse import fuse, synchronise
from .losses import Losses
from .nets import (
    add,
    images,
    learned_blobs,
    learned_groups,
    loss_weights,
    named,
    output_names,
    plain,
    remembered,
    remind,
    share,
)
from .policies import rate, steps
from .rules import optimizer
from .settings import NetSource, Settings, load_settings

Event = dict[str, Any]
Scores = dict[str, Any]  # by output blob: a float, or a list of them where the blob has several


class Feed(Protocol):
    """What a Solver reads batches from: `netcompiler.data.feeds.Feeds`, or one's own."""

    @property
    def shapes(self) -> Mapping[str, Shape]: ...
    def next(self) -> Mapping[str, Array]: ...
    def skip(self, batches: int) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Built:
    """A net of the solver: its message without `state`, its NetState, what feeds it, and the running module."""

    msg: Msg
    phase: str
    level: int
    stages: tuple[str, ...]
    feed: Feed
    net: CompiledNet


class Pass(nn.Module):
    """One pass of a train net: a batch -> its loss, and the outputs without what led to them.

    run: what runs the net; itself, or in segments.
    """

    def __init__(self, net: CompiledNet, run: Callable[..., dict[str, Tensor]]) -> None:
        super().__init__()
        self.net, self.run = net, run

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = self.run(**batch)
        return self.net.loss(outputs), {name: top.detach() for name, top in outputs.items()}


class Solver:
    """Trains a net as Caffe does.

    source: path of a solver's prototxt, or a SolverParameter.  weights: to start from: paths of .caffemodel files, one or
    several, or with commas between them; in place of the settings' own `weights`.  overrides: fields to set anew.
    device: by default what solver_mode says, and the CPU where there is no CUDA.
    dtype: float32 or float64; bfloat16: float32 weights, and layers that gain from it computed in bfloat16.
    feeds, test_feeds: in place of the nets' data layers.  rank, ranks: which part of the data this process reads.
    seed: in place of random_seed.  allow_python: run the code that Python layers name.
    channels_last: keep 4-D blobs in the memory order N H W C, which many GPUs convolve faster; the numbers are the same.
    on_fault: "stop" at a record or a picture that cannot be read, or "skip" it.
    workers: processes that decode ahead, for each net; None: as many as pay, 0: none.
    sync_batchnorm: BatchNorm looks at the batches of all ranks as one.
    checkpoint: keep the blobs at the ends of so many segments of the net only, and make the others again for the backward
    pass: less memory for more time, the numbers are the same. 0: the square root of the number of layers. None: keep all.
    dialect: the fork that the nets are written for, as netcompiler.dialects names them; detected if None.

    iter: how many updates were made.  net: the TRAIN net; test_nets share its arrays by layer name.  outputs: what the
    last forward pass of the train net returned.
    forward: a module that makes one pass of the train net, a `Pass`; DistributedDataParallel may stand around it.
    before_update: called without arguments before each update.  gather: called with what each rank puts into a
    snapshot, it returns the list of all ranks' on rank 0.  together: stands around what ranks do together.
    Only rank 0 tests and writes.
    Raises: NetError for whatever is wrong in the files or the arguments.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Msg,
        *,
        weights: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        overrides: Mapping[str, str] | None = None,
        feeds: Feed | None = None,
        test_feeds: Sequence[Feed] | None = None,
        rank: int = 0,
        ranks: int = 1,
        seed: int | None = None,
        allow_python: bool = False,
        channels_last: bool = False,
        on_fault: str = "stop",
        workers: int | None = None,
        sync_batchnorm: bool = False,
        checkpoint: int | None = None,
        dialect: str | None = None,
    ) -> None:
        self.settings: Settings = load_settings(source, overrides)
        s = self.settings
        if s.snapshot and not rank:
            snapshots.check_writable(s.snapshot_prefix)
        self.rank, self.ranks = rank, ranks
        given = s.random_seed if s.random_seed >= 0 else secrets.randbits(31)
        self.seed = given if seed is None else seed
        self.iter = 0
        self.outputs: dict[str, Tensor] = {}
        self.before_update: Callable[[], None] | None = None
        self.gather: Callable[[Any], list[Any]] | None = None
        self.together: Callable[[], AbstractContextManager[None]] = nullcontext
        self._reading: dict[str, Any] = {"seed": self.seed, "on_fault": on_fault, "workers": workers}
        self._python = allow_python
        self._dialect = dialect
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._dtype, self._low = _types(dtype)
        where = _device(s) if device is None else device

        blobs = read_weights(*_paths(weights, s)) if weights is not None or s.weights else None
        self._train = self._build(
            s.train, feeds, where, lambda graph: bind(graph, blobs or {}, seed=self.seed, warn=blobs is not None)
        )
        self.net = self._train.net
        pairs = [] if s.debug_info else fuse(self.net)  # debug_info looks at every blob
        if sync_batchnorm and ranks > 1:
            synchronise(self.net)
        self.device = self.net.device
        in_parts = checkpoint is not None and not s.debug_info
        self.forward: nn.Module = Pass(
            self.net, Checkpointed(self.net, checkpoint or 0, pairs) if in_parts else self.net
        )
        if not any(w for n in self.net.graph.nodes for w in n.loss_weights):
            raise NetError(
                "the net to train has no loss", at=str(s.train.at or s.train.path), hint="give a top a loss_weight"
            )
        self._tests = self._build_tests(test_feeds, blobs or {})
        self.test_nets = [built.net for built in self._tests]
        if dtype == "tf32" and self.device.type != "cuda":
            raise NetError("tf32 is for CUDA devices", got=f"the device {self.device}", hint="leave --dtype out")
        for net in (self.net, *self.test_nets):
            net.tf32 = dtype == "tf32"

        self.learned, groups = learned_groups(self.net)
        self.optimizer = optimizer(s, groups)
        self.optimizer.updates = {} if s.snapshot_diff else None
        self._random = Draws(self.device, self.seed + rank)
        self._losses = Losses(s.average_loss)
        self._callback: Callable[[Event], None] | None = None
        self._stop: Callable[[], str | None] | None = None
        self._stopped = False
        self._before: tuple[list[Any], Any] | None = (
            None  # test feeds and random numbers, before a test that is running
        )
        self._shown = (0, time.monotonic())  # images and time since the last display
        self._images = 0

    # --- nets ---

    def _build(self, source: NetSource, feed: Feed | None, where: Any, bound: Callable[[Any], Any]) -> _Built:
        """A net of the solver, with its feed."""
        s = self.settings
        msg, phase, level, stages = source.load(s.folder)
        root = str(Path(source.path).parent if Path(source.path).exists() else (s.folder / source.path).parent)
        if feed is None:
            rank, ranks = (self.rank, self.ranks) if source.phase == "TRAIN" else (0, 1)
            feed = open_feeds(msg, phase, level, stages, root=root, rank=rank, ranks=ranks, **self._reading)
        try:
            graph = build(msg, phase, level, stages, feed.shapes, self._python, dialect=self._dialect)
            check_fed(graph, feed.shapes)
            net = compile(bound(graph), optimize=False, device=where, dtype=self._dtype)
            if self._layout == torch.channels_last:
                net.to(memory_format=self._layout)  # type: ignore[call-overload]
        except BaseException:
            feed.close()
            raise
        return _Built(msg, phase, level, stages, feed, net)

    def _build_tests(self, feeds: Sequence[Feed] | None, blobs: Mapping[str, Sequence[Array]]) -> list[_Built]:
        """The test nets, on rank 0. Their layers take the train net's arrays, or else the file's, or their fillers'."""
        tests = self.settings.tests if self.rank == 0 else ()
        if feeds is not None and len(feeds) != len(self.settings.tests):
            raise NetError("the wrong number of test_feeds", expected=len(self.settings.tests), got=len(feeds))
        ours = self.net.caffe_params() if tests else {}
        built = []
        for i, source in enumerate(tests):

            def bound(graph: Any) -> Any:
                names = {n.name for n in graph.nodes}
                known = {
                    **{k: v for k, v in blobs.items() if k in names},
                    **{k: v for k, v in ours.items() if k in names},
                }
                return bind(graph, known, seed=self.seed, warn=False)

            test = self._build(source, feeds[i] if feeds is not None else None, self.device, bound)
            share(test.net, self.net)
            built.append(test)
        return built

    # --- the loop ---

    def step(self, n: int = 1) -> float:
        """Make n iterations, with the tests and the snapshots that fall due; the smoothed loss.

        Source: Caffe, src/caffe/solver.cpp, Step.
        """
        s = self.settings
        end = self.iter + n
        while self.iter < end:
            if self.optimizer.updates:
                self.optimizer.updates.clear()
            if s.test_interval and self.iter % s.test_interval == 0 and (self.iter or s.test_initialization):
                self._test_all()
                if self._stopped:
                    break
            self._iterate()
            asked = self._stop() if self._stop else None
            if (s.snapshot and self.iter % s.snapshot == 0) or asked == "snapshot":
                self.snapshot()
            if asked == "stop":
                self._stopped = True
                break
        return self.loss

    def _iterate(self) -> None:
        """One iteration: the gradients of iter_size batches, one update."""
        s = self.settings
        display = bool(s.display) and self.iter % s.display == 0
        watch = Watch(self.net) if display and s.debug_info else None
        self.optimizer.zero_grad(set_to_none=True)
        total: Tensor | None = None
        silent = getattr(self.forward, "no_sync", nullcontext)
        with watch or nullcontext(), self.together(), self._rows():
            for i in range(s.iter_size):
                batch = self._batch(self._train)
                if watch:
                    watch.fed(batch)
                last = i == s.iter_size - 1
                with self._computing(self.net), nullcontext() if last else silent():  # ranks talk in the last one
                    loss, self.outputs = self.forward(batch)
                    if loss.requires_grad:
                        loss.backward()
                total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        self._losses.add(total / s.iter_size)
        lr = rate(s, self.iter)
        if display:
            self._display(lr)
        if self.before_update:
            self.before_update()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        if watch:
            self._emit("debug", lines=watch.lines(self.optimizer))
        self.iter += 1
        self._emit("iteration", lr=lr)

    def solve(
        self, callback: Callable[[Event], None] | None = None, stop: Callable[[], str | None] | None = None
    ) -> float:
        """Train up to max_iter, as `caffe train` does; the smoothed loss.

        callback: called with what happens: `kind` (start, iteration, display, test, snapshot, debug, done), `iter`, and
        by kind  display: loss (smoothed), lr, outputs, loss_weights, images and seconds since the last one;  iteration:
        lr, images;  test: net, outputs, loss_weights, loss (with test_compute_loss), images, seconds;  snapshot: paths,
        seconds;  done: stopped, loss, skipped (see there).
        stop: asked after each iteration and between the batches of a test; "stop" ends training, "snapshot" writes one.
        Source: Caffe, src/caffe/solver.cpp, Solve.
        """
        s = self.settings
        if not s.max_iter:
            raise NetError("max_iter is missing", at=str(s.train.at or ""), expected="how many iterations to train")
        if s.snapshot_after_train:
            if not s.snapshot_prefix:
                hint = 'such as snapshot_prefix: "net", or snapshot_after_train: false'
                raise NetError("a snapshot after training needs a snapshot_prefix", hint=hint)
            if not self.rank:
                snapshots.check_writable(s.snapshot_prefix)
        self._callback, self._stop, self._stopped = callback, stop, False
        try:
            self._shown = (self._images, time.monotonic())
            self._emit("start", max_iter=s.max_iter, type=s.type, lr_policy=s.lr_policy, net=self.net.graph.name)
            self.step(max(s.max_iter - self.iter, 0))
            if s.snapshot_after_train and (not s.snapshot or self.iter % s.snapshot):
                self.snapshot()
            if not self._stopped:
                self._last_look()
            self._emit("done", stopped=self._stopped, loss=self.loss, skipped=self.skipped())
        finally:
            self._callback = self._stop = None
        return self.loss

    def _last_look(self) -> None:
        """What Caffe does when training is over: a forward pass for the display, and a test, where they fall due."""
        s = self.settings
        if s.display and self.iter % s.display == 0:
            batch = self._batch(self._train)
            with torch.no_grad(), self.together(), self._rows(), self._computing(self.net):
                loss, self.outputs = self.forward(batch)
                self._losses.add(loss)
            self._display(rate(s, self.iter))
        if s.test_interval and self.iter % s.test_interval == 0:
            self._test_all()

    def _batch(self, built: _Built) -> dict[str, Tensor]:
        """The next batch of a net, where the net is. Copied, so that the memory is torch's own: aligned alike each time."""
        batch = {}
        for name, array in built.feed.next().items():
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            if self.device.type == "cuda":
                tensor = tensor.pin_memory().to(self.device, non_blocking=True)
            else:
                tensor = tensor.clone()
            batch[name] = tensor.contiguous(memory_format=self._layout) if tensor.dim() == 4 else tensor
        if built is self._train:
            self._images += images(built.net)
        return batch

    def _rows(self) -> AbstractContextManager[Any]:
        """Of several ranks, one writes what the net writes."""
        return rows.unwritten() if self.rank else nullcontext()

    @contextmanager
    def _computing(self, net: CompiledNet) -> Iterator[None]:
        """Stands around a pass of a net: random numbers are the solver's own, and layers that gain from a smaller type
        compute in it."""
        low = torch.autocast(self.device.type, self._low) if self._low else nullcontext()
        with self._random, net.precision(), low, named(net):
            yield

    def skipped(self) -> int:
        """How many unreadable records were passed over so far; on rank 0 those of all ranks."""
        own = sum(getattr(built.feed, "skipped", 0) for built in (self._train, *self._tests))
        return sum(self.gather(own)) if self.gather else own

    # --- what is told ---

    @property
    def loss(self) -> float:
        """The loss of now, the mean of the last average_loss ones; 0 before the first. Waits for the device."""
        return self._losses.mean()

    def _emit(self, kind: str, **facts: Any) -> None:
        if self._callback:
            if kind == "iteration":
                facts["images"] = images(self._train.net) * self.settings.iter_size
            self._callback({"kind": kind, "iter": self.iter, **facts})

    def _display(self, lr: float) -> None:
        if not self._callback:
            return
        before, since = self._shown
        loss, shown = self.loss, {name: plain(self.outputs[name]) for name in output_names(self.net)}
        now = time.monotonic()
        self._shown = (self._images, now)
        told = {"loss": loss, "lr": lr, "outputs": shown, "loss_weights": loss_weights(self.net)}
        self._emit("display", **told, images=self._images - before, seconds=now - since)

    # --- tests ---

    def _test_all(self) -> None:
        if self._tests:
            self._before = [built.feed.state() for built in self._tests], self._random.state()
            for i in range(len(self._tests)):
                if not self._stopped:
                    self.test(i)
            self._before = None

    def test(self, which: int = 0) -> Scores:
        """The mean of each output of a test net over test_iter batches; with test_compute_loss also of the loss, under
        "loss" unless an output has that name.

        Source: Caffe, src/caffe/solver.cpp, Test.
        """
        if not 0 <= which < len(self._tests):
            raise NetError("no such test net", expected=f"below {len(self._tests)}", got=which)
        s, built, start = self.settings, self._tests[which], time.monotonic()
        names, count = output_names(built.net), s.test_iter[which]
        sums: dict[str, Tensor] = {}
        loss: Tensor | float = 0.0
        with rows.gathered() as written:
            for _ in range(count):
                self._obey()
                if self._stopped:
                    written.drop()
                    return {}
                watch, batch = Watch(built.net) if s.debug_info else None, self._batch(built)
                if watch:
                    watch.fed(batch)
                with torch.no_grad(), self._computing(built.net), watch or nullcontext():
                    outputs = built.net(**batch)
                    if s.test_compute_loss:
                        loss = loss + built.net.loss(outputs)
                for name in names:
                    exact = torch.promote_types(outputs[name].dtype, torch.float32)
                    add(sums, name, name, outputs[name].to(exact))
                if watch:
                    self._emit("debug", lines=watch.lines(None))
        scores: Scores = {name: plain(total / count) for name, total in sums.items()}
        facts: Scores = {"loss": float(loss) / count} if s.test_compute_loss else {}
        told = {
            "net": which,
            "outputs": scores,
            "loss_weights": loss_weights(built.net),
            "images": images(built.net) * count,
        }
        self._emit("test", **told, **facts, seconds=time.monotonic() - start)
        return {**facts, **scores}

    def _obey(self) -> None:
        """What is asked for between two batches of a test."""
        asked = self._stop() if self._stop and self.ranks == 1 else None  # of several, the others do not test
        if asked == "snapshot":
            self.snapshot()
        self._stopped = asked == "stop"

    # --- snapshots ---

    def snapshot(self) -> tuple[Path, Path]:
        """Write the weights, the solver's state and the sidecar; the paths of the first two.

        Raises: NetError when they cannot be written; what stood there before is then still there.
        """
        s, start = self.settings, time.monotonic()
        if not s.snapshot_prefix:
            raise NetError("a snapshot needs a snapshot_prefix", hint='such as snapshot_prefix: "net"')
        names = snapshots.Names.at(s.snapshot_prefix, self.iter, s.snapshot_format == "HDF5")
        test_feeds, draws = self._before or ([test.feed.state() for test in self._tests], self._random.state())
        own = draws, remembered(self.net)
        states = self.gather(own) if self.gather else [own]
        if self.rank:
            return names.model, names.state
        blobs, diffs, built = self.net.caffe_params(), self._diffs(), self._train

        def write_model(path: Path) -> None:
            if path.suffix == ".h5":
                write_h5(path, blobs, diffs)
            else:
                state: dict[str, Any] = {"phase": built.phase, "level": built.level, "stages": built.stages}
                write_caffemodel(path, built.msg, blobs, **state, diffs=diffs, dialect=self.net.graph.dialect)

        history = [t.detach().cpu().numpy() for t in self.optimizer.history(self.learned)]
        state = SolverState(self.iter, str(names.model), steps(s, self.iter - 1), history)
        rest = {
            "feeds": built.feed.state(),
            "test_feeds": test_feeds,
            "random": [state for state, _ in states],
            "remembered": [held for _, held in states],
            "seed": self.seed,
            **self._losses.state(),
        }
        snapshots.write(names, write_model, state, rest)
        self._emit("snapshot", paths=[str(names.model), str(names.state)], seconds=time.monotonic() - start)
        return names.model, names.state

    def _diffs(self) -> dict[str, list[Array]] | None:
        """With snapshot_diff what the last update took off each blob; 0 where it took nothing."""
        taken = self.optimizer.updates
        if taken is None:
            return None
        found: dict[str, list[Array]] = {}
        for node, attribute in zip(self.net.graph.nodes, self.net.attributes, strict=True):
            for name in node.layer.blobs(node.bottom_shapes):
                tensor, shape = getattr(self.net, attribute).held(name)
                update = taken.get(tensor, torch.zeros_like(tensor))
                found.setdefault(node.name, []).append(update.detach().cpu().numpy().reshape(shape))
        return found

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a snapshot, ours or Caffe's, as if training had never stopped.

        One without a sidecar (Caffe's) does not tell where the data stood: it goes on behind what so many iterations
        have read, while random numbers start anew.
        Raises: NetError for files that cannot be read, and for those of another net or another rule.
        """
        state, model, rest = snapshots.read(path)
        kept, count = self.optimizer.kept, len(self.learned)
        if len(state.history) != count * len(kept):
            expected = f"{count * len(kept)}: {len(kept)} for each of the net's {count} blobs ({self.settings.type})"
            what = "the snapshot is of another net or type of solver"
            raise NetError(what, at=str(path), expected=expected, got=f"{len(state.history)} arrays of history")
        history = []
        for array, blob in zip(state.history, list(learned_blobs(self.net)) * len(kept), strict=True):
            if array.size != blob.tensor.numel():
                what = f"the snapshot is of another net: {blob.title} has another shape"
                raise NetError(what, at=str(path), expected=dims(blob.shape), got=dims(array.shape))
            history.append(torch.from_numpy(np.array(array)).view(blob.tensor.shape))
        if model is not None:
            self.net.load_caffe_params(read_weights(model))
        self.iter = state.iteration
        if self.optimizer.updates:
            self.optimizer.updates.clear()
        self.optimizer.load_history(self.learned, history, self.iter)
        self._losses.clear()
        if rest is None:
            self._skip()
        else:
            self._take(rest, str(path))

    def _take(self, rest: Mapping[str, Any], path: str) -> None:
        """What a sidecar holds."""
        try:
            self._train.feed.restore(rest["feeds"])
            tests = rest["test_feeds"]
            if len(tests) == len(self._tests):
                for built, held in zip(self._tests, tests, strict=True):
                    built.feed.restore(held)
            elif self._tests:
                warnings.warn(f"{path}: of other test nets: their data starts anew", NetWarning, stacklevel=4)
            if len(rest["random"]) == self.ranks:
                self._random.load(rest["random"][self.rank])
            else:
                self._random.seed(self.seed + self.rank + self.iter)
            told = rest.get("remembered", [])
            remind(self.net, told[self.rank] if len(told) == self.ranks else {})
            self._losses.load(rest)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as e:
            raise NetError(
                f"the sidecar of this snapshot is damaged: {e}", at=path, hint="remove it, or take another"
            ) from None

    def _skip(self) -> None:
        """Without a sidecar: past what was read by then."""
        s = self.settings
        self._train.feed.skip(self.iter * s.iter_size)
        rounds = -(-self.iter // s.test_interval) - (not s.test_initialization) if s.test_interval and self.iter else 0
        for built, count in zip(self._tests, s.test_iter, strict=False):
            built.feed.skip(rounds * count)
        remind(self.net, {})
        self._random.seed(self.seed + self.rank + self.iter)

    def close(self) -> None:
        """Let go of the feeds' files and processes."""
        for built in (self._train, *self._tests):
            built.feed.close()

    def __enter__(self) -> Solver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _types(dtype: str | torch.dtype | None) -> tuple[torch.dtype, torch.dtype | None]:
    """The type of the weights, and the smaller one that layers compute in."""
    kind = DTYPES.get(dtype or "float32") if not isinstance(dtype, torch.dtype) else dtype
    if kind == torch.bfloat16:
        return torch.float32, kind
    if kind not in (torch.float32, torch.float64):
        raise NetError("no dtype to train in", expected="float32, tf32, float64 or bfloat16", got=dtype)
    return kind, None


def _device(s: Settings) -> torch.device:
    """What solver_mode and device_id say. Where there is no CUDA, the CPU; told where the file asks for a GPU."""
    if s.solver_mode != "CPU" and torch.cuda.is_available():
        if s.device_id >= torch.cuda.device_count():
            raise NetError("no such device_id", expected=f"below {torch.cuda.device_count()}", got=s.device_id)
        return torch.device("cuda", s.device_id)
    if s.solver_mode == "GPU":
        warnings.warn("solver_mode is GPU, and there is no CUDA here: training on the CPU", NetWarning, stacklevel=3)
    return torch.device("cpu")


def _paths(weights: Any, s: Settings) -> list[Any]:
    """The weight files to start from."""
    if weights is None:
        return list(s.weights)
    several = [weights] if isinstance(weights, str | os.PathLike) else list(weights)
    return [part for w in several for part in (w.split(",") if isinstance(w, str) else [w]) if part]
