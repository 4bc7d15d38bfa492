import numpy as np
import pytest

import netcompiler

from .table import Bad, Row, prototxt, suite


def nd(fields):
    return f'type: "NdConvolution" convolution_param {{ {fields} }}'


def volume(fields, kind="Convolution3D", param="convolution_param"):
    return f'type: "{kind}" {param} {{ {fields} }}'


def shape(name, *dims):
    return f"{name}_shape {{ {' '.join(f'dim: {d}' for d in dims)} }}"


def naive(stride, pad):
    def want(x, weight, bias=None):
        kernel = weight.shape[2:]
        x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in pad)))
        counts = [(s - k) // step + 1 for s, k, step in zip(x.shape[2:], kernel, stride, strict=True)]
        y = np.zeros((len(x), len(weight), *counts))
        for at in np.ndindex(*counts):
            window = tuple(slice(i * s, i * s + k) for i, s, k in zip(at, stride, kernel, strict=True))
            y[(..., *at)] = np.tensordot(x[(slice(None), slice(None), *window)], weight, (range(1, x.ndim),) * 2)
        return y if bias is None else y + bias.reshape(-1, *(1,) * len(kernel))

    return want


def spread(stride, pad):
    def want(x, weight, bias):
        kernel = weight.shape[2:]
        sizes = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], stride, kernel, strict=True)]
        y = np.zeros((len(x), weight.shape[1], *sizes))
        for at in np.ndindex(*x.shape[2:]):
            window = tuple(slice(i * s, i * s + k) for i, s, k in zip(at, stride, kernel, strict=True))
            y[(slice(None), slice(None), *window)] += np.tensordot(x[(..., *at)], weight, 1)
        cut = tuple(slice(p, size - p) for p, size in zip(pad, sizes, strict=True))
        return y[(slice(None), slice(None), *cut)] + bias[:, None, None, None]

    return want


V = (2, 2, 4, 5, 6)
SIDES = "num_output: 4 kernel_size: 3 kernel_depth: 2 stride: 2 pad: 1 temporal_stride: 3 temporal_pad: 1"
BLOBS = {"weight": (4, 2, 2, 3, 3), "bias": (4,)}
ROWS = [
    Row(
        "nd",
        nd(f"num_output: 3 {shape('kernel', 2, 3, 2)}"),
        [V],
        [(2, 3, 3, 3, 5)],
        naive((1,) * 3, (0,) * 3),
        {"weight": (3, 2, 2, 3, 2), "bias": (3,)},
        6480,
    ),
    Row(
        "nd with all",
        nd(f"num_output: 3 bias_term: false {shape('kernel', 3, 2)} {shape('stride', 2, 1)} {shape('pad', 1, 0)}"),
        [(2, 2, 5, 4)],
        [(2, 3, 3, 3)],
        naive((2, 1), (1, 0)),
        {"weight": (3, 2, 3, 2)},
        648,
    ),
    Row("c3d 1.0", volume(SIDES + " group: 2"), [V], [(2, 4, 2, 3, 3)], naive((3, 2, 2), (1, 1, 1)), BLOBS, 5184),
    Row(
        "c3d 1.1",
        volume(SIDES + " filter_group: 2", param="convolution3d_param"),
        [V],
        [(2, 4, 2, 3, 3)],
        naive((3, 2, 2), (1, 1, 1)),
        BLOBS,
        5184,
    ),
    Row(
        "deconvolution",
        volume("num_output: 3 kernel_size: 3 kernel_depth: 2 stride: 2 pad: 1", "Deconvolution3D"),
        [(1, 2, 2, 3, 2)],
        [(1, 3, 3, 5, 3)],
        spread((1, 2, 2), (0, 1, 1)),
        {"weight": (2, 3, 2, 3, 3), "bias": (3,)},
        1296,
    ),
]
BAD = [
    Bad("no shape", nd("num_output: 3"), [V], "kernel_shape is missing"),
    Bad(
        "stride", nd(f"num_output: 3 {shape('kernel', 1, 1, 1)} {shape('stride', 1)}"), [V], "stride_shape does not fit"
    ),
    Bad("zero", nd(f"num_output: 3 {shape('kernel', 1, 1, 0)}"), [V], "kernel_shape is too small"),
    Bad("rank", nd(f"num_output: 3 {shape('kernel', 1, 1)}"), [V], "the wrong number of axes"),
    Bad("image", volume("num_output: 3 kernel_size: 1 kernel_depth: 1"), [(2, 3, 4, 5)], "the wrong number of axes"),
    Bad("no depth", volume("num_output: 3 kernel_size: 1"), [V], "kernel_depth is missing"),
    Bad("no size", volume("num_output: 3 kernel_depth: 1"), [V], "kernel_size is missing"),
    Bad("two sizes", volume("num_output: 3 kernel_size: 1 kernel_size: 2 kernel_depth: 1"), [V], "too many values"),
    Bad("both", volume("num_output: 3") + " convolution3d_param { num_output: 3 }", [V], "both given"),
    Bad(
        "no output",
        volume("kernel_size: 1 kernel_depth: 1", param="convolution3d_param"),
        [V],
        "num_output must be positive",
    ),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


@pytest.mark.parametrize("kind", ["Convolution3D", "Deconvolution3D"])
def test_a_bias_with_more_axes_is_read(kind):
    text = prototxt(volume("num_output: 2 kernel_size: 1 kernel_depth: 1", kind), [(1, 2, 1, 1, 1)], 1)
    arrays = [np.zeros((2, 2, 1, 1, 1), np.float32), np.arange(2, dtype=np.float32).reshape(1, 1, 1, 1, 2)]
    net = netcompiler.compile(netcompiler.parse(text), {"it": arrays}, device="cpu")
    assert net(np.ones((1, 2, 1, 1, 1)))["t0"].flatten().tolist() == [0, 1]
