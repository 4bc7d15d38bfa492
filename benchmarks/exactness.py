"""What rewriting and bfloat16 do to the numbers of whole nets, over many batches of noise, against the plain float32 net.

    python benchmarks/exactness.py [NET ...] [--batches 100] [--size N] [--dtype float32 bfloat16]

Told are, of all batches, the worst and the median of the largest difference of an output as a share of its largest value, and
in how many batches every picture has the same best class. Weights are random, of the sizes that trained nets have, so best
classes lie closer together than in a trained net. Each net has run more than twice when it is measured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=[str(ROOT / "model_zoo" / "ResNet-50-deploy.prototxt")])
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--size", type=int, default=1, help="pictures in a batch")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    options = parser.parse_args()
    import numpy as np
    import torch

    import netcompiler
    from netcompiler.builder import reshape
    from tests import recipe

    for path in options.nets:
        graph = netcompiler.build(netcompiler.load(path))
        graph = reshape(graph, {v.blob: (options.size, *v.shape[1:]) for v in graph.inputs()})
        weights = recipe.weights(graph)
        plain = netcompiler.compile(graph, weights, optimize=False)
        nets = {t: netcompiler.compile(graph, weights, dtype=t) for t in options.dtype}
        off: dict[str, list[float]] = {t: [] for t in nets}
        alike = dict.fromkeys(nets, 0)
        with torch.inference_mode():
            for i in range(-2, options.batches):
                feeds = {v.blob: recipe.image_batch(v.shape, 100 + i) / 16 for v in graph.inputs()}
                want = plain(**feeds)
                for name, net in nets.items():
                    got = net(**feeds)
                    if i < 0:
                        continue
                    shares = [(got[k].float() - y).abs().max() / y.abs().max() for k, y in want.items()]
                    off[name].append(float(np.max([float(s) for s in shares])))
                    alike[name] += all(torch.equal(got[k].argmax(1), y.argmax(1)) for k, y in want.items())
        for name, errors in off.items():
            figures = f"worst {max(errors):.1e}, median {statistics.median(errors):.1e}"
            how = "one program" if nets[name].one_program else "by layer"
            print(
                f"{Path(path).stem}, {name}, {how}: {figures}; same best class in {alike[name]} of {len(errors)} batches"
            )


if __name__ == "__main__":
    main()
