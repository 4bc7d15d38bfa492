"""int8: formats and weights, the kernels against integer arithmetic, whole nets, bounds, and the command."""

import copy
import json
import pickle
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import netcompiler
from netcompiler import NetError, weights
from netcompiler.cli import main
from netcompiler.kernels import int8
from netcompiler.kernels.int8 import Format, Int8Convolution, Int8InnerProduct, Int8Module, Weighing, Weights
from netcompiler.layers.convolution import Convolution
from netcompiler.layers.inner_product import InnerProduct
from netcompiler.quantization import _Off, _Work
from netcompiler.quantization.net import QuantizedNet
from netcompiler.quantization.plan import Plan
from netcompiler.quantization.ranges import Range

from .test_footprint import SCRATCH, measured

pytestmark = pytest.mark.skipif(not int8.available(), reason="this PyTorch has no int8 kernels")


# --- formats and weights ---

FORMATS = [
    ((0, 255), Format(1.0, 0)),
    ((3, 51), Format(0.2, 0)),
    ((-1, 4.1), Format(0.02, 50)),
    ((-25.5, 0), Format(0.1, 255)),
    ((-127.5, 127.5), Format(1.0, 128)),
    ((0, 0), Format(1.0, 0)),
]


@pytest.mark.parametrize(("ends", "want"), FORMATS)
def test_formats(ends, want):
    got = Format.over(*ends)
    assert (got.zero, got.scale) == (want.zero, pytest.approx(want.scale, rel=1e-12))


NUMBERS = [  # scale 0.5, zero 11
    (0, 11),
    (0.5, 12),
    (0.25, 12),  # 11.5
    (0.75, 12),  # 12.5
    (-0.25, 10),  # 10.5
    (-5.5, 0),
    (-6, 0),
    (122, 255),
    (1e9, 255),
    (-np.inf, 0),
    (np.inf, 255),
    (np.nan, 11),
]


@pytest.mark.parametrize(("x", "q"), NUMBERS)
def test_numbers_in_u8(x, q):
    format = Format(0.5, 11)
    assert int(format.quantized(torch.tensor(float(x)))) == q
    assert float(format.restored(torch.tensor(q, dtype=torch.uint8))) == (q - 11) * 0.5


def test_back_and_forth_is_off_by_half_a_step():
    x = torch.from_numpy(np.random.default_rng(0).uniform(-3, 5, 999).astype(np.float32))
    format = Format.over(-3, 5)
    assert float((format.restored(format.quantized(x)) - x).abs().max()) <= format.scale * 0.5001


@pytest.mark.parametrize("levels", [127, 63])
def test_weights_are_quantised_by_channel(levels):
    w = np.random.default_rng(1).standard_normal((5, 3, 2, 2)).astype(np.float32)
    w[3] = 0
    w[4] *= 1000
    got = Weights.of(torch.from_numpy(w), None, levels)
    for row, q, scale in zip(w, got.q.numpy(), got.scale.numpy(), strict=True):
        want = np.float32(np.abs(row).max() / levels) if row.any() else 1
        assert scale == pytest.approx(want, rel=1e-7)
        assert np.array_equal(q, np.rint(row.astype(np.float64) / np.float64(scale)))
        assert np.abs(q.astype(int)).max() == (levels if row.any() else 0)
    np.testing.assert_allclose(got.restored().numpy(), w, atol=0.5001 * float(got.scale.max()))
    assert got.largest_sum() == 255 * max(int(np.abs(q.astype(int)).sum()) for q in got.q.numpy())


def test_ranges():
    x = torch.zeros(100_000)
    x[:50_000] = torch.linspace(0, 1, 50_000)
    x[0] = 100  # one number far off
    found = Range()
    assert found.widen(x) and (found.low, found.high) == (0, 100)
    found.count(x)
    assert float(found.counts.sum()) == len(x)
    tops = {m: f.scale * 255 for m in ("minmax", "percentile", "mse") for f in [found.format(m)]}
    assert tops["minmax"] == pytest.approx(100) and 0.9 < tops["percentile"] < 1.1 and tops["mse"] <= 100
    assert not found.widen(torch.tensor([1.0, torch.nan])) and not found.widen(torch.tensor([torch.inf]))


def test_the_least_square_error_beats_the_whole_range():
    x = torch.from_numpy(np.random.default_rng(2).laplace(size=200_000).astype(np.float32))
    found = Range()
    found.widen(x)
    found.count(x)

    def off(method):
        format = found.format(method)
        return float((format.restored(format.quantized(x)) - x).square().mean())

    assert off("mse") < 0.8 * off("minmax") and off("mse") <= off("percentile")


def test_outputs_whose_shape_changes_are_off_beyond_any_bound():
    """So do the detections of a net that finds another number of them."""
    off = _Off()
    rows = [{"boxes": torch.ones(1, 1, n, 7), "prob": torch.full((2, 3), 0.5)} for n in (4, 4, 3)]
    off.add(rows[0], rows[1])
    assert off.errors() == {"boxes": 0.0, "prob": 0.0}
    off.add(rows[2], rows[1])
    assert off.errors() == {"boxes": np.inf, "prob": 0.0} and off.error() == off.noise() == np.inf


