"""Training on many devices at once, started by torchrun: each rank reads its share, and all take the same steps.

As with Caffe's many GPUs: batch_size is each rank's own, gradients are summed over the ranks and divided by their number,
BatchNorm looks at its own rank's batch unless told otherwise, and rank 0 tests, tells and writes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from ..errors import NetError

if TYPE_CHECKING:
    from .solver import Solver

T = TypeVar("T")
# For what a rank waits at most. The others wait while rank 0 tests; one that is lost is noticed at once, by its connection.
PATIENCE = timedelta(hours=24)
MEETING = timedelta(minutes=15)  # for how long the first ranks wait for the last
LOST = ("gloo", "NCCL", "Connection", "connection")  # one of these is in what torch says then
REQUESTS = (None, "snapshot", "stop")  # a later one counts where ranks ask for different things
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # that torchrun sets


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together. device: what it computes on, as `compile` takes it."""

    rank: int = 0
    count: int = 1
    device: str | None = None

    def same(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        if self.count == 1:
            return value
        held = [value]
        with _together(self):
            dist.broadcast_object_list(held, 0, device=torch.device("cpu"))
        return held[0]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, on rank 0; elsewhere the own one."""
        if self.count == 1:
            return [value]
        found: list[Any] | None = [None] * self.count if self.rank == 0 else None
        with _together(self):
            dist.gather_object(value, found, 0)
        return [value] if found is None else found

    def agree(self, request: str | None) -> str | None:
        """What any rank asks for: "stop" before "snapshot" before None."""
        if self.count == 1:
            return request
        tensor = torch.tensor([REQUESTS.index(request)])
        with _together(self):
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return REQUESTS[int(tensor.item())]

    def together(self) -> AbstractContextManager[None]:
        """Stands around a pass of the net, in which ranks talk. Raises: NetError where one of them is gone."""
        return _together(self, beside=True)

    def share(self, net: nn.Module) -> None:
        """Give every rank the weights and the statistics of rank 0."""
        if self.count == 1:
            return
        with _together(self), torch.no_grad():
            for tensor in (*net.parameters(), *net.buffers()):
                if tensor.numel():
                    whole = tensor.detach().contiguous()
                    dist.broadcast(whole, 0)
                    tensor.copy_(whole)


@contextmanager
def _together(ranks: Ranks, beside: bool = False) -> Iterator[None]:
    """Turn torch's words for a rank that is gone into a NetError.

    beside: other things are done there, too, whose faults stay what they are.
    """
    try:
        yield
    except RuntimeError as e:
        known = isinstance(e, dist.DistError) or any(word in str(e) for word in LOST)
        if "out of memory" in str(e) or (beside and not known):
            raise
        hint = "the last snapshot is whole: go on from it with --snapshot latest"
        got = f"{str(e).splitlines()[0]:.160}"
        raise NetError("another rank is gone", at=f"rank {ranks.rank} of {ranks.count}", got=got, hint=hint) from None


def launched() -> tuple[int, int, int]:
    """What torchrun told this process: its rank, how many there are, and which it is on this machine; 0, 1, 0 without.

    Raises: NetError when that makes no sense.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return 0, 1, 0
    try:
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank))
        if not 0 <= rank < count or local < 0:
            raise ValueError
    except ValueError:
        got = ", ".join(f"{name}={os.environ.get(name, '')}" for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        raise NetError("the ranks that the environment tells make no sense", got=got) from None
    missing = [name for name in RANK_VARIABLES if name not in os.environ]
    if count > 1 and missing:
        hint = "start the ranks with torchrun: torchrun --nproc-per-node=2 -m netcompiler train ..."
        raise NetError("the environment tells of several ranks, but not of where they meet", got=missing[0], hint=hint)
    return rank, count, local


@contextmanager
def joined(device: str | None = None) -> Iterator[Ranks]:
    """Meet the other ranks that torchrun started, and part from them in the end; alone without torchrun.

    device: None or "cuda": a GPU for each rank, where there are as many; else what it says. What lies on GPUs travels
    through nccl; all else through gloo, which waits for no GPU, and notices at once when a rank is gone.
    Raises: NetError for a device that does not suit several ranks, and where the ranks cannot meet.
    """
    rank, count, local = launched()
    if count == 1:
        yield Ranks(0, 1, device)
        return
    where = _own_device(device, local)
    kind = "gloo"
    if where.startswith("cuda"):
        kind = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(where)
    try:
        dist.init_process_group(kind, store=_meet(rank, count), rank=rank, world_size=count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as e:
        got = f"{str(e).splitlines()[0]:.160}"
        raise NetError("the ranks cannot meet", at=f"rank {rank} of {count}", got=got) from None
    try:
        yield Ranks(rank, count, where)
    finally:
        dist.destroy_process_group()


def _meet(rank: int, count: int) -> Any:
    """Where the ranks tell each other their addresses, when all of them are there.

    torchrun keeps its store when it starts the ranks again, with the addresses of those that are gone: each attempt has
    its own part of it.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    whole, *_ = next(rendezvous("env://", rank, count, timeout=MEETING))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(f"netcompiler/{attempt}/{count}", whole)
    store.set(f"here/{rank}", "")
    store.wait([f"here/{i}" for i in range(count)], MEETING)
    return store


def _own_device(device: str | None, local: int) -> str:
    """The device of the rank that is number `local` on this machine."""
    here = max(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), local + 1)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None:
        return f"cuda:{local}" if gpus >= here else "cpu"
    if device == "cuda":
        if gpus < here:
            hint = "fewer ranks (--nproc-per-node), or --device cpu"
            raise NetError("there are not enough GPUs for a rank on each", expected=here, got=gpus, hint=hint)
        return f"cuda:{local}"
    if device.startswith("cuda:"):
        hint = "--device cuda gives each rank its own; CUDA_VISIBLE_DEVICES says which there are"
        raise NetError("several ranks cannot share one GPU", at="--device", got=device, hint=hint)
    return device


class Exchange:
    """What ranks tell each other in an iteration: their gradients, and whether one of them is asked to stop.

    After `join` a solver averages gradients by DistributedDataParallel. `request` is then what all ranks are to do after
    an iteration.
    asked: what this rank is asked for, by a signal say: "stop", "snapshot" or None; asking takes the question back.
    """

    def __init__(self, ranks: Ranks, asked: Callable[[], str | None]) -> None:
        self.ranks, self.asked = ranks, asked
        self._request: str | None = None

    def join(self, solver: Solver) -> None:
        """Let a solver take its steps together with the other ranks'."""
        if self.ranks.count == 1:
            return
        self.ranks.share(solver.net)
        if any(p.requires_grad for p in solver.net.parameters()):
            solver.forward = averaging(solver.forward)
        solver.before_update, solver.gather, solver.together = self.agree, self.ranks.gather, self.ranks.together

    def agree(self) -> None:
        """Agree on what to do after this iteration."""
        self._request = self.ranks.agree(self.asked())

    def request(self) -> str | None:
        """What is to be done now, once."""
        if self.ranks.count == 1:
            return self.asked()
        request, self._request = self._request, None
        return request


def averaging(module: nn.Module) -> nn.Module:
    """A module whose backward pass makes each gradient the mean of all ranks', while it is still on its way.

    A parameter that gets none on one rank counts as 0 there. Statistics stay each rank's own.
    """
    from torch.nn.parallel import DistributedDataParallel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions have another name for broadcast_buffers
        return DistributedDataParallel(
            module, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True, init_sync=False
        )
