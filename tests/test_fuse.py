"""Merging sums and ReLUs into convolutions, dropping what nobody reads, and the kernels that run what comes of it."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import netcompiler
from netcompiler import kernels, passes
from netcompiler.kernels.onednn import PackedConvolution, Product, windows_see
from netcompiler.layer_module import LayerModule
from netcompiler.passes.drop_unread import drop_unread
from netcompiler.passes.fuse_convolution import fuse_relu, fuse_sum

from .test_passes import X, bound, same, types


def conv(name, bottom="x", more=""):
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {more}\n'
        'convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }\n'
    )


def add(a, b, name="e", more=""):
    return f'layer {{ name: "{name}" type: "Eltwise" bottom: "{a}" bottom: "{b}" top: "{name}" {more} }}\n'


def relu(blob, top=None, more=""):
    return f'layer {{ name: "r_{blob}" type: "ReLU" bottom: "{blob}" top: "{top or blob}" {more} }}\n'


def pool(bottom, name="p"):
    text = f'layer {{ name: "{name}" type: "Pooling" bottom: "{bottom}" top: "{name}"\n'
    return text + "pooling_param { pool: MAX kernel_size: 3 stride: 1 pad: 1 } }\n"


LEAKY = "relu_param { negative_slope: 0.3 }"
NORM = 'layer { name: "n" type: "BatchNorm" bottom: "c" top: "c" }\n'

# name, net, the types that stay
FUSES = [
    ("relu", conv("c") + relu("c"), "Convolution"),
    ("relu under another name", conv("c") + relu("c", "d"), "Convolution"),
    ("leaky", conv("c") + relu("c", more=LEAKY), "Convolution"),
    ("sum with the input", conv("c") + add("c", "x"), "Convolution"),
    ("sum, the other way round", conv("c") + add("x", "c"), "Convolution"),
    ("sum and relu", conv("c") + add("c", "x") + relu("e"), "Convolution"),
    ("sum and leaky", conv("c") + add("c", "x") + relu("e", more=LEAKY), "Convolution"),
    ("of two convolutions the later", conv("c") + conv("d") + add("c", "d") + relu("e"), "Convolution Convolution"),
    ("the first, moved behind", conv("c") + pool("x") + add("c", "p") + relu("e"), "Pooling Convolution"),
    ("a chain of sums", conv("c") + conv("d") + add("c", "x") + add("d", "e", "f"), "Convolution Convolution"),
    ("behind BatchNorm", conv("c") + NORM + add("c", "x") + relu("e"), "Convolution"),
    ("coeff", conv("c") + add("c", "x", more="eltwise_param { coeff: -2 coeff: 1 }"), "Convolution"),
    (
        "a residual block",
        conv("c") + relu("c") + conv("d", "c") + add("x", "d") + relu("e") + conv("g", "e"),
        "Convolution " * 3,
    ),
]


@pytest.mark.parametrize(("text", "kinds"), [f[1:] for f in FUSES], ids=[f[0] for f in FUSES])
def test_fuses(text, kinds):
    before = bound(X + text)
    after = passes.run(before)
    assert types(after) == kinds.split()
    same(before, after)
    assert passes.run(after) is after
    net, plain = compiled(before), netcompiler.CompiledNet(before)
    assert all(isinstance(m, PackedConvolution) for m in net.children() if m.layer.kind == "Convolution")
    close(net, plain)


KEEPS = [
    ("a product", conv("c") + add("c", "x", more="eltwise_param { operation: PROD }")),
    ("a maximum", conv("c") + add("c", "x", more="eltwise_param { operation: MAX }")),
    ("both bottoms one blob", conv("c") + add("c", "c")),
    ("the other has a coeff", conv("c") + add("c", "x", more="eltwise_param { coeff: 1 coeff: 2 }")),
    ("a third bottom", conv("c") + add("c", "x", more='bottom: "x"')),
    ("a second reader", conv("c") + add("c", "x") + relu("c", "d")),
    ("a loss weight", conv("c", more="loss_weight: 2") + add("c", "x")),
    ("stopped gradient", conv("c") + add("c", "x", more="propagate_down: false propagate_down: true")),
    ("no convolution", pool("x") + add("p", "x")),
    ("a type with one bottom", conv("c").replace('"Convolution"', '"ConvolutionDepthwise"') + add("c", "x")),
    ("a relu between", conv("c", more="").replace("3 pad", "3 relu: true pad") + add("c", "x")),
    (
        "shared weights with a coeff",
        conv("c", more='param { name: "w" }') + add("c", "x", more="eltwise_param { coeff: 2 coeff: 1 }"),
    ),
    ("relu with a second reader", conv("c") + relu("c", "d") + pool("c")),
    ("relu of a loss", conv("c", more="loss_weight: 2") + relu("c", "d")),
    ("relu with stopped gradient", conv("c") + relu("c", more="propagate_down: false")),
    ("relu behind a relu", conv("c").replace("3 pad", "3 relu: true pad") + relu("c")),
    ("relu of no convolution", pool("x") + relu("p")),
]


@pytest.mark.parametrize("text", [k[1] for k in KEEPS], ids=[k[0] for k in KEEPS])
def test_keeps_hands_off(text):
    graph = bound(X + text)
    assert fuse_sum(graph) is graph and fuse_relu(graph) is graph


@pytest.mark.parametrize(("blob", "kinds"), [("c", "Convolution Eltwise ReLU"), ("e", "Convolution ReLU")])
def test_outputs_stay(blob, kinds):
    graph = bound(X + conv("c") + add("c", "x") + relu("e", "f"))
    both = graph.wanted([graph.last(blob), graph.last("f")])
    after = passes.run(both)
    assert types(after) == kinds.split()
    same(both, after)


SILENCE = 'layer { name: "s" type: "Silence" bottom: "BLOB" }\n'


def test_what_nobody_reads_goes():
    graph = bound(X + conv("c") + pool("c") + SILENCE.replace("BLOB", "p") + conv("d"))
    assert types(drop_unread(graph)) == ["Convolution"]
    assert types(passes.run(graph)) == ["Convolution"]
    alone = drop_unread(graph)
    assert drop_unread(alone) is alone


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(conv("c"), id="an output"),
        pytest.param(conv("c", more="loss_weight: 1") + SILENCE.replace("BLOB", "c"), id="a loss"),
        pytest.param(conv("c") + conv("d", "c"), id="read"),
    ],
)
def test_what_is_needed_stays(text):
    graph = bound(X + text)
    kept = drop_unread(graph)
    assert [n.name for n in kept.nodes if n.layer.kind == "Convolution"] == [
        n.name for n in graph.nodes if n.layer.kind == "Convolution"
    ]


def compiled(graph, **options):
    return netcompiler.CompiledNet(graph, optimize=True, **options).eval()


def feeds(net, seed=0, batch=None):
    rng = np.random.default_rng(seed)
    shapes = {v.blob: (batch or v.shape[0], *v.shape[1:]) for v in net.graph.inputs()}
    return {blob: torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for blob, shape in shapes.items()}


def close(net, plain, tolerance=1e-5, **options):
    fed = feeds(plain, **options)
    kept = {name: x.clone() for name, x in fed.items()}
    with torch.inference_mode():
        got, want = net(**fed), plain(**fed)
    for name, x in fed.items():
        assert torch.equal(x, kept[name]), f"the input {name} was overwritten"
    for name in want:
        scale = float(want[name].abs().max())
        assert float((got[name].to(want[name].dtype) - want[name]).abs().max()) <= tolerance * scale, name


BLOCK = conv("c") + relu("c") + conv("d", "c") + add("d", "c") + relu("e") + conv("f", "e") + add("f", "e", "g")


OVERWRITES = [
    ("another's top", conv("c") + conv("d") + add("c", "d"), {"d"}),
    ("a shortcut", conv("c") + conv("d", "c") + conv("e2", "d") + add("c", "e2") + relu("e"), {"e2"}),
    ("the net's input", conv("c") + add("c", "x"), set()),
    ("an output", conv("c") + conv("d") + add("c", "d"), set()),
    ("a later reader", conv("c") + conv("d") + add("c", "d") + pool("c"), set()),
    ("what is convolved", conv("c") + conv("d", "c") + add("d", "c"), set()),
    (
        "memory that another value shares",
        conv("c")
        + 'layer { name: "v" type: "Flatten" bottom: "c" top: "v" }\n'
        + conv("d")
        + add("c", "d")
        + relu("v"),
        set(),
    ),
]


@pytest.mark.parametrize(("name", "text", "over"), OVERWRITES, ids=[o[0] for o in OVERWRITES])
def test_what_may_be_overwritten(name, text, over):
    graph = bound(X + text)
    if name == "an output":
        graph = graph.wanted([graph.last("c"), graph.last("e")])
    assert {n.name for n in kernels.overwritable(passes.run(graph))} == over
    close(compiled(graph), netcompiler.CompiledNet(graph))


def test_batches_of_other_sizes():
    graph = bound(X + BLOCK)
    net, plain = compiled(graph), netcompiler.CompiledNet(graph)
    for batch in (2, 5, 1, 2):
        close(net, plain, batch=batch)


def test_bfloat16():
    graph = bound(X + conv("c") + relu("c") + conv("d", "c"))
    close(compiled(graph, dtype=torch.bfloat16), netcompiler.CompiledNet(graph), 2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("more", ["", LEAKY], ids=["relu", "leaky"])
def test_groups_with_a_sum_and_a_relu(dtype, more):
    groups = conv("c").replace("kernel_size", "group: 3 kernel_size")
    text = (
        X
        + groups
        + add("c", "x")
        + relu("e", more=more)
        + groups.replace('"c"', '"d"')
        + add("d", "e", "f")
        + relu("f")
    )
    graph = bound(text)
    net = compiled(graph, dtype=dtype)
    net._programs.on = False
    for seed in range(3):
        close(net, netcompiler.CompiledNet(graph), 3e-2 if dtype == torch.bfloat16 else 1e-5, seed=seed)


def test_which_windows_see_the_image():
    for size, k, s, p, d in itertools.product((1, 2, 5, 9), (1, 2, 3), (1, 2, 3, 4), (0, 1, 2, 3, 5), (1, 2, 3)):
        starts = range(-p, size + p - d * (k - 1), s)
        seen = [any(0 <= start + i * d < size for i in range(k)) for start in starts]
        assert not starts or windows_see(size, k, s, p, d) == all(seen), (size, k, s, p, d)


def test_windows_in_the_padding_alone_are_left_to_the_layer():
    """With the channels last in memory they may end the process."""
    text = X.replace("dim: 2", "dim: 3", 1).replace("dim: 5", "dim: 1")
    text += conv("c").replace("kernel_size: 3 pad: 1", "kernel_size: 1 stride: 3 pad_h: 3 pad_w: 2 dilation: 2") + relu(
        "c"
    )
    net = compiled(bound(text))
    net._programs.on = False
    assert not net.c.fits(torch.ones(3, 3, 7, 1))
    for seed in range(3):
        close(net, netcompiler.CompiledNet(net.source), seed=seed)


def test_a_kernel_larger_than_the_image_is_left_to_the_layer():
    text = X + conv("c").replace("kernel_size: 3 pad: 1", "kernel_size: 8 stride: 4")
    close(compiled(bound(text)), netcompiler.CompiledNet(bound(text)))


@pytest.mark.parametrize(
    "twin",
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), lambda net: net.double().float()],
    ids=["deepcopy", "pickle", "to another type and back"],
)
def test_copies_run(twin):
    graph = bound(X + BLOCK)
    net, plain = compiled(graph), netcompiler.CompiledNet(graph)
    close(net, plain)
    close(twin(net), plain)


def test_changed_weights_count():
    graph = bound(X + conv("c"))
    net, plain = compiled(graph), netcompiler.CompiledNet(graph)
    close(net, plain)
    with torch.no_grad():
        for other in (net, plain):
            other.c.weight.mul_(-3)
    close(net, plain)
    other = compiled(bound(X + conv("c")))
    close(other, netcompiler.CompiledNet(graph))
    other.load_state_dict(net.state_dict())
    close(other, plain)


def test_a_gradient_of_the_input_can_be_asked_for():
    graph = bound(X + BLOCK)
    grads = []
    for net in (compiled(graph), netcompiler.CompiledNet(graph)):
        x = feeds(net)["x"].requires_grad_()
        net(x)["g"].square().sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


def test_it_can_be_exported():
    net = compiled(bound(X + BLOCK))
    x = feeds(net)["x"]
    want = net(x)["g"]
    program = torch.export.export(net, (x,))
    torch.testing.assert_close(program.module()(x)["g"], want, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(["conv", "add", "relu", "pool"]), st.integers(0, 99), st.integers(0, 99)), max_size=12
    )
)
def test_random_nets(steps):
    """Nets of convolutions, sums, ReLUs and poolings, wired at random, give the same optimised and plain."""
    text, blobs = X, ["x"]
    for i, (kind, a, b) in enumerate(steps):
        name, one, two = f"b{i}", blobs[a % len(blobs)], blobs[b % len(blobs)]
        text += {"conv": conv(name, one), "add": add(one, two, name), "pool": pool(one, name)}.get(kind) or relu(
            one, name
        )
        blobs.append(name)
    graph = bound(text + conv("last", blobs[-1]))
    net = compiled(graph)
    for _ in range(2):
        close(net, netcompiler.CompiledNet(graph), 1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda():
    graph = bound(X + BLOCK)
    net = compiled(graph, device=torch.device("cuda"))
    plain = netcompiler.CompiledNet(graph)
    x = feeds(plain)["x"]
    torch.testing.assert_close(net(x)["g"].cpu(), plain(x)["g"], rtol=1e-3, atol=1e-3)


def test_a_forward_takes_no_new_memory_after_the_first():
    """What the first runs took is used again: the system is asked for next to no page."""
    resource = pytest.importorskip("resource")
    graph = netcompiler.build(netcompiler.parse(X + BLOCK), inputs={"x": (8, 3, 300, 300)})
    net, x = compiled(netcompiler.weights.bind(graph, {}, warn=False)), torch.zeros(8, 3, 300, 300)

    def pages(runs):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with torch.inference_mode():
            for _ in range(runs):
                net(x)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    pages(3)
    one_blob = 8 * 3 * 300 * 300 * 4 // 4096  # pages
    assert pages(5) < 5 * one_blob


def full(more, name="y"):
    param = f'inner_product_param {{ num_output: 4 weight_filler {{ type: "xavier" }} {more} }}'
    return f'layer {{ name: "{name}" type: "InnerProduct" bottom: "x" top: "{name}" {param} }}\n'


PRODUCTS = [
    ("images", "", Product),
    ("without bias", "bias_term: false", Product),
    ("axis 2", "axis: 2", Product),
    ("axis 0", "axis: 0", Product),
    ("the last axis", "axis: -1", Product),
    ("transposed", "transpose: true", LayerModule),
    ("scaled weights", "normalize: true", LayerModule),
    ("axes of 1", "min_top_axes: 4", LayerModule),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("more", "kind"), [p[1:] for p in PRODUCTS], ids=[p[0] for p in PRODUCTS])
def test_products(more, kind, dtype):
    net, plain = compiled(bound(X + full(more)), dtype=dtype), netcompiler.CompiledNet(bound(X + full(more)))
    assert type(net.y) is kind
    for batch in (2,) if "axis: 0" in more else (2, 3, 1):
        close(net, plain, 2e-2 if dtype == torch.bfloat16 else 1e-5, batch=batch)
    x = feeds(net)["x"].to(dtype).requires_grad_()
    net(x)["y"].square().sum().backward()
    assert x.grad.abs().max() > 0
    x = feeds(net)["x"].to(dtype)
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x)["y"], net(x)["y"], rtol=1e-2, atol=1e-2)