# --- kernels against integers ---


def naive_sums(q, zero, w, stride, pad, dilation, group):
    """The sums of a convolution, in Python's integers; zeros around the image."""
    n, _, height, width = q.shape
    out, each, kh, kw = w.shape
    rows, columns = ((s + 2 * p - d * (k - 1) - 1) // t + 1 for s, p, d, k, t in zip(
        (height, width), pad, dilation, (kh, kw), stride, strict=True
    ))  # fmt: skip
    sums = np.zeros((n, out, rows, columns), np.int64)
    x, w = q.astype(np.int64) - zero, w.astype(np.int64)
    for o in range(out):
        first = o // (out // group) * each
        for y in range(rows):
            for z in range(columns):
                for i in range(kh):
                    for j in range(kw):
                        a, b = y * stride[0] - pad[0] + i * dilation[0], z * stride[1] - pad[1] + j * dilation[1]
                        if 0 <= a < height and 0 <= b < width:
                            sums[:, o, y, z] += x[:, first : first + each, a, b] @ w[o, :, i, j]
    return sums


# channels, outputs, kernel, stride, pad, dilation, group, the bottom's zero, the top's zero
CONVOLUTIONS = [
    (3, 5, (3, 3), (1, 1), (0, 0), (1, 1), 1, 0, 0),
    (3, 5, (3, 2), (2, 1), (1, 0), (1, 1), 1, 0, 7),
    (3, 5, (3, 3), (2, 2), (1, 1), (1, 1), 1, 113, 0),
    (4, 6, (3, 3), (1, 1), (1, 1), (1, 1), 2, 20, 128),
    (7, 7, (3, 3), (1, 1), (1, 1), (1, 1), 7, 255, 0),
    (16, 16, (3, 3), (2, 2), (1, 1), (1, 1), 16, 0, 0),
    (5, 3, (3, 3), (1, 1), (2, 2), (2, 2), 1, 9, 0),
    (64, 32, (1, 1), (1, 1), (0, 0), (1, 1), 1, 0, 0),
    (64, 32, (1, 1), (2, 2), (0, 0), (1, 1), 1, 200, 3),
    (4, 8, (2, 1), (1, 1), (2, 2), (1, 1), 4, 100, 0),  # windows that lie in the padding alone
    (1, 3, (2, 2), (1, 1), (2, 2), (1, 1), 1, 100, 7),
    (1, 3, (2, 2), (1, 1), (6, 6), (12, 12), 1, 100, 7),  # holes so wide that the image is in one
]
KINDS = ["plain", "relu", "float", "sum", "sum and relu", "sum, float", "leaky", "leaky sum"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_a_convolution_is_exact(case, kind):
    channels, outputs, kernel, stride, pad, dilation, group, zero, offset = case
    rng = np.random.default_rng(7)
    q = rng.integers(0, 256, (2, channels, 7, 6)).astype(np.uint8)
    w = rng.integers(-int8.weight_levels(), int8.weight_levels() + 1, (outputs, channels // group, *kernel)).astype(
        np.int8
    )
    scale = 2.0 ** rng.integers(-7, -4, outputs)  # powers of two, so that floating point is exact
    bias = rng.integers(-64, 64, outputs) / 8
    sums = naive_sums(q, zero, w, stride, pad, dilation, group)
    want = sums * 0.25 * scale[:, None, None] + bias[:, None, None]
    added, bottoms, reads = None, [torch.from_numpy(q)], [Format(0.25, zero)]
    if "sum" in kind:
        added = rng.integers(0, 256, want.shape).astype(np.uint8)
        bottoms.append(torch.from_numpy(added))
        reads.append(Format(0.5, 6))
        want = want + (added.astype(float) - 6) * 0.5
    slope = 0.25 if "leaky" in kind else 0.0
    relu = "relu" in kind or bool(slope)
    if relu:
        want = np.where(want > 0, want, slope * want)
    writes = None if "float" in kind else Format(2.0 ** np.ceil(np.log2(np.abs(want).max() / 128)), offset)
    layer = Convolution(
        outputs, kernel, stride, pad, dilation, group, relu=relu, negative_slope=slope, summed=len(reads) > 1
    )
    held = Weights(torch.from_numpy(w), torch.from_numpy(scale).float(), torch.from_numpy(bias).float())
    module = Int8Convolution(layer, reads, writes, held)
    if writes is not None:
        want = np.clip(np.rint(want / writes.scale + offset), 0, 255).astype(np.uint8)
    for size in (256, 1024, 4096, 16384):
        torch.empty(size).fill_(-1e30)  # what a kernel may find where it has nothing to look for
    with torch.no_grad():
        got, slow = module(*bottoms), module.slowly(*bottoms)
    assert got.dtype == (torch.float32 if writes is None else torch.uint8)
    assert np.array_equal(got.numpy(), want) and np.array_equal(slow.numpy(), want)
    if added is not None:
        assert np.array_equal(bottoms[1].numpy(), added), "a bottom was overwritten"


@pytest.mark.parametrize("zero", [0, 77])
@pytest.mark.parametrize("writes", [None, Format(16.0, 100)])
@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 20), 1), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), 2), ((2, 3, 4, 5), 3)], ids=str
)
def test_an_inner_product_is_exact(shape, axis, writes, zero):
    rng = np.random.default_rng(8)
    inputs = int(np.prod(shape[axis:]))
    q = rng.integers(0, 256, shape).astype(np.uint8)
    w = rng.integers(-63, 64, (6, inputs)).astype(np.int8)
    scale, bias = 2.0 ** rng.integers(-6, -2, 6), rng.integers(-64, 64, 6) / 8
    sums = (q.reshape(*shape[:axis], inputs).astype(np.int64) - zero) @ w.T.astype(np.int64)
    want = sums * 0.5 * scale + bias
    if writes is not None:
        want = np.clip(np.rint(want / writes.scale + writes.zero), 0, 255)
    held = Weights(torch.from_numpy(w), torch.from_numpy(scale).float(), torch.from_numpy(bias).float())
    module = Int8InnerProduct(InnerProduct(6, axis), [Format(0.5, zero)], writes, held)
    x = torch.from_numpy(q)
    orders = [x] if len(shape) == 2 else [x, x.contiguous(memory_format=torch.channels_last)]
    with torch.no_grad():
        for given in (*orders, *orders):
            assert np.array_equal(module(given).numpy(), want)
            assert np.array_equal(module.slowly(given).numpy(), want)


