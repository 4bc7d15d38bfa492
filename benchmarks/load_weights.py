"""How long a caffemodel takes from the file to numpy arrays, and how much memory, beside protobuf and OpenCV.

    python benchmarks/load_weights.py [--size resnet152|vgg16] [--runs N]

The file (241 MB or 553 MB = 528 MiB, random values by a fixed seed) is written to a temporary folder and lies in the
page cache. Every run is a process of its own and the readers take turns; times leave out the imports. Medians, and the
ratio to the first line.

- views: `read_caffemodel`. The arrays are views of the mapped file: their pages are read when they are first used.
- own memory: the same, then each array is copied and its pages are let go, as the compiled net does it.
- protobuf + numpy: NetParameter.FromString, then np.array of each blob's data.
- OpenCV: cv2.dnn.readNetFromCaffe, where OpenCV 4 is installed. It builds the net's layers too.

Memory is the peak resident set (ru_maxrss) above what the process held before it read; mapped pages count.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESNET = ROOT / "model_zoo" / "ResNet-152-deploy.prototxt"

MAKE = """
import sys, numpy as np, netcompiler
from netcompiler.binary import write_caffemodel
msg = netcompiler.load(sys.argv[1])
rng = np.random.default_rng(0)
specs = {n.name: n.layer.blobs(n.bottom_shapes).values() for n in netcompiler.build(msg)}
blobs = {name: [rng.standard_normal(s.shape, np.float32) for s in of] for name, of in specs.items() if of}
write_caffemodel(sys.argv[2], msg, blobs)
"""
PROTOBUF = """
def by_protobuf(path):
    with open(path, "rb") as f:
        net = schema.NetParameter.FromString(f.read())
    return {l.name: [np.array(b.data, np.float32).reshape(b.shape.dim) for b in l.blobs] for l in net.layer if l.blobs}
"""
CHECK = f"""
import sys, numpy as np
from netcompiler import schema
from netcompiler.binary import read_caffemodel
{PROTOBUF}
ours, theirs = read_caffemodel(sys.argv[2]), by_protobuf(sys.argv[2])
assert list(ours) == list(theirs)
assert all(np.array_equal(a, b) for name in ours for a, b in zip(ours[name], theirs[name], strict=True))
print(sum(map(len, ours.values())))
"""
TIMED = """
import resource, sys, time
{imports}
def peak():
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
before, start = peak(), time.perf_counter()
{read}
print(time.perf_counter() - start, peak() - before)
"""
OURS = "import numpy as np, netcompiler.layers\nfrom netcompiler.binary import read_caffemodel\n"
READERS = {
    "netcompiler, views": (OURS, "found = read_caffemodel(sys.argv[2])"),
    "netcompiler, own memory": (
        OURS + "from netcompiler.weights import take",
        "found = {}\n"
        "for name, blobs in read_caffemodel(sys.argv[2]).items():\n"
        "    found[name] = [np.empty_like(b) for b in blobs]\n"
        "    for b, own in zip(blobs, found[name]): take(b, own)",
    ),
    "protobuf + numpy": (
        f"import numpy as np\nfrom netcompiler import schema\n{PROTOBUF}",
        "found = by_protobuf(sys.argv[2])",
    ),
    "OpenCV": ("import cv2", "found = cv2.dnn.readNetFromCaffe(sys.argv[1], sys.argv[2])"),
}


def vgg16() -> str:
    """The deploy net of VGG-16 (Simonyan & Zisserman 2014, table 1, D), as prototxt."""
    lines, bottom = (
        ['layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 224, 224] } } }'],
        "data",
    )

    def add(kind: str, name: str, settings: str = "", in_place: bool = False) -> None:
        nonlocal bottom
        top = bottom if in_place else name
        lines.append(f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {settings} }}')
        bottom = top

    for stage, (count, channels) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for i in range(1, count + 1):
            settings = f"convolution_param {{ num_output: {channels} kernel_size: 3 pad: 1 }}"
            add("Convolution", f"conv{stage}_{i}", settings)
            add("ReLU", f"relu{stage}_{i}", in_place=True)
        add("Pooling", f"pool{stage}", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
    for number, outputs in ((6, 4096), (7, 4096), (8, 1000)):
        add("InnerProduct", f"fc{number}", f"inner_product_param {{ num_output: {outputs} }}")
        if number < 8:
            add("ReLU", f"relu{number}", in_place=True)
    add("Softmax", "prob")
    return "\n".join(['name: "VGG-16"', *lines]) + "\n"


def run(code: str, *arguments: str) -> list[str]:
    return subprocess.check_output([sys.executable, "-c", code, *arguments], text=True, cwd=ROOT).split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["resnet152", "vgg16"], default="resnet152")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    readers = dict(READERS)
    if subprocess.run([sys.executable, "-c", "import cv2; cv2.dnn.readNetFromCaffe"], capture_output=True).returncode:
        del readers["OpenCV"]
    with tempfile.TemporaryDirectory() as folder:
        net, model = str(RESNET), str(Path(folder, "net.caffemodel"))
        if options.size == "vgg16":
            net = str(Path(folder, "vgg16.prototxt"))
            Path(net).write_text(vgg16())
        run(MAKE, net, model)
        size = Path(model).stat().st_size
        (arrays,) = run(CHECK, net, model)
        print(
            f"{options.size}: {size / 1e6:.0f} MB, {arrays} arrays, equal to protobuf's; medians of {options.runs} runs"
        )
        times: dict[str, list[float]] = {name: [] for name in readers}
        peaks: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(options.runs):
            for name, (imports, read) in readers.items():
                seconds, peak = run(TIMED.format(imports=imports, read=read), net, model)
                times[name].append(float(seconds))
                peaks[name].append(float(peak))
    first = statistics.median(times[next(iter(readers))])
    print(f"{'':26}{'seconds':>9}{'ratio':>9}{'peak, MB':>10}{'of the file':>13}")
    for name in readers:
        seconds, peak = statistics.median(times[name]), statistics.median(peaks[name])
        print(f"{name:26}{seconds:9.4f}{seconds / first:9.1f}{peak / 1e6:10.0f}{peak / size:13.2f}")
    if "OpenCV" not in readers:
        print("OpenCV 4 is not installed here (5 reads no Caffe files)")


if __name__ == "__main__":
    main()
