"""Forward passes of this compiler beside other engines, in turn, as ratios. Engines that are not installed are named.

    python benchmarks/compare.py [NET ...] [--batch 1 8 32] [--dtype float32 bfloat16] [--rounds N] [--seconds S]

Each engine has a process of its own, built before the clock starts. Rounds go round the engines; a round lets one run for
some time and counts its passes. Told are the medians over rounds, their ratios to ours (above 1: ours is faster), and the
most memory that each process held. Weights are random.

NET is any prototxt; without one, seven nets of the model zoo. The engine "tuned" is ours with --tune.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
ENGINES = ("torch", "tuned", "eager", "inductor", "onnxruntime", "openvino")
NETS = ("ResNet-50", "ResNet-101", "ResNet-152", "VGG-16", "GoogLeNet", "MobileNet-v1", "MobileNet-v2")
ZOO = [ROOT / "model_zoo" / f"{name}-deploy.prototxt" for name in NETS]


def work(engine: str, net: str, batch: int, dtype: str) -> None:
    """A worker: build, say so, then answer each line with the seconds of a pass over the time that it names."""
    import numpy as np
    import torch

    import netcompiler
    from netcompiler.builder import reshape
    from netcompiler.engines import Engine, available
    from netcompiler.kernels import memory

    warnings.simplefilter("ignore")
    if engine != "tuned" and not available(engine):
        print(json.dumps("not installed"), flush=True)
        return
    graph = netcompiler.build(netcompiler.load(net))
    graph = reshape(graph, {v.blob: (batch, *v.shape[1:]) for v in graph.inputs()})
    rng = np.random.default_rng(0)
    weights = {
        node.name: [
            rng.standard_normal(spec.shape, np.float32) * (2 / max(spec.count / spec.shape[0], 1)) ** 0.5
            if spec.learned
            else np.full(spec.shape, float(name != "mean"), np.float32)
            for name, spec in node.layer.blobs(node.bottom_shapes).items()
        ]
        for node in graph.nodes
        if node.layer.blobs(node.bottom_shapes)
    }
    memory.keep()
    start = time.perf_counter()
    try:
        ours = engine in ("torch", "tuned")
        net = netcompiler.compile(graph, weights, dtype=dtype, optimize=ours, tune=engine == "tuned").eval()
        run = torch.inference_mode()(net.forward) if ours else Engine(net, engine)
        feeds = {v.blob: torch.randn(v.shape) * 60 for v in graph.inputs()}
        feeds = {k: x.to(net.device, net.dtype) for k, x in feeds.items()}
        for _ in range(3):
            run(**feeds)
    except Exception as e:
        print(json.dumps(f"{type(e).__name__}: {str(e).splitlines()[0][:90]}"), flush=True)
        return
    print(json.dumps({"built": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        passes, start = 0, time.perf_counter()
        while not passes or time.perf_counter() - start < float(line):
            run(**feeds)
            if net.device.type == "cuda":
                torch.cuda.synchronize()
            passes += 1
        taken = (time.perf_counter() - start) / passes
        print(
            json.dumps({"seconds": taken, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}),
            flush=True,
        )


def compare(net: str, batch: int, dtype: str, rounds: int, seconds: float, engines: list[str]) -> None:
    """One row: every engine in turn."""
    command = [sys.executable, __file__, "--worker"]
    workers = {}
    told: dict[str, str] = {}
    for engine in engines:
        process = subprocess.Popen(
            [*command, engine, net, str(batch), dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        built = _answer(process)
        if isinstance(built, dict):
            workers[engine] = process
        else:
            told[engine] = built
    taken: dict[str, list[float]] = {engine: [] for engine in workers}
    held: dict[str, int] = {}
    for _ in range(rounds):
        for engine, process in workers.items():
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
            answer = _answer(process)
            taken[engine].append(answer["seconds"])
            held[engine] = answer["memory"]
    for process in workers.values():
        process.stdin.close()
        process.wait()
    print(f"{Path(net).stem}, batch {batch}, {dtype}")
    for engine in engines:
        if engine in told:
            print(f"  {engine:12s} {told[engine]}")
            continue
        median = statistics.median(taken[engine])
        ratio = statistics.median(t / o for t, o in zip(taken[engine], taken["torch"], strict=True))
        name = "netcompiler" if engine == "torch" else engine
        speed = f"{1e3 * median:9.2f} ms  {batch / median:8.1f} images/s"
        print(f"  {name:12s} {speed}  {ratio:5.2f}  {held[engine] / 1e6:6.0f} MB")
    sys.stdout.flush()


def _where() -> str:
    """The day, the machine, how busy it is, and the versions."""
    import datetime
    import importlib.metadata
    import os

    import torch

    versions = [f"torch {torch.__version__}"]
    for name in ("onnxruntime", "openvino"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    load = f"load {os.getloadavg()[0]:.1f}"
    return ", ".join([str(datetime.date.today()), f"{torch.get_num_threads()} threads", load, *versions])


def _answer(process: subprocess.Popen[str]) -> dict | str:
    line = process.stdout.readline()
    return json.loads(line) if line else "it ended before it answered"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=[str(path) for path in ZOO])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one engine's part of a round")
    options = parser.parse_args()
    print(_where())
    for net in options.nets:
        for dtype in options.dtype:
            for batch in options.batch:
                compare(net, batch, dtype, options.rounds, options.seconds, options.engines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    else:
        main()
