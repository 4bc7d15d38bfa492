from math import ceil

import numpy as np

from .table import Bad, Row, suite


def nd(fields):
    return f'type: "NdPooling" pooling_param {{ {fields} }}'


def volume(fields, param="pooling_param"):
    return f'type: "Pooling3D" {param} {{ {fields} }}'


def shape(name, *dims):
    return f"{name}_shape {{ {' '.join(f'dim: {d}' for d in dims)} }}"


def naive(kernel, stride, pad=None, mean=False, up=False, whole=False):
    def want(x):
        pads = pad or (0,) * len(kernel)
        image = x.shape[2:]
        counts = []
        for size, k, s, p in zip(image, kernel, stride, pads, strict=True):
            n = (ceil if up else int)((size + 2 * p - k) / s) + 1
            counts.append(n - (not up and p > 0 and (n - 1) * s >= size + p))
        y = np.zeros((*x.shape[:2], *counts))
        for at in np.ndindex(*counts):
            parts, size = [], 1
            for i, k, s, p, length in zip(at, kernel, stride, pads, image, strict=True):
                first = i * s - p
                last = min(first + k, length + p)
                size *= last - first
                parts.append(slice(max(first, 0), min(last, length)))
            values = x[(slice(None), slice(None), *parts)].reshape(*x.shape[:2], -1)
            y[(..., *at)] = values.sum(2) / (np.prod(kernel) if whole else size) if mean else values.max(2)
        return y.reshape(*y.shape[:2], *(n for n in counts if n > 1)) if not up else y

    return want


V = (2, 3, 5, 6, 7)
ROWS = [
    Row(
        "max",
        volume("kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 2"),
        [V],
        [(2, 3, 3, 3, 3)],
        naive((2, 3, 3), (2, 2, 2), up=True),
    ),
    Row(
        "mean",
        volume("pool: AVE kernel_size: 3 kernel_depth: 1 stride: 2 pad: 1"),
        [V],
        [(2, 3, 5, 4, 4)],
        naive((1, 3, 3), (1, 2, 2), (0, 1, 1), True, True),
    ),
    Row(
        "the newer field",
        volume("kernel_size: 2 kernel_depth: 3 stride: 2", "pooling3d_param"),
        [V],
        [(2, 3, 3, 3, 4)],
        naive((3, 2, 2), (1, 2, 2), up=True),
    ),
    Row(
        "nd max",
        nd(f"{shape('kernel', 2, 3, 3)} {shape('stride', 2, 2, 2)}"),
        [V],
        [(2, 3, 2, 2, 3)],
        naive((2, 3, 3), (2, 2, 2)),
    ),
    Row(
        "nd padded",
        nd(f"{shape('kernel', 2, 3)} {shape('stride', 2, 2)} {shape('pad', 1, 1)}"),
        [(2, 3, 5, 6)],
        [(2, 3, 3, 3)],
        naive((2, 3), (2, 2), (1, 1)),
    ),
    Row(
        "nd mean",
        nd(f"pool: AVE {shape('kernel', 2, 3)} {shape('pad', 1, 1)}"),
        [(2, 3, 5, 6)],
        [(2, 3, 6, 6)],
        naive((2, 3), (1, 1), (1, 1), True, whole=True),
    ),
    Row(
        "axes of one left out",
        nd(f"{shape('kernel', 5, 2, 2)} {shape('stride', 1, 2, 2)}"),
        [V],
        [(2, 3, 3, 3)],
        naive((5, 2, 2), (1, 2, 2)),
    ),
    Row("global", nd(f"{shape('kernel', 1, 1, 1)} global_pooling: true"), [V], [(2, 3)], lambda x: x.max((2, 3, 4))),
    Row(
        "global mean",
        nd(f"pool: AVE {shape('kernel', 1)} global_pooling: true"),
        [(2, 3, 4)],
        [(2, 3)],
        lambda x: x.mean(2),
    ),
]
BAD = [
    Bad("rank", volume("kernel_size: 1 kernel_depth: 1"), [(2, 3, 4, 5)], "the wrong number of axes"),
    Bad("stochastic", volume("pool: STOCHASTIC kernel_size: 1 kernel_depth: 1"), [V], "has no STOCHASTIC", at="pool"),
    Bad("padding", volume("kernel_size: 3 kernel_depth: 1 pad: 1"), [V], "MAX takes no padding", at="pad"),
    Bad("both", volume("kernel_size: 1 kernel_depth: 1") + " pooling3d_param { }", [V], "both given"),
    Bad("kernel", volume("kernel_size: 9 kernel_depth: 1"), [V], "the kernel is larger"),
    Bad("outside", volume("kernel_size: 1 kernel_depth: 1 temporal_stride: 9"), [V], "lies outside the image"),
    Bad("nd stochastic", nd(f"pool: STOCHASTIC {shape('kernel', 1)}"), [(2, 3, 4)], "has no STOCHASTIC", at="pool"),
    Bad("four axes", nd(shape("kernel", 1, 1, 1, 1)), [(2, 3, 1, 1, 1, 1)], "too many dims"),
    Bad(
        "global with stride",
        nd(f"{shape('kernel', 1)} {shape('stride', 2)} global_pooling: true"),
        [(2, 3, 4)],
        "takes no stride",
    ),
    Bad("no shape", nd("kernel_size: 2"), [V], "kernel_shape is missing"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
