"""Images per second of `netcompile train` on one rank and on several, each with the same batch and as many threads.

    python benchmarks/ranks.py [--ranks 1,2] [--batch 32] [--iters 30] [--runs 3] [--device cpu|cuda] [--threads N]

The net is a small VGG of 1.2 million parameters over 3 x 32 x 32, its data made on the spot, so that reading costs nothing.
On the CPU each rank has the machine's cores divided by the largest number of ranks. Runs take turns; told is the median over
runs of all displays but the first, and the efficiency: images/s of N ranks over N times those of one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DISPLAY = 5


def net(batch: int) -> str:
    """The prototxt of the net."""
    layers = [
        f'layer {{ name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {{'
        f" shape {{ dim: {batch} dim: 3 dim: 32 dim: 32 }} shape {{ dim: {batch} }}"
        f' data_filler {{ type: "gaussian" std: 1 }} data_filler {{ type: "constant" value: 3 }} }} }}'
    ]
    bottom = "data"
    for stage, width in enumerate((32, 64, 128, 256), 1):
        for i in (1, 2):
            name = f"conv{stage}_{i}"
            layers.append(
                f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{'
                f' num_output: {width} kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}'
                f'layer {{ name: "relu{stage}_{i}" type: "ReLU" bottom: "{name}" top: "{name}" }}'
            )
            bottom = name
        layers.append(
            f'layer {{ name: "pool{stage}" type: "Pooling" bottom: "{bottom}" top: "pool{stage}"'
            f" pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}"
        )
        bottom = f"pool{stage}"
    layers.append(
        f'layer {{ name: "fc" type: "InnerProduct" bottom: "{bottom}" top: "fc" inner_product_param {{ num_output: 10'
        ' weight_filler { type: "xavier" } } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }'
    )
    return "\n".join(layers)


def images_per_second(folder: Path, ranks: int, threads: int, device: str) -> float:
    """Train once; the median over the displays, of all ranks together."""
    log = folder / "log.jsonl"
    log.unlink(missing_ok=True)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, *launch, "-m", "netcompiler", "train", "solver.prototxt", "-q", "--log-file", str(log)]
        + ["--device", device],
        cwd=folder,
        env=environment,
        check=True,
    )
    events = [json.loads(line) for line in log.read_text().splitlines()]
    displays = [e for e in events if e["kind"] == "display"][2:]
    return ranks * statistics.median(e["images"] / e["seconds"] for e in displays)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ranks", default="1,2")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--iters", type=int, default=30)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--device", default="cpu")
    p.add_argument("--threads", type=int)
    options = p.parse_args()
    counts = [int(n) for n in options.ranks.split(",")]
    threads = options.threads or max(1, (os.cpu_count() or 1) // max(counts))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "net.prototxt").write_text(net(options.batch))
        (folder / "solver.prototxt").write_text(
            f'net: "net.prototxt" base_lr: 0.001 momentum: 0.9 lr_policy: "fixed" max_iter: {options.iters}'
            f" display: {DISPLAY} snapshot_after_train: false random_seed: 1"
        )
        taken: dict[int, list[float]] = {n: [] for n in counts}
        for _ in range(options.runs):
            for n in counts:
                taken[n].append(images_per_second(folder, n, threads, options.device))
    one = statistics.median(taken[1]) if 1 in taken else None
    print(f"batch {options.batch} for each rank, {threads} threads each, on {options.device}")
    for n, found in taken.items():
        middle = statistics.median(found)
        share = f", {100 * middle / (n * one):.0f} % of {n} times one rank" if one and n > 1 else ""
        print(f"{n} ranks: {middle:,.1f} images/s ({min(found):,.1f} to {max(found):,.1f}){share}")


if __name__ == "__main__":
    main()
