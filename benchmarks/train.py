"""A training step of ResNet-50 (forward, backward, update) beside the same net in plain PyTorch with torch.optim.SGD.

    python benchmarks/train.py [--batch 4] [--rounds 7] [--device cpu|cuda] [--dtype float32|bfloat16]

Both train in one process, in turns: a round lets one run, then the other. Told are the medians of the rounds, and the
median of their ratios (above 1: ours is faster). Data is the same random batch each time, from memory; with bfloat16 both
keep float32 weights and compute under torch.autocast. Plain PyTorch normalises and scales in one layer (BatchNorm2d) where
Caffe's nets have two, BatchNorm and Scale.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from netcompiler.train.solver import Solver  # noqa: E402
from netcompiler.upgrade import parse_solver  # noqa: E402
from netcompiler.zoo import resnet  # noqa: E402

RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4


class Bottleneck(nn.Module):
    """A residual block as in the authors' nets: the stride is in the first convolution."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        outside = 4 * width
        self.branch = nn.Sequential(
            nn.Conv2d(inside, width, 1, stride, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.skip: nn.Module = nn.Identity()
        if inside != outside:
            self.skip = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(self.branch(x) + self.skip(x))


def plain() -> nn.Module:
    """ResNet-50 in plain PyTorch."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    ]
    inside = 64
    for stage, count in enumerate(resnet.BLOCKS[50]):
        width = 64 << stage
        for i in range(count):
            layers.append(Bottleneck(inside, width, 2 if i == 0 and stage else 1))
            inside = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 1000))


class Same:
    """A feed that gives the same batch each time."""

    def __init__(self, batch: int, size: int) -> None:
        rng = np.random.default_rng(0)
        self.arrays = {
            "data": rng.normal(size=(batch, 3, size, size)).astype(np.float32) * 50,
            "label": rng.integers(0, 1000, batch).astype(np.float32),
        }
        self.shapes = {name: a.shape for name, a in self.arrays.items()}

    def next(self) -> dict[str, np.ndarray]:
        return self.arrays

    def skip(self, batches: int) -> None: ...
    def state(self) -> dict[str, int]:
        return {}

    def restore(self, state: object) -> None: ...
    def close(self) -> None: ...


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--size", type=int, default=224)
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--steps", type=int, default=1, help="in a round")
    p.add_argument("--device", default="cpu")
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    p.add_argument("--channels-last", action="store_true", help="both in the memory order N H W C")
    p.add_argument(
        "--cpu-time", action="store_true", help="count the process's own seconds: for a machine that others use"
    )
    o = p.parse_args()
    clock = time.process_time if o.cpu_time else time.perf_counter

    feed = Same(o.batch, o.size)
    net = resnet.train_val(50, train_batch=o.batch)
    if o.size != resnet.CROP:
        pool = next(layer for layer in net.raw.layer if layer.name == "pool5").pooling_param
        pool.Clear()
        pool.pool, pool.global_pooling = 1, True
    settings = f"base_lr: {RATE} lr_policy: 'fixed' momentum: {MOMENTUM} weight_decay: {DECAY} random_seed: 1"
    message = parse_solver(settings)
    message.raw.net_param.CopyFrom(net.raw)
    ours = Solver(message, device=o.device, dtype=o.dtype, feeds=feed, channels_last=o.channels_last)

    torch.manual_seed(0)
    layout = torch.channels_last if o.channels_last else torch.contiguous_format
    theirs = plain().to(o.device, memory_format=layout)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    criterion = nn.CrossEntropyLoss()
    low = torch.autocast(o.device, torch.bfloat16) if o.dtype == "bfloat16" else nullcontext()

    def wait() -> None:
        if o.device == "cuda":
            torch.cuda.synchronize()

    def our_step() -> None:
        ours.step()

    def their_step() -> None:
        arrays = feed.next()
        x = torch.from_numpy(arrays["data"]).to(o.device, memory_format=layout)
        label = torch.from_numpy(arrays["label"]).to(o.device).long()
        optimizer.zero_grad(set_to_none=True)
        with low:
            loss = criterion(theirs(x), label)
        loss.backward()
        optimizer.step()

    times: dict[str, list[float]] = {"netcompiler": [], "PyTorch": []}
    turns = (("netcompiler", our_step), ("PyTorch", their_step))
    for _, step in turns:
        for _ in range(2 if o.device == "cpu" else 10):
            step()
    for _ in range(o.rounds):
        for name, step in turns:
            wait()
            start = clock()
            for _ in range(o.steps):
                step()
            wait()
            times[name].append((clock() - start) / o.steps)
    print(f"ResNet-50, batch {o.batch} x 3 x {o.size} x {o.size}, {o.dtype}, {o.device}, {o.rounds} rounds")
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"{name:12} {middle * 1000:9.1f} ms   {o.batch / middle:8.1f} images/s")
    ratios = [theirs / ours for ours, theirs in zip(times["netcompiler"], times["PyTorch"], strict=True)]
    print(f"ratio        {statistics.median(ratios):9.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