# --- whole nets ---


def source(text, phase="TEST", inputs=None):
    """A bound graph, weights as they might be trained: of unit gain."""
    graph = netcompiler.build(netcompiler.parse(text), phase, inputs=inputs)
    rng = np.random.default_rng(4)
    arrays = {}
    for node in graph.nodes:
        specs = node.layer.blobs(node.bottom_shapes)
        if specs:
            arrays[node.name] = [
                (rng.standard_normal(s.shape) * (2 * s.shape[0] / s.count) ** 0.5).astype(np.float32)
                if len(s.shape) > 1
                else (0.5 + 0.2 * rng.random(s.shape)).astype(np.float32) * (name != "bias")
                for name, s in specs.items()
            ]
    return weights.bind(graph, arrays)


def images(graph, count=8, batch=None, seed=6):
    rng = np.random.default_rng(seed)
    return [
        {v.blob: rng.standard_normal((batch or v.shape[0], *v.shape[1:])).astype(np.float32) for v in graph.inputs()}
        for _ in range(count)
    ]


def x(*shape):
    sizes = " ".join(f"dim: {d}" for d in shape)
    return f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {sizes} }} }} }}\n'


def conv(name, bottom, outputs=8, kernel=3, more="", top=None):
    pad = f"pad: {kernel // 2}"
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{top or name}" '
        f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} {pad} {more} }} }}\n"
    )


def layer(kind, name, bottoms, top=None, more=""):
    words = [f'bottom: "{b}"' for b in bottoms.split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(words)} top: "{top or name}" {more} }}\n'


def relu(blob, more=""):
    return layer("ReLU", f"relu_{blob}", blob, blob, more)


def norm(blob):
    scale = layer("Scale", f"scale_{blob}", blob, blob, "scale_param { bias_term: true }")
    return layer("BatchNorm", f"norm_{blob}", blob, blob) + scale


def full(name, bottom, outputs=10, more=""):
    return layer("InnerProduct", name, bottom, more=f"inner_product_param {{ num_output: {outputs} {more} }}")


def pool(name, bottom, kind="MAX", more="kernel_size: 2 stride: 2"):
    return layer("Pooling", name, bottom, more=f"pooling_param {{ pool: {kind} {more} }}")


def block(name, bottom, outputs=8):
    return (
        conv(f"{name}a", bottom, outputs) + norm(f"{name}a") + relu(f"{name}a")
        + conv(f"{name}b", f"{name}a", outputs) + norm(f"{name}b")
        + layer("Eltwise", name, f"{bottom} {name}b") + relu(name)
    )  # fmt: skip


