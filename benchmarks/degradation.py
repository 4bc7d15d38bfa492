"""The degradation problem and its cure: plain nets of 20 and 56 layers beside residual ones, trained alike.

    python benchmarks/degradation.py [-o degradation.svg]             reduced, on a CPU within ten minutes
    python benchmarks/degradation.py --full --data cifar-10-batches-bin --device cuda -o degradation.svg

The paper (He et al., "Deep Residual Learning for Image Recognition", 2016, figure 6) saw that a plain net of 56
layers has more error than one of 20, on the pictures that it learns from as well: it is not overfitting that harms
it, it cannot be trained as well. With shortcuts the deeper net is the better one; with pre-activation (He et al.,
"Identity Mappings", 2016), too. The nets are the zoo's, the solver is Caffe's; data is scikit-learn's 1,797 scanned
digits, enlarged, or CIFAR-10 in its binary version. Full: the paper's nets, 64,000 steps of 128 pictures, on CIFAR-10.

Reduced: narrower nets, fewer pixels, 480 steps, and a rate of 0.02. RESULTS.md has what came of it: 36 more layers cost
the plain net 58 points of training error, and the residual one a single point. The rate matters: at the paper's 0.1 so
few steps do not get ResNet-56 far, 60 % beside plain-56's 71 % (the paper, too, starts its net of 110 layers at 0.01).
Drawn are error on the training batches, as they come, and on the test set; the last numbers are printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from netcompiler import zoo  # noqa: E402
from netcompiler.drawing.curves import Chart, Curve, Panel  # noqa: E402
from netcompiler.fields import message  # noqa: E402
from netcompiler.text import Msg  # noqa: E402
from netcompiler.train.solver import Solver  # noqa: E402

NETS = ("plain-20", "plain-56", "ResNet-20", "ResNet-56", "PreResNet-56")
CLASSES = 10
HELD_OUT = 360  # of the digits
SIDE, BATCH, RECORD = 32, 10_000, 1 + 3 * 32 * 32  # of CIFAR-10: pixels of a side, pictures in a file, bytes of one
PAD = 4  # pixels around a picture of 32, of which a random part is cut


@dataclass
class Pictures:
    """A set: N x C x H x W, mean subtracted, and labels."""

    images: np.ndarray
    labels: np.ndarray


def digits(side: int) -> tuple[Pictures, Pictures]:
    """Scanned digits, 8 x 8, as side x side: each pixel repeated, then smoothed by its neighbours."""
    from sklearn.datasets import load_digits

    found = load_digits()
    times = side // 8
    images = np.kron(found.images, np.ones((times, times))).astype(np.float32)
    for axis in (1, 2):
        rim = [(0, 0)] * 3
        rim[axis] = (times // 2, times - 1 - times // 2)
        wider = np.pad(images, rim, mode="edge")
        images = np.mean([np.take(wider, range(i, i + side), axis) for i in range(times)], 0, dtype=np.float32)
    images = images[:, None] * 16  # 0 .. 256
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[HELD_OUT:], order[:HELD_OUT]
    images -= images[train].mean()
    labels = found.target.astype(np.float32)
    return Pictures(images[train], labels[train]), Pictures(images[test], labels[test])


def cifar(folder: Path) -> tuple[Pictures, Pictures]:
    """CIFAR-10's 50,000 and 10,000 pictures, out of the folder of its binary version: records of a label, and 3 x 32 x 32
    values, a byte each. The Python version's files are pickles, which could run code: they are not opened.
    """

    def batch(name: str) -> np.ndarray:
        path = folder / f"{name}.bin"
        if not path.is_file():
            python = (folder / name).is_file()
            told = (
                "this is the Python version, of pickles, which could run code" if python else f"there is no {path.name}"
            )
            raise SystemExit(f"{folder}: {told}; wanted is CIFAR-10's binary version, cifar-10-batches-bin")
        found = np.fromfile(path, np.uint8)
        if found.size != BATCH * RECORD or found[::RECORD].max() >= CLASSES:
            raise SystemExit(f"{path}: expected {BATCH} records of {RECORD} bytes, each with a label of 0 to 9")
        return found.reshape(BATCH, RECORD)

    train = np.concatenate([batch(f"data_batch_{i}") for i in range(1, 6)])
    pairs = [
        (part[:, 1:].reshape(-1, 3, SIDE, SIDE), part[:, 0].astype(np.float32)) for part in (train, batch("test_batch"))
    ]
    mean = pairs[0][0].mean((0, 2, 3), np.float64).astype(np.float32)[:, None, None]
    learn, held = (Pictures(images.astype(np.float32) - mean, labels) for images, labels in pairs)
    return learn, held


class Feed:
    """Batches of a set. moved: in a new order each time round, each picture moved by some pixels, half of them mirrored."""

    def __init__(self, pictures: Pictures, batch: int, *, moved: bool, mirror: bool) -> None:
        self.pictures, self.batch, self.moved, self.mirror = pictures, batch, moved, mirror
        self.rng = np.random.default_rng(0)
        self.order = np.arange(len(pictures.labels))
        self.at = len(self.order) if moved else 0
        self.pad = max(1, PAD * pictures.images.shape[-1] // 32)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"data": (self.batch, *self.pictures.images.shape[1:]), "label": (self.batch,)}

    def next(self) -> Mapping[str, np.ndarray]:
        if self.at + self.batch > len(self.order):
            self.at = 0
            if self.moved:
                self.rng.shuffle(self.order)
        chosen = self.order[self.at : self.at + self.batch]
        self.at += self.batch
        images, labels = self.pictures.images[chosen], self.pictures.labels[chosen]
        if self.moved:
            side, pad = images.shape[-1], self.pad
            wide = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
            starts = self.rng.integers(0, 2 * pad + 1, (len(images), 2))
            images = np.stack([w[:, y : y + side, x : x + side] for w, (y, x) in zip(wide, starts, strict=True)])
            if self.mirror:
                turned = self.rng.random(len(images)) < 0.5
                images[turned] = images[turned, :, :, ::-1]
        return {"data": images, "label": labels}

    def skip(self, batches: int) -> None:
        for _ in range(batches):
            self.next()

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


def net(name: str, width: int, steps: int) -> Msg:
    """The training net of a name. Its accuracy is told of in training, too; and where there are few steps, the averages
    that batch normalisation takes over to the test forget faster than Caffe's usual 0.999, which is for thousands.
    """
    kind, depth = name.rsplit("-", 1)
    if kind == "PreResNet":
        msg = zoo.preact.train_val(int(depth), CLASSES, bottleneck=False, shortcut="A", width=width)
    else:
        msg = zoo.cifar.train_val(int(depth), CLASSES, plain=kind == "plain", width=width)
    for layer in msg.raw.layer:
        if layer.name == "top1":
            del layer.include[:]
        if layer.type == "BatchNorm":
            layer.batch_norm_param.moving_average_fraction = min(0.999, 1 - 10 / steps)
    return msg


@dataclass
class Told:
    """What a training told: points of (iteration, value)."""

    train: list[tuple[float, float]]
    test: list[tuple[float, float]]
    loss: list[tuple[float, float]]


def train(name: str, sets: tuple[Pictures, Pictures], o: argparse.Namespace) -> Told:
    """Train one net; the same pictures in the same order for each."""
    learn, held = sets
    mirror = learn.images.shape[1] == 3  # a mirrored digit is another sign
    tested = next(size for size in range(o.batch, 0, -1) if len(held.labels) % size == 0)
    solver_msg = message(
        "SolverParameter",
        net_param=net(name, o.width, o.steps),
        base_lr=o.rate,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=[o.steps // 2, o.steps * 3 // 4],
        max_iter=o.steps,
        momentum=0.9,
        weight_decay=1e-4,
        display=max(1, o.steps // o.points),
        average_loss=max(1, o.steps // o.points),
        test_iter=len(held.labels) // tested,
        test_interval=max(1, o.steps // o.points * 2),
        test_initialization=False,  # BatchNorm has no statistics yet
        snapshot_after_train=False,
        solver_mode="CPU" if o.device == "cpu" else "GPU",
    )
    told, seen = Told([], [], []), list[float]()
    feeds = Feed(learn, o.batch, moved=True, mirror=mirror), Feed(held, tested, moved=False, mirror=False)
    began = time.perf_counter()

    def note(event: Mapping[str, Any]) -> None:
        if event["kind"] == "iteration":
            seen.append(float(solver.outputs["top1"]))
        elif event["kind"] == "display" and seen:
            told.train.append((event["iter"], 100 * (1 - sum(seen) / len(seen))))
            told.loss.append((event["iter"], event["loss"]))
            seen.clear()
        elif event["kind"] == "test":
            told.test.append((event["iter"], 100 * (1 - event["outputs"]["top1"])))

    with Solver(
        solver_msg, device=o.device, feeds=feeds[0], test_feeds=[feeds[1]], seed=o.seed, channels_last=o.device != "cpu"
    ) as solver:
        solver.solve(note)
    print(
        f"{name:<14} error {told.train[-1][1]:5.1f} % in training, {told.test[-1][1]:5.1f} % in test; "
        f"loss {told.loss[-1][1]:.3f}; {time.perf_counter() - began:.0f} s",
        flush=True,
    )
    return told


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--data", default="digits", help="digits (default), or the folder of CIFAR-10's binary version")
    p.add_argument("--full", action="store_true", help="the paper's width, batch and steps")
    p.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    p.add_argument("--width", type=int, help="channels of the first stage (default: 4; full: 16)")
    p.add_argument("--side", type=int, help="pixels of an enlarged digit, a multiple of 8 (default: 16; full: 32)")
    p.add_argument("--batch", type=int, help="default: 32; full: 128")
    p.add_argument("--steps", type=int, help="default: 480; full: 64000")
    p.add_argument("--rate", type=float, help="of the first half of the steps (default: 0.02; full: 0.1)")
    p.add_argument("--points", type=int, help="of a curve (default: 24; full: 200)")
    p.add_argument("--device", default="cpu")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("-o", "--output", default="degradation.svg", help=".svg, .png or .pdf")
    o = p.parse_args()
    reduced: dict[str, tuple[float, float]] = {
        "width": (4, 16),
        "side": (16, 32),
        "batch": (32, 128),
        "steps": (480, 64_000),
        "points": (24, 200),
        "rate": (0.02, 0.1),
    }
    for word, values in reduced.items():
        if getattr(o, word) is None:
            setattr(o, word, values[o.full])
    if o.side % 8 or o.side < 8:
        p.error("--side is a multiple of 8")
    sets = digits(o.side) if o.data == "digits" else cifar(Path(o.data))
    name = "digits" if o.data == "digits" else "CIFAR-10"
    shape = " x ".join(map(str, sets[0].images.shape[1:]))
    print(f"{name}: {len(sets[0].labels)} pictures of {shape}, {len(sets[1].labels)} to test with; width {o.width}")
    told = {which: train(which, sets, o) for which in o.nets}

    def panel(title: str, part: str, scale: str) -> Panel:
        rows = ((which, tuple(getattr(t, part))) for which, t in told.items())
        return Panel(title, tuple(Curve(which, points, i) for i, (which, points) in enumerate(rows)), scale, "least")

    panels = [
        panel("training error, %", "train", "linear"),
        panel("test error, %", "test", "linear"),
        panel("training loss", "loss", "auto"),
    ]
    Chart(f"The degradation problem: {name}, width {o.width}", panels).save(o.output)
    print(f"wrote {o.output}")
    for kind in ("plain", "ResNet"):
        if {f"{kind}-20", f"{kind}-56"} <= set(told):
            deep, shallow = (told[f"{kind}-{depth}"].train[-1][1] for depth in (56, 20))
            print(f"{kind}: 36 more layers change the training error by {deep - shallow:+.1f} points")


if __name__ == "__main__":
    main()
