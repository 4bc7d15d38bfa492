"""The stand-in weights and input that the whole-net goldens were made with, reproducible from names alone."""

import functools
import zlib

import numpy as np

LEARNED = ("Convolution", "InnerProduct", "Deconvolution")
CHUNK, LARGE = 1 << 20, 30_000_000


def blob(layer, index, shape, kind):
    """The index-th blob of a layer, float32, from the crc32 of `layer/index`."""
    seed = zlib.crc32(f"{layer}/{index}".encode()) & 0x7FFFFFFF
    rng = np.random.RandomState(seed)
    if kind in LEARNED and index == 0:
        scale = np.sqrt(2.0 / max(1, int(np.prod(shape[1:]))))
        return large(seed, shape, scale) if np.prod(shape) > LARGE else normal(rng, shape, scale)
    if kind == "BatchNorm":
        factor = 999.982361  # what a long training leaves in the third blob
        # All three are drawn each time, in this order, whichever is asked for.
        values = (0.1 * rng.randn(*shape), 0.5 + rng.rand(*shape), np.ones(shape))[index] * factor
    elif kind == "Scale" and index == 0:
        values = 0.3 + 0.4 * rng.rand(*shape)
    elif kind == "PReLU":
        values = 0.25 * rng.rand(*shape)
    else:
        values = 0.1 * rng.randn(*shape)
    return values.astype(np.float32)


def normal(rng, shape, scale):
    """What `(rng.randn(*shape) * scale).astype(np.float32)` gives, without its large arrays of float64."""
    values = np.empty(int(np.prod(shape)), np.float32)
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        part[:] = rng.randn(len(part)) * scale
    return values.reshape(shape)


@functools.lru_cache(maxsize=1)
def large(seed, shape, scale):
    """A blob whose making takes a second, such as the fc6 that net after net has; the last one is kept."""
    values = normal(np.random.RandomState(seed), shape, scale)
    values.flags.writeable = False
    return values


def weights(graph):
    """Stand-in weights for every layer of a graph."""
    found = {}
    for node in graph.nodes:
        specs = node.layer.blobs(node.bottom_shapes).values()
        if specs:
            found[node.name] = [blob(node.name, i, s.shape, node.layer.kind) for i, s in enumerate(specs)]
    return found


def image_batch(shape, seed=42):
    """Noise of the size of mean-subtracted pixels."""
    return normal(np.random.RandomState(seed), shape, 60)