RESNET = (
    x(2, 3, 16, 16) + conv("c", "x") + norm("c") + relu("c") + pool("p", "c") + block("r", "p") + block("s", "r")
    + conv("t1", "s", 12, 1) + conv("t2", "s", 12) + layer("Eltwise", "t", "t1 t2") + relu("t")
    + pool("g", "t", "AVE", "global_pooling: true") + full("fc", "g") + layer("Softmax", "prob", "fc")
)  # fmt: skip
LENET = (
    x(3, 1, 20, 20) + conv("c1", "x", 6, 5) + pool("p1", "c1") + conv("c2", "p1", 9, 5) + pool("p2", "c2")
    + full("f1", "p2", 30) + relu("f1") + full("f2", "f1")
)  # fmt: skip
MOBILE = (
    x(2, 3, 14, 14) + conv("c", "x", 8) + relu("c") + conv("dw", "c", 8, 3, "group: 8") + relu("dw")
    + conv("pw", "dw", 16, 1) + conv("gr", "pw", 8, 3, "group: 4 stride: 2") + conv("di", "gr", 8, 3, "dilation: 2")
)  # fmt: skip
INCEPTION = (
    x(2, 3, 12, 12) + conv("c", "x") + relu("c") + conv("a", "c", 4, 1) + relu("a") + conv("b", "c", 5) + relu("b")
    + pool("m", "c", more="kernel_size: 3 stride: 1 pad: 1") + layer("Concat", "cat", "a b m") + conv("d", "cat")
    + relu("d") + pool("v", "d", "AVE") + conv("e", "v") + layer("LRN", "n", "e") + conv("f", "n") + relu("f")
)  # fmt: skip
LEAKY = x(2, 3, 9, 9) + conv("c", "x") + relu("c", "relu_param { negative_slope: 0.1 }") + block("r", "c")
DENSE = (
    x(2, 4, 8, 8) + conv("a", "x") + layer("Concat", "y", "x a") + layer("ReLU", "yr", "y") + conv("b", "yr")
    + layer("Concat", "z", "y b") + layer("ReLU", "zr", "z") + conv("d", "zr")
)  # fmt: skip
FLAT = (
    x(2, 3, 8, 8) + conv("c", "x", 5) + relu("c") + layer("Flatten", "l", "c") + full("f", "l", 12)
    + layer("Sigmoid", "s", "f") + full("g", "s", 7) + layer("InnerProduct", "h", "c", more="inner_product_param "
    "{ num_output: 4 axis: 2 }")
)  # fmt: skip
OUTPUTS = x(2, 3, 9, 9) + conv("c", "x") + relu("c") + conv("d", "c") + pool("p", "d", more="kernel_size: 3 stride: 3")

# name, net, how many values pass between layers in u8, how many layers only move u8
NETS = [
    ("a residual net", RESNET, 7, 1),
    ("LeNet", LENET, 5, 2),
    ("depthwise, grouped, dilated", MOBILE, 4, 0),
    ("concat, pooling, LRN", INCEPTION, 7, 2),
    ("leaky", LEAKY, 2, 0),
    ("dense", DENSE, 2, 0),
    ("flat", FLAT, 3, 1),
    ("a pooling at the end", OUTPUTS, 1, 0),
]
BY_NAME = {name: text for name, text, *_ in NETS}


def quantized(text, batches=None, **options):
    graph = source(text)
    net = netcompiler.CompiledNet(graph, optimize=True).eval()
    return net, netcompiler.quantize(net, batches or images(graph), **options)


def off(net, small, feeds):
    with torch.inference_mode():
        want, got = net(**feeds), small(**feeds)
    assert list(want) == list(got) and all(t.dtype == torch.float32 for t in got.values())
    return max(float((got[k] - want[k]).abs().max() / want[k].abs().max()) for k in want)


@pytest.mark.parametrize(("name", "text", "packed", "moving"), NETS, ids=[n[0] for n in NETS])
def test_nets(name, text, packed, moving):
    net, small = quantized(text)
    assert off(net, small, images(net.source, 1, seed=99)[0]) < 0.08
    assert {row.runs for row in small.report.layers} == {"int8"} and small.report.share_of_macs == 1
    assert all(0 < row.error < 0.2 and 0 < row.noise < 0.15 for row in small.report.layers)
    plan = Plan.of(small.graph, [i for i, n in enumerate(small.graph.nodes) if n.layer.counted])
    assert (len(plan.packed), len(plan.moving)) == (packed, moving), plan
    kinds = {type(m) for m in small.children() if hasattr(m, "layer") and m.layer.counted}
    assert kinds <= {Int8Convolution, Int8InnerProduct}


@pytest.mark.parametrize("name", list(BY_NAME))
def test_between_layers_values_are_u8(name):
    _, small = quantized(BY_NAME[name])
    plan = Plan.of(small.graph, [i for i, n in enumerate(small.graph.nodes) if n.layer.counted])
    seen = {}
    for node, attribute in zip(small.graph.nodes, small.attributes, strict=True):
        hook = lambda _, __, y, node=node: seen.update({node.tops[0]: y.dtype})  # noqa: E731
        small.get_submodule(attribute).register_forward_hook(hook)
    small(**images(small.source, 1)[0])
    assert {v for v, dtype in seen.items() if dtype == torch.uint8} == plan.packed


