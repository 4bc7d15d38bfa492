"""The stand-in weights and input that the whole-net goldens were made with, reproducible from names alone."""

import zlib

import numpy as np

LEARNED = ("Convolution", "InnerProduct", "Deconvolution")


def blob(layer, index, shape, kind):
    """The index-th blob of a layer, float32, from the crc32 of `layer/index`."""
    rng = np.random.RandomState(zlib.crc32(f"{layer}/{index}".encode()) & 0x7FFFFFFF)
    if kind in LEARNED and index == 0:
        values = rng.randn(*shape) * np.sqrt(2.0 / max(1, int(np.prod(shape[1:]))))
    elif kind == "BatchNorm":
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
    return (np.random.RandomState(seed).randn(*shape) * 60).astype(np.float32)
