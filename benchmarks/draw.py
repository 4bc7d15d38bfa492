"""How long it takes to draw: the whole `netcompile NET -o net.svg`, a process of its own each time, medians.

    python benchmarks/draw.py [--runs N]

- ResNet-152 from its prototxt, folded (as by default) and expanded.
- A net of 2,000 layers that do not fold: residual blocks and branches with random kernels.
- Of each: the time that passed, and the processor's time, which other work on the machine does not lengthen as much.
- Layout and SVG alone, for the same nets.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
NET = HERE.parent / "model_zoo" / "ResNet-152-deploy.prototxt"
LAYERS = 2000
TARGETS = {"ResNet-152, folded": 0.8, "ResNet-152, expanded": 1.5, f"{LAYERS} layers": 6.0}


def large(seed: int = 0) -> str:
    """A net of LAYERS layers; no two of its blocks in a row are alike."""
    r = random.Random(seed)
    text = ['layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }']

    def layer(name: str, kind: str, bottoms: tuple[str, ...], top: str, more: str = "") -> str:
        read = " ".join(f'bottom: "{b}"' for b in bottoms)
        text.append(f'layer {{ name: "{name}" type: "{kind}" {read} top: "{top}" {more} }}')
        return top

    def conv(name: str, bottom: str, outputs: int) -> str:
        k = r.choice((1, 3, 5))
        layer(
            name,
            "Convolution",
            (bottom,),
            name,
            f"convolution_param {{ num_output: {outputs} kernel_size: {k} pad: {k // 2} }}",
        )
        layer(f"{name}_bn", "BatchNorm", (name,), name)
        return layer(f"{name}_relu", "ReLU", (name,), name)

    x, count = conv("conv0", "data", 64), 0
    while len(text) < LAYERS:
        count += 1
        name = f"block{count}"
        if count % 2:
            x = layer(name, "Eltwise", (x, conv(f"{name}b", conv(f"{name}a", x, 64), 64)), name)
        else:
            parts = conv(f"{name}a", x, 16), conv(f"{name}b", x, 16), conv(f"{name}c", x, 32)
            x = layer(name, "Eltwise", (x, layer(f"{name}j", "Concat", parts, f"{name}j")), name)
    return "\n".join(text[:LAYERS])


INSIDE = """
import sys, time, netcompiler
from netcompiler.drawing import draw
import pygraphviz
graph = netcompiler.build(netcompiler.load(sys.argv[1]))
draw(graph, expand=True, fold=99).svg  # everything is loaded
start = time.perf_counter()
draw(graph, expand="expand" in sys.argv[2:]).svg
print(time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        big = Path(folder) / "big.prototxt"
        big.write_text(large())
        cases = {
            "ResNet-152, folded": [str(NET)],
            "ResNet-152, expanded": [str(NET), "--expand"],
            f"{LAYERS} layers": [str(big), "--expand"],
        }
        for name, arguments in cases.items():
            whole, busy, inside = [], [], []
            for _ in range(runs):
                start, before = time.perf_counter(), os.times()
                target = str(Path(folder) / "net.svg")
                subprocess.check_output(
                    [sys.executable, "-m", "netcompiler", *arguments, "-o", target], cwd=HERE.parent
                )
                whole.append(time.perf_counter() - start)
                after = os.times()
                busy.append(sum(after[2:4]) - sum(before[2:4]))  # of child processes
                command = [sys.executable, "-c", INSIDE, arguments[0], *(a.strip("-") for a in arguments[1:])]
                inside.append(float(subprocess.check_output(command, text=True, cwd=HERE.parent)))
            seconds, size = statistics.median(whole), (Path(folder) / "net.svg").stat().st_size
            verdict = "" if seconds <= TARGETS[name] else f"  MISSED: {TARGETS[name]} s"
            parts = f"{statistics.median(busy):.2f} s of CPU, layout and SVG {statistics.median(inside):.2f} s"
            print(f"{name:<22} {seconds:.2f} s, {parts}, {size / 1e3:,.0f} kB{verdict}", flush=True)


if __name__ == "__main__":
    main()