@pytest.mark.parametrize("name", list(BY_NAME))
def test_kernels_do_what_the_numbers_say(name, monkeypatch):
    """The same net through floating point: a sum that lies between two numbers may be rounded to either."""
    _, small = quantized(BY_NAME[name])
    feeds = images(small.source, 1, seed=5)[0]
    fast = {k: v.clone() for k, v in small(**feeds).items()}
    for kind in (Int8Convolution, Int8InnerProduct):
        monkeypatch.setattr(kind, "forward", Weighing.slowly)
    slow = small(**feeds)
    for blob in fast:
        apart = (fast[blob] - slow[blob]).abs() / slow[blob].abs().max()
        assert float(apart.max()) < 0.03 and float(apart.mean()) < 1e-3, blob


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["conv", "relu", "add", "pool", "cat", "ave"]), st.integers(0, 99), st.integers(0, 99)
        ),
        max_size=10,
    )
)
def test_random_nets(steps):
    """Nets wired at random do in int8 what their numbers say, and stay near the float32 net."""
    text, blobs = x(2, 4, 8, 8), {"x": 4}
    for i, (kind, a, b) in enumerate(steps):
        name, one, two = f"b{i}", list(blobs)[a % len(blobs)], list(blobs)[b % len(blobs)]
        channels = blobs[one]
        if kind == "conv":
            text, channels = text + conv(name, one, 4 + b % 3), 4 + b % 3
        elif kind == "add" and blobs[two] == channels:
            text += layer("Eltwise", name, f"{one} {two}")
        elif kind == "cat":
            text, channels = text + layer("Concat", name, f"{one} {two}"), channels + blobs[two]
        elif kind in ("pool", "ave"):
            text += pool(name, one, "MAX" if kind == "pool" else "AVE", "kernel_size: 3 stride: 1 pad: 1")
        else:
            text += layer("ReLU", name, one)
        blobs[name] = channels
    graph = source(text + conv("last", list(blobs)[-1]) + full("end", "last"))
    net = netcompiler.CompiledNet(graph, optimize=True)
    small = netcompiler.quantize(net, images(graph, 4), method="minmax")
    feeds = images(graph, 1, seed=3)[0]
    fast = {k: v.clone() for k, v in small(**feeds).items()}
    assert off(net, small, feeds) < 0.25
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Int8Convolution, Int8InnerProduct):
            patch.setattr(kind, "forward", Weighing.slowly)
        slow = small(**feeds)
    for blob in fast:
        assert float((fast[blob] - slow[blob]).abs().max()) < 0.06 * float(slow[blob].abs().max()), blob


def test_shapes_change():
    net, small = quantized(INCEPTION)
    for batch, size in ((1, 12), (5, 12), (2, 9), (2, 12)):
        feeds = {"x": np.random.default_rng(batch).standard_normal((batch, 3, size, size)).astype(np.float32)}
        assert off(net, small, feeds) < 0.08
    with pytest.raises(NetError):
        small(np.zeros((2, 4, 12, 12), np.float32))


def test_a_transposed_inner_product():
    text = x(3, 4, 2, 5) + full("f", "x", 6, "transpose: true bias_term: false")
    net, small = quantized(text)
    assert off(net, small, images(net.source, 1, seed=9)[0]) < 0.03


def test_it_can_be_exported():
    net, small = quantized(RESNET)
    given = torch.from_numpy(images(net.source, 1)[0]["x"])
    want = small(given)["prob"]
    got = torch.export.export(small, (given,)).module()(given)["prob"]
    torch.testing.assert_close(got, want, rtol=0.03, atol=0.003)


def test_inputs_stay_as_they_are():
    net, small = quantized(x(2, 8, 6, 6) + conv("c", "x") + layer("Eltwise", "e", "c x") + relu("e") + conv("d", "e"))
    given = torch.from_numpy(images(net.source, 1)[0]["x"])
    kept = given.clone()
    small(given)
    assert torch.equal(given, kept)


