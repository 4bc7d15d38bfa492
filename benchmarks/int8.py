"""int8 beside float32 and bfloat16: how fast, how far off, and whether a trained net still reads digits.

    python benchmarks/int8.py [NET ...] [--batch 1 8] [--rounds N] [--threads N]

Speed: the three forms of a net take turns in one process, inference mode, after some runs that warm up; told are the medians
over rounds and the medians of the ratios in a round. The load of the machine is told, too: read ratios.

Weights of large nets are stand-ins: random, every BatchNorm's statistics then set to what it meets over a batch, so that
activations have the ranges of a trained net and sums do not grow; inputs are smooth noise. Errors of such a net tell that the
arithmetic is right, and nothing about how many pictures a trained one would still know.

That is measured on a small net which is trained here on scikit-learn's 1,797 scanned digits (pip install scikit-learn).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import netcompiler  # noqa: E402
from netcompiler.builder import reshape  # noqa: E402
from netcompiler.kernels import memory  # noqa: E402

FORMS = ("float32", "bfloat16", "int8")
DIGITS = """name: "digits"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 50 dim: 1 dim: 8 dim: 8 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2"
        convolution_param { num_output: 32 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "r2" type: "ReLU" bottom: "c2" top: "c2" }
layer { name: "p2" type: "Pooling" bottom: "c2" top: "p2" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "fc1" type: "InnerProduct" bottom: "p2" top: "fc1"
        inner_product_param { num_output: 64 weight_filler { type: "msra" } } }
layer { name: "r3" type: "ReLU" bottom: "fc1" top: "fc1" }
layer { name: "fc2" type: "InnerProduct" bottom: "fc1" top: "fc2"
        inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
"""


def pictures(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Noise with the large structures of pictures, in the range of pictures less their mean."""
    rng = torch.Generator().manual_seed(seed)
    n, channels, *size = shape
    x = torch.zeros(shape)
    for cells in (4, 8, 16, 32, 64):
        part = torch.randn(n, channels, cells, cells, generator=rng)
        x += torch.nn.functional.interpolate(part, size=size, mode="bilinear") * 80 / cells**0.5
    return x.clamp_(-120, 135)


def stand_in(net: str) -> netcompiler.Graph:
    """A net with random weights, its BatchNorms set to what they meet."""
    graph = netcompiler.build(netcompiler.load(net))
    rng = np.random.default_rng(0)
    arrays = {}
    for node in graph.nodes:
        specs = node.layer.blobs(node.bottom_shapes)
        if specs:
            arrays[node.name] = [
                rng.standard_normal(s.shape, np.float32) * np.float32((2 / (s.count / s.shape[0])) ** 0.5)
                if len(s.shape) > 1
                else np.full(s.shape, float(name not in ("bias", "mean")), np.float32)
                for name, s in specs.items()
            ]
    plain = netcompiler.CompiledNet(netcompiler.weights.bind(graph, arrays)).eval()

    def met(module: torch.nn.Module, bottoms: tuple[torch.Tensor, ...]) -> None:
        x = bottoms[0]
        module.mean.copy_(x.mean((0, 2, 3)))
        module.variance.copy_(x.var((0, 2, 3)))
        module.scale_factor.fill_(1)

    for module in plain.children():
        if module.layer.kind == "BatchNorm":
            module.register_forward_pre_hook(met)
    (value,) = graph.inputs()
    with torch.inference_mode():
        plain(pictures((8, *value.shape[1:]), 0))
    return plain.with_weights()


def timed(forms: dict[str, netcompiler.CompiledNet], x: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """The seconds of one run of each form, in each round."""
    taken: dict[str, list[float]] = {name: [] for name in forms}
    with torch.inference_mode():
        for net in forms.values():
            for _ in range(4):
                net(x)
        for _ in range(rounds):
            for name, net in forms.items():
                start, runs = time.perf_counter(), 0
                while not runs or time.perf_counter() - start < 0.25:
                    net(x)
                    runs += 1
                taken[name].append((time.perf_counter() - start) / runs)
    return taken


def speed(path: str, batches: list[int], rounds: int) -> None:
    graph = stand_in(path)
    (value,) = graph.inputs()
    shape = value.shape[1:]
    forms = {dtype: netcompiler.compile(graph, device="cpu", dtype=dtype).eval() for dtype in ("float32", "bfloat16")}
    start = time.perf_counter()
    forms["int8"] = netcompiler.quantize(forms["float32"], [pictures((4, *shape), seed) for seed in range(1, 17)])
    report = forms["int8"].report
    print(f"{Path(path).stem}: quantised in {time.perf_counter() - start:.1f} s, ranges by {report.method}")
    print(f"  {report.summary()}")
    noise = [row.noise for row in report.layers if row.noise is not None]
    print(f"  by layer: noise {statistics.median(noise):.2g} (median), {max(noise):.2g} (largest)")
    for batch in batches:
        reshape(graph, {value.blob: (batch, *shape)})
        taken = timed(forms, pictures((batch, *shape), 99), rounds)
        for name in FORMS:
            ratio = statistics.median(a / b for a, b in zip(taken["float32"], taken[name], strict=True))
            median = statistics.median(taken[name])
            print(
                f"  batch {batch:2d}  {name:9s} {1e3 * median:8.2f} ms {batch / median:8.1f} images/s   {ratio:5.2f} x float32"
            )
    print(
        f"  load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {torch.get_num_threads()} threads used"
    )


def batches_of(x: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    yield from x.split(size)


def digits() -> None:
    """Train a small net on digits, and count what it reads in float32 and in int8."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        print("digits: scikit-learn is not installed")
        return
    found = load_digits()
    x = torch.from_numpy(found.images.astype(np.float32))[:, None] / 16 - 0.3
    labels = torch.from_numpy(found.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, labels = x[order], labels[order]
    train, test = slice(0, 1200), slice(1200, None)
    net = netcompiler.compile(netcompiler.parse(DIGITS), device="cpu", optimize=False, seed=1).train()
    steps = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    for epoch in range(30):
        shuffled = torch.randperm(1200, generator=torch.Generator().manual_seed(epoch))
        for rows in shuffled.split(50):
            steps.zero_grad()
            torch.nn.functional.cross_entropy(net(x[train][rows])["fc2"], labels[train][rows]).backward()
            steps.step()
    net.eval()
    small = netcompiler.quantize(net, list(batches_of(x[train], 50)))
    right = {}
    with torch.inference_mode():
        for name, each in (("float32", net), ("int8", small)):
            classes = torch.cat([each(part)["fc2"].argmax(1) for part in batches_of(x[test], 50)])
            right[name] = (classes, int((classes == labels[test]).sum()))
    count = len(labels[test])
    same = int((right["float32"][0] == right["int8"][0]).sum())
    print(f"digits, {count} that training did not see: {small.report.summary()}")
    print(f"  float32 reads {right['float32'][1]}, int8 {right['int8'][1]}; both the same class for {same}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=[str(ROOT / "model_zoo" / "ResNet-50-deploy.prototxt")])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="default: torch's own")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.threads:
        torch.set_num_threads(options.threads)
    memory.keep()
    digits()
    for net in options.nets:
        speed(net, options.batch, options.rounds)


if __name__ == "__main__":
    main()
