"""How long it takes to start, to check a net, and to load weights: each a process or a call of its own, medians of several.

    python benchmarks/start.py [--runs N]

- `netcompile --help`, the whole process.
- ResNet-152 from text to the checked graph, without torch, imports counted apart.
- A ResNet-152-sized caffemodel (241 MB, random): read and bound, and in the module, as Caffe has it and optimised; and how
  much memory is resident after.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
NET = HERE.parent / "model_zoo" / "ResNet-152-deploy.prototxt"

BUILD = """
import time; a = time.perf_counter()
import sys, netcompiler; netcompiler.load, netcompiler.build
b = time.perf_counter()
graph = netcompiler.build(netcompiler.load(sys.argv[1]))
print(b - a, time.perf_counter() - b, "torch" in sys.modules)
"""
LOAD = """
import sys, time, warnings, netcompiler
from netcompiler import module, weights
def resident():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) * 1024
graph = netcompiler.build(netcompiler.load(sys.argv[1]))
module.compile(graph.wanted(graph.inputs()), device="cpu")  # torch is loaded and warm
before = resident(); a = time.perf_counter()
bound = weights.bind(graph, netcompiler.read_weights(sys.argv[2]))
b = time.perf_counter()
net = module.CompiledNet(bound, optimize=sys.argv[3] == "optimised")
c = time.perf_counter()
print(b - a, c - a, resident() - before)
"""
MAKE = """
import sys, netcompiler
from netcompiler import weights
from netcompiler.binary import write_caffemodel
msg = netcompiler.load(sys.argv[1])
graph = weights.bind(netcompiler.build(msg), {}, warn=False)
write_caffemodel(sys.argv[2], msg, {n.name: list(n.blobs) for n in graph if n.blobs}, phase="TEST")
"""


def run(code: str, *arguments: str) -> list[str]:
    return subprocess.check_output([sys.executable, "-c", code, *arguments], text=True, cwd=HERE.parent).split()


def main() -> None:
    import time

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    helps, builds, imports, binds = [], [], [], []
    loads: dict[str, list[float]] = {"plain": [], "optimised": []}
    sizes: dict[str, list[float]] = {"plain": [], "optimised": []}
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "r152.caffemodel")
        run(MAKE, str(NET), model)
        size = Path(model).stat().st_size
        for _ in range(runs):
            start = time.perf_counter()
            subprocess.check_output([sys.executable, "-m", "netcompiler", "--help"], cwd=HERE.parent)
            helps.append(time.perf_counter() - start)
            imported, built, torch_there = run(BUILD, str(NET))
            assert torch_there == "False"
            imports.append(float(imported))
            builds.append(float(built))
            for kind in loads:
                bound, loaded, resident = map(float, run(LOAD, str(NET), model, kind))
                binds.append(bound)
                loads[kind].append(loaded)
                sizes[kind].append(resident / size)
    median = statistics.median
    print(f"netcompile --help                              {median(helps):.3f} s")
    print(
        f"ResNet-152, text to checked graph              {median(builds):.3f} s (+ {median(imports):.3f} s of imports)"
    )
    print(f"caffemodel of {size / 1e6:.0f} MB, read and bound          {median(binds):.3f} s")
    for kind in loads:
        print(f"the same, in the module, {kind:<9}             {median(loads[kind]):.3f} s")
        print(f"resident after it, as a share of the file      {median(sizes[kind]):.2f}")


if __name__ == "__main__":
    main()