def test_copies_and_threads_give_the_same():
    net, small = quantized(RESNET)
    feeds = images(net.source, 1)[0]
    want = small(**feeds)["prob"]
    for twin in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert torch.equal(twin(**feeds)["prob"], want) and twin.report == small.report
    other = quantized(RESNET)[1]
    other.load_state_dict(small.state_dict())
    assert torch.equal(other(**feeds)["prob"], want)
    wrong = []

    def work():
        for _ in range(20):
            if not torch.equal(small(**feeds)["prob"], want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert not wrong


@pytest.mark.parametrize(
    "name", ["a residual net", "depthwise, grouped, dilated", "concat, pooling, LRN", "leaky", "dense"]
)
def test_a_forward_takes_no_more_than_planned(name):
    channels = 4 if name == "dense" else 3
    graph = source(BY_NAME[name], inputs={"x": (2, channels, 80, 80)})
    net = netcompiler.CompiledNet(graph, optimize=True).eval()
    net._programs.on = False
    small = netcompiler.quantize(net, images(graph, 2))
    assert 0 < measured(small) <= small.planned_bytes() + SCRATCH
    if name not in ("leaky", "dense"):  # which go through float32 on their way
        assert small.planned_bytes() < net.planned_bytes()


def test_it_is_small_and_keeps_caffes_weights():
    net, small = quantized(RESNET)
    held = small.state_dict()
    assert {held[f"{name}.weight"].dtype for name in ("c", "ra", "fc")} == {torch.int8}
    assert not any(
        m for m in small.modules() if getattr(m, "weight", None) is not None and m.weight.dtype == torch.float32
    )
    mine, theirs = small.caffe_params(), net.caffe_params()
    assert all(np.array_equal(a, b) for k in theirs for a, b in zip(mine[k], theirs[k], strict=True))
    with pytest.raises(NetError, match="keeps its weights"):
        small.load_caffe_params(theirs)
    with pytest.raises(NetError, match="stays where it is"):
        small.double()


# --- what it costs ---


def test_report():
    net, small = quantized(RESNET, images(source(RESNET), 12, batch=1))
    report = small.report
    assert (report.calibrated, report.held_out, report.items) == (9, 3, 3)
    assert report.method in report.tried and set(report.tried) == {"minmax", "percentile", "mse"}
    assert report.tried[report.method] == min(report.tried.values())
    held = images(source(RESNET), 12, batch=1)[3::4]
    largest = max(float(net(**b)["prob"].abs().max()) for b in held)
    worst = max(float((small(**b)["prob"] - net(**b)["prob"]).abs().max()) for b in held)
    assert report.error == pytest.approx(worst / largest, rel=1e-3) and report.errors == {"prob": report.error}
    same = [int(small(**b)["prob"].argmax()) == int(net(**b)["prob"].argmax()) for b in held]
    assert report.agreement == sum(same) / 3
    assert [row.name for row in report.layers] == [n.name for n in small.graph.nodes if n.layer.counted]
    assert "8 of 8 layers" in str(report) and "ra " in str(report)
    assert json.loads(json.dumps(report.as_dict()))["quantized"] == list(report.quantized)


def test_local_errors_are_of_one_layer_alone():
    text = x(2, 3, 8, 8) + conv("c", "x") + relu("c") + conv("d", "c")
    graph = source(text)
    batches = images(graph, 4)
    net, small = quantized(text, batches, method="minmax")
    both = netcompiler.CompiledNet(graph.reaching(["c", "d"]), optimize=True)
    module: Int8Module = small.d
    most, worst = 0.0, 0.0
    for batch in batches[3:]:
        tops = both(**batch)
        worst = max(worst, float((module(tops["c"]) - tops["d"]).abs().max()))
        most = max(most, float(tops["d"].abs().max()))
    (row,) = [r for r in small.report.layers if r.name == "d"]
    assert row.error == pytest.approx(worst / most, rel=1e-5)


@pytest.mark.parametrize("share", [0.9, 0.6, 0.3])
def test_a_bound_is_kept(share):
    graph = source(RESNET)
    batches = images(graph, 8)
    _, free = quantized(RESNET, batches)
    bound = share * free.report.error
    _, small = quantized(RESNET, batches, max_error=bound)
    report = small.report
    assert report.error <= bound and report.max_error == bound
    away = [row for row in report.layers if row.runs == "float32"]
    assert 0 < len(away) < len(report.layers) and 0 < report.share_of_macs < 1
    assert all(f"{bound:g}" in row.why for row in away)
    assert all(row.share > 0 for row in report.layers)
    net = netcompiler.CompiledNet(graph, optimize=True)
    right = [net(**b)["prob"] for b in batches[3::4]]
    worst = max(float((small(**b)["prob"] - y).abs().max()) for b, y in zip(batches[3::4], right, strict=True))
    assert worst <= bound * max(float(y.abs().max()) for y in right) * 1.0001


# bound, which of three layers stay in int8, by what each set of them does to the outputs
ERRORS = {"abc": 9, "bc": 6, "ac": 5, "ab": 7, "a": 4, "b": 3, "c": 1}
SEARCHES = [(9, "abc"), (8, "bc"), (6, "bc"), (5.5, "ac"), (4.5, "c"), (1, "c")]


@pytest.mark.parametrize(("bound", "stay"), SEARCHES)
def test_which_layers_stay(monkeypatch, bound, stay):
    """The worst go until the bound is kept; of those that went, the ones that keep it come back."""
    net = QuantizedNet(source(x(1, 3, 8, 8) + conv("a", "x") + conv("b", "a") + conv("c", "b")))
    work = _Work(net, [], [], lambda *_: None, weights=dict.fromkeys((1, 2, 3)))

    def error(self, what, places, *_):
        return SimpleNamespace(error=lambda: ERRORS["".join("xabc"[p] for p in sorted(places))])

    monkeypatch.setattr(_Work, "off", error)
    places, shares, off = work.search({}, [], [], bound)
    assert "".join("xabc"[p] for p in places) == stay and off.error() == ERRORS[stay]
    assert shares == ({} if stay == "abc" else {1: 4, 2: 3, 3: 1})


def test_no_layer_stays(monkeypatch):
    net = QuantizedNet(source(x(1, 3, 8, 8) + conv("a", "x") + conv("b", "a")))
    work = _Work(net, [], [], lambda *_: None, weights=dict.fromkeys((1, 2)))
    monkeypatch.setattr(_Work, "off", lambda *_: SimpleNamespace(error=lambda: 0.25))
    with pytest.raises(NetError, match="0.25 with all 2 layers"):
        work.search({}, [], [], 0.2)


def test_a_bound_that_is_kept_anyway_moves_nothing():
    _, small = quantized(RESNET, max_error=0.9)
    assert len(small.report.quantized) == len(small.report.layers)
    assert all(row.share is None for row in small.report.layers)


def test_a_bound_that_cannot_be_kept():
    with pytest.raises(NetError, match="int8 cannot keep the bound") as e:
        quantized(RESNET, max_error=1e-9)
    assert "with all 8 layers" in str(e.value) and "at most 1e-09" in str(e.value)


def test_layers_without_a_kernel_stay():
    text = (
        x(2, 3, 9, 9)
        + layer("Deconvolution", "u", "x", more="convolution_param { num_output: 4 kernel_size: 2 stride: 2 }")
        + conv("c", "u")
        + relu("c")
        + layer("Reshape", "s", "c", more="reshape_param { shape { dim: 0 dim: 0 dim: -1 } }")
        + layer("Convolution", "d", "s", more="convolution_param { num_output: 4 kernel_size: 3 }")
    )
    net, small = quantized(text)
    told = {row.name: (row.runs, row.why) for row in small.report.layers}
    assert told["u"] == ("float32", "no such kernel") and told["c"] == ("int8", "")
    assert told["d"][0] == "float32" and "1 spatial axes" in told["d"][1]
    assert off(net, small, images(net.source, 1, seed=3)[0]) < 0.05


def test_sums_beyond_32_bits_are_not_risked():
    text = x(1, 1, 300, 300) + full("f", "x", 1)
    net = netcompiler.CompiledNet(source(text), optimize=True)
    with torch.no_grad():
        net.f.weight.fill_(1)
    full_net = netcompiler.CompiledNet(source(text).with_nodes(n for n in source(text).nodes), optimize=True)
    full_net.load_caffe_params({"f": [np.ones((1, 90000), np.float32), np.zeros(1, np.float32)]})
    with pytest.raises(NetError, match="beyond 32 bits") as e:
        netcompiler.quantize(full_net, images(full_net.source, 2))
    assert "no layer of this net can run in int8" in str(e.value)


# --- what is refused ---


def test_calibration_inputs_in_any_form():
    graph = source(LENET)
    net = netcompiler.CompiledNet(graph, optimize=True)
    batches = images(graph, 4)
    want = netcompiler.quantize(net, batches)(**batches[0])
    forms = [
        [b["x"] for b in batches],
        [torch.from_numpy(b["x"]) for b in batches],
        (b for b in batches),
    ]
    for form in forms:
        got = netcompiler.quantize(net, form)(**batches[0])
        assert all(torch.equal(got[k], want[k]) for k in want)


def test_one_batch_is_divided_where_it_can_be():
    graph = source(LENET)
    net = netcompiler.CompiledNet(graph, optimize=True)
    (batch,) = images(graph, 1, batch=8)
    report = netcompiler.quantize(net, batch).report
    assert (report.calibrated, report.held_out, report.items) == (1, 1, 2)
    report = netcompiler.quantize(net, batch["x"][:1]).report
    assert (report.calibrated, report.held_out, report.items) == (1, 0, 1)
    assert "too few were given" in report.summary()


def nets_to_refuse():
    graph = source(LENET)
    nan = images(graph, 2)
    nan[0]["x"][0, 0, 0, 0] = np.nan
    net = netcompiler.CompiledNet
    plain, fast = net(graph), net(graph, optimize=True)
    yield "a path", "net.prototxt", images(graph), {}, "no net to quantize"
    yield "training", net(source(LENET, "TRAIN")), images(graph), {}, "only a TEST net"
    yield "half", net(graph, dtype=torch.bfloat16), images(graph), {}, "made from float32"
    yield "nothing", fast, [], {}, "no calibration inputs"
    yield "a folder", fast, "pictures/", {}, "no calibration inputs"
    yield "an unknown input", fast, [{"y": nan[1]["x"]}], {}, 'no input "y"'
    yield "another shape", fast, [np.zeros((1, 3, 20, 20), np.float32)], {}, "expected"
    yield "NaN", fast, nan, {}, "not finite"
    yield "a negative bound", fast, images(graph), {"max_error": -1}, "not negative"
    yield "NaN as a bound", plain, images(graph), {"max_error": float("nan")}, "not negative"
    yield "a method", fast, images(graph), {"method": "guess"}, "unknown method"
    bare = netcompiler.build(netcompiler.parse(x(1, 2, 3, 3) + pool("p", "x")))
    yield "nothing to quantise", net(bare), images(bare), {}, "no layer of this net can run in int8"


@pytest.mark.parametrize("case", list(nets_to_refuse()), ids=lambda case: case[0])
def test_refuses(case):
    _, net, batches, options, message = case
    with pytest.raises(NetError, match=message):
        netcompiler.quantize(net, batches, **options)


# --- the command ---


@pytest.fixture
def files(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    (tmp_path / "net.prototxt").write_text(
        x(1, 3, 16, 16) + conv("c", "x").replace("kernel_size", 'weight_filler { type: "xavier" } kernel_size')
        + relu("c") + full("fc", "c", 5, 'weight_filler { type: "xavier" }') + layer("Softmax", "prob", "fc")
    )  # fmt: skip
    (tmp_path / "pictures" / "inner").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(8):
        folder = tmp_path / "pictures" / ("inner" if i % 2 else "")
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path


def run(capsys, *arguments):
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as e:  # argparse
        code = e.code
    out, err = capsys.readouterr()
    return code, out, err


def test_command(capsys, files):
    net, pictures = files / "net.prototxt", files / "pictures"
    code, out, err = run(capsys, net, "--dtype", "int8", "--calibrate", pictures, "--check", "0.5", "--scale", "0.02")
    assert (code, err) == (0, "")
    assert "2 of 2 layers, 100 % of the MACs" in out and "cpu (" in out and ", int8, optimised" in out
    code, out, _ = run(capsys, net, "--dtype", "int8", "--calibrate", pictures, "--scale", "0.02", "--json")
    told = json.loads(out)
    assert code == 0 and told["run"]["dtype"] == "int8"
    assert told["int8"]["quantized"] == ["c", "fc"]
    assert (told["int8"]["calibrated"], told["int8"]["held_out"]) == (6, 2)
    assert told["rewriting_error"]["prob"] < 0.1


def test_command_takes_lists_and_files(capsys, files):
    (files / "list.txt").write_text("pictures/0.png 3\npictures/inner/1.png\n\npictures/2.png -1\n")
    given = ["--calibrate", files / "list.txt", files / "pictures" / "4.png", "--json"]
    code, out, err = run(capsys, files / "net.prototxt", "--dtype", "int8", *given)
    assert (code, err) == (0, "")
    told = json.loads(out)["int8"]
    assert told["calibrated"] + told["held_out"] == 4


def test_command_with_a_bound(capsys, files):
    given = [files / "net.prototxt", "--dtype", "int8", "--calibrate", files / "pictures", "--scale", "0.02"]
    code, out, _ = run(capsys, *given, "--max-error", "0.5", "--json")
    assert code == 0 and json.loads(out)["int8"]["max_error"] == 0.5
    code, out, err = run(capsys, *given, "--max-error", "1e-12")
    assert (code, out) == (2, "") and "int8 cannot keep the bound" in err and err.count("error:") == 1


def test_timing(capsys, files):
    given = ["--dtype", "int8", "--calibrate", "synthetic", "--iters", "2"]
    code, out, err = run(capsys, "time", files / "net.prototxt", *given, "--json")
    told = json.loads(out)
    assert (code, err) == (0, "") and told["dtype"] == "int8" and told["int8"]["share_of_macs"] == 1
    assert [row["layers"] for row in told["layers"]] == [["c", "relu_c"], ["fc"], ["prob"]]
    assert told["layers"][1]["bytes"] == 8 * 256 + 8 * 256 * 5 + 5 + 5
    code, out, _ = run(capsys, "time", files / "net.prototxt", *given)
    assert code == 0 and "int8" in out


BAD = [
    ("no pictures", ["--dtype", "int8"], "wants pictures"),
    ("an empty folder", ["--dtype", "int8", "--calibrate", "EMPTY"], "holds no pictures"),
    ("a missing file", ["--dtype", "int8", "--calibrate", "none.png"], "none.png"),
    ("no picture", ["--dtype", "int8", "--calibrate", "broken.png"], "not a picture"),
    ("an empty list", ["--dtype", "int8", "--calibrate", "empty.txt"], "empty"),
    ("a missing list", ["--dtype", "int8", "--calibrate", "none.txt"], "none.txt"),
    ("a list of missing files", ["--dtype", "int8", "--calibrate", "list.txt"], "gone.png"),
    ("a negative bound", ["--dtype", "int8", "--calibrate", "synthetic", "--max-error", "-1"], "not negative"),
    ("a bound that is none", ["--dtype", "int8", "--calibrate", "synthetic", "--max-error", "low"], "--max-error"),
    ("a bound without int8", ["--max-error", "0.1"], "--max-error is for int8"),
    ("pictures without int8", ["--calibrate", "synthetic"], "--calibrate is for int8"),
    ("plain", ["--dtype", "int8", "--calibrate", "synthetic", "--no-optimize"], "--no-optimize"),
    ("tuning", ["--dtype", "int8", "--calibrate", "synthetic", "--tune"], "--tune"),
    ("training", ["--dtype", "int8", "--calibrate", "synthetic", "--phase", "TRAIN"], "--phase TRAIN"),
    ("CUDA", ["--dtype", "int8", "--calibrate", "synthetic", "--device", "cuda"], "--device cuda"),
]


@pytest.mark.parametrize("word", [[], ["time"]], ids=["run", "time"])
@pytest.mark.parametrize(("arguments", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_wrong_arguments(capsys, files, monkeypatch, word, arguments, message):
    monkeypatch.chdir(files)
    (files / "EMPTY").mkdir()
    (files / "broken.png").write_text("no picture")
    (files / "empty.txt").write_text("\n")
    (files / "list.txt").write_text("gone.png 1\n")
    code, out, err = run(capsys, *word, "net.prototxt", *arguments)
    assert (code, out) == (2, "") and message in err and err.count(" error: ") == 1
    assert "Traceback" not in err


def test_pictures_for_a_net_that_takes_none(capsys, files):
    (files / "four.prototxt").write_text(x(1, 4, 8, 8) + conv("c", "x"))
    (files / "flat.prototxt").write_text(x(1, 4) + full("f", "x"))
    for net, message in (("four", "takes no pictures"), ("flat", "no input for pictures")):
        given = [files / f"{net}.prototxt", "--dtype", "int8", "--calibrate", files / "pictures"]
        code, _, err = run(capsys, *given)
        assert code == 2 and message in err


def test_other_engines_do_not_go_with_it(capsys, files):
    given = ["--dtype", "int8", "--calibrate", "synthetic", "--engine", "eager"]
    code, _, err = run(capsys, files / "net.prototxt", *given)
    assert code == 2 and "--engine eager" in err
