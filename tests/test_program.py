"""A whole net as one program: the same numbers as the layers give, whatever changes between calls."""

import copy
import gc
import pickle
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import netcompiler
from netcompiler.kernels import program
from netcompiler.kernels.lrn import FastLRN
from netcompiler.kernels.memory import give_back, resident

from .test_fuse import BLOCK, add, close, compiled, conv, feeds, pool, relu
from .test_passes import X, bound


@pytest.fixture(autouse=True)
def _any_program_will_do(monkeypatch):
    """On a busy machine small nets are now faster in one way, now in the other."""
    monkeypatch.setattr(program, "MARGIN", 1e9)


pytestmark = pytest.mark.skipif(not compiled(bound(X + conv("c")))._programs.able, reason="not Linux on x86")


def lrn(bottom, name, more="local_size: 5 alpha: 2 beta: 0.75 k: 1"):
    return f'layer {{ name: "{name}" type: "LRN" bottom: "{bottom}" top: "{name}" lrn_param {{ {more} }} }}\n'


def simple(kind, bottom, name, more=""):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" {more} }}\n'


def cat(a, b, name):
    text = f'layer {{ name: "{name}_" type: "Concat" bottom: "{a}" bottom: "{b}" top: "{name}_" }}\n'
    return text + conv(name, f"{name}_")


FULL = simple("InnerProduct", "g", "fc", 'inner_product_param { num_output: 4 weight_filler { type: "xavier" } }')
NET = X + BLOCK + lrn("g", "n") + pool("n") + cat("p", "e", "m") + FULL.replace('"g"', '"m"').replace('"fc"', '"y"')


def programs(net):
    """How many programs a net has; refused shapes do not count."""
    return sum(p is not None for p in net._programs.by_shapes.values())


def pair(text=NET, **options):
    graph = bound(text)
    return compiled(graph, **options), netcompiler.CompiledNet(graph)


def test_a_shape_that_comes_again_gets_a_program():
    net, plain = pair()
    close(net, plain)
    assert programs(net) == 0
    close(net, plain)
    close(net, plain, seed=1)
    assert programs(net) == 1
    assert all(getattr(m, "packed", None) is None for m in net.children()), "weights are packed once"


def test_bfloat16():
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("no bfloat16 here")
    net, plain = pair(dtype=torch.bfloat16)
    for seed in range(3):
        close(net, plain, 3e-2, seed=seed)


STEPS = ["conv", "conv", "add", "relu", "pool", "cat", "lrn", "TanH", "Sigmoid", "ELU", "AbsVal", "PROD", "MAX"]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 99), st.integers(0, 99)), max_size=10))
def test_random_nets(steps):
    """Values that several layers read, sums in place, whatever the compiler takes in and leaves out; inputs stay."""
    text, blobs = X, ["x"]
    for i, (kind, a, b) in enumerate(steps):
        name, one, two = f"b{i}", blobs[a % len(blobs)], blobs[b % len(blobs)]
        if kind in ("PROD", "MAX"):
            text += add(one, two, name, f"eltwise_param {{ operation: {kind} }}")
        elif kind in ("add", "cat"):
            text += {"add": add, "cat": cat}[kind](one, two, name)
        else:
            make = {"conv": lambda n, o: conv(n, o), "pool": lambda n, o: pool(o, n), "lrn": lambda n, o: lrn(o, n)}
            text += make.get(kind, lambda n, o, k=kind: relu(o, n) if k == "relu" else simple(k, o, n))(name, one)
        blobs.append(name)
    net, plain = pair(text + conv("last", blobs[-1]))
    for seed in range(3):
        close(net, plain, 1e-4, seed=seed)
    assert programs(net) == 1


def test_outputs_are_the_callers():
    net = pair()[0]
    x = feeds(net)["x"]
    for _ in range(3):
        net(x)
    first = net(x)["y"]
    kept = first.clone()
    second = net(2 * x)["y"]
    assert torch.equal(first, kept) and not torch.equal(second, kept)
    second.zero_()
    first.fill_(7)
    assert torch.equal(net(x)["y"], kept)


def test_shapes_may_change_from_call_to_call():
    net, plain = pair(X + BLOCK + lrn("g", "n"))
    for batch in (2, 5, 1, 2, 5, 1, 4, 3, 6, 7, 2, 4, 3, 6, 7, 1):
        close(net, plain, batch=batch)
    assert programs(net) == program.MOST


def test_ever_new_shapes_are_forgotten(monkeypatch):
    monkeypatch.setattr(program, "FORGETS", 3)
    net, _ = pair(X + conv("c"))
    for size in range(5, 15):
        net(x=torch.zeros(1, 3, size, size))
        assert 0 < len(net._programs.met) <= 3


def test_threads_do_not_disturb_each_other():
    net, plain = pair()
    xs = [torch.randn(1 + i % 2, 3, 7, 5, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    want = [plain(x)["y"] for x in xs]
    wrong, together = [], threading.Barrier(len(xs))

    def run(x, right):
        together.wait()
        for _ in range(60):
            with torch.inference_mode():
                got = net(x)["y"]
            if not torch.allclose(got, right, rtol=1e-4, atol=1e-6):
                wrong.append(got)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(xs, want, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and programs(net) == 2


CHANGES = [
    ("in place", lambda net: net.c.weight.mul_(-3)),
    ("by data", lambda net: setattr(net.c.weight, "data", net.c.weight.data * -3)),
    (
        "a new parameter",
        lambda net: setattr(net.c, "weight", torch.nn.Parameter(net.c.weight * -3, requires_grad=False)),
    ),
    (
        "loaded",
        lambda net: net.load_state_dict({k: v * -3 if k == "c.weight" else v for k, v in net.state_dict().items()}),
    ),
    ("to another type and back", lambda net: net.double().float().c.weight.mul_(-3)),
]


@pytest.mark.parametrize("change", [c[1] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_changed_weights_count(change):
    net, plain = pair()
    for _ in range(3):
        close(net, plain)
    with torch.no_grad():
        for other in (net, plain):
            change(other)
    close(net, plain)
    assert programs(net) == 0, "it is not sure that the weights stay now"
    for _ in range(2):
        close(net, plain)
    assert programs(net) == 1


def test_weights_that_change_on_and_on_get_no_more_programs():
    net, plain = pair()
    for i in range(program.CHANGES + 2):
        with torch.no_grad():
            for other in (net, plain):
                other.c.weight.mul_(-0.9)
        for _ in range(3):
            close(net, plain)
        assert programs(net) == (i < program.CHANGES)


def test_hooks_are_called():
    net = pair()[0]
    x, called = feeds(net)["x"], []
    for _ in range(3):
        net(x)
    hook = net.p.register_forward_hook(lambda *_: called.append(1))
    net(x)
    hook.remove()
    net(x)
    assert called == [1]


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"]
)
def test_copies_build_their_own(twin):
    net, plain = pair()
    for _ in range(2):
        close(net, plain)
    other = twin(net)
    assert programs(other) == 0
    for _ in range(2):
        close(other, plain)
    assert programs(other) == 1


def test_gradients_modes_and_layouts():
    net, plain = pair()
    x = feeds(net)["x"]
    want = plain(x)["y"]
    for grad in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with grad():
            for _ in range(2):
                y = net(x)["y"]
                assert torch.allclose(y, want, rtol=1e-4, atol=1e-6) and not y.requires_grad
    for other in (
        x.contiguous(memory_format=torch.channels_last),
        x.expand(2, 3, 7, 5),
        x.numpy()[:, ::-1].copy()[:, ::-1],
    ):
        assert torch.allclose(net(other)["y"], want, rtol=1e-4, atol=1e-6)
    asked = x.clone().requires_grad_()
    net(asked)["y"].square().sum().backward()
    assert asked.grad is not None and asked.grad.abs().max() > 0
    assert programs(net) == 1
    net.requires_grad_(True)
    for _ in range(3):
        assert net(x)["y"].requires_grad
    with torch.no_grad():
        assert not net(x)["y"].requires_grad
    assert programs(net) == 1


LABEL = 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }\n'
FC = FULL.replace('"g"', '"c"')
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'
RIGHT = 'layer { name: "right" type: "Accuracy" bottom: "fc" bottom: "label" top: "right" }\n'
MASK = pool("c").replace('top: "p"', 'top: "p" top: "q"')

RANDOM = """layer { name: "r" type: "DummyData" top: "r"
         dummy_data_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } data_filler { type: "constant" value: 3 } } }
"""
OWN = simple("BatchNorm", "c", "y", "batch_norm_param { use_global_stats: false }")
LSTM = """layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "l" type: "LSTM" bottom: "c" bottom: "cont" top: "l"
        recurrent_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "y" type: "TanH" bottom: "l" top: "y" }
"""

SUM = 'layer { name: "y" type: "Axpy" bottom: "p" bottom: "c" bottom: "x" top: "y" }\n'
PRIORS = 'layer { name: "y" type: "PriorBox" bottom: "c" bottom: "x" top: "y" prior_box_param { min_size: 2 } }\n'
# name, net, how many layers run behind the program
PARTS = [
    ("losses", X + LABEL + conv("c") + relu("c") + FC + LOSS + RIGHT, 2),
    ("labels before pictures", LABEL + X + conv("c") + FC + LOSS, 1),
    ("indices", X + conv("c") + FC + simple("ArgMax", "fc", "y"), 1),
    ("a mask, and layers behind it", X + conv("c") + MASK + conv("d", "p") + relu("d") + add("d", "p"), 3),
    ("an output inside", X + conv("c") + simple("Softmax", "c", "y") + simple("ArgMax", "c", "z"), 1),
    ("an output that is an input", X + LABEL + conv("c"), 0),
    (
        "a second input behind",
        X + X.replace('"x"', '"z"') + MASK.replace('"c"', '"z"') + conv("c") + conv("d", "c") + add("d", "p"),
        2,
    ),
    ("statistics of the batch", X + conv("c") + OWN.replace("false", "false moving_average_fraction: 0.5"), 1),
    (
        "values of its own behind",
        X + conv("c") + RANDOM + 'layer { name: "y" type: "Concat" bottom: "c" bottom: "r" top: "y" }',
        1,
    ),
    ("a state that is kept", X + conv("c") + LSTM, 2),
    ("a sum over what the program gave", X + conv("c") + MASK + conv("d", "p") + add("c", "d"), 2),
    *(
        (
            kind,
            X + conv("c").replace("num_output: 3", "num_output: 4") + simple(kind, "c", "y", more) + conv("d", "y"),
            0,
        )
        for kind, more in [
            ("BN", "bn_param { bn_mode: INFERENCE }"),
            ("BN", "bn_param { slope_filler { value: 2 } }"),
            ("CuDNNBatchNorm", ""),
            ("DepthwiseConvolution", "convolution_param { num_output: 4 group: 4 kernel_size: 3 pad: 1 }"),
            ("ConvolutionDepthwise", "convolution_param { kernel_size: 3 pad: 1 }"),
            ("Interp", "interp_param { height: 9 width: 8 }"),
            ("Mish", ""),
            ("Normalize", "norm_param { across_spatial: false scale_filler { value: 20 } channel_shared: false }"),
            ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
            ("ReLU6", ""),
            ("SeLu", ""),
            ("ShuffleChannel", "shuffle_channel_param { group: 2 }"),
            ("Upsample", "upsample_param { scale: 2 }"),
        ]
    ),
    ("Axpy", X + conv("c") + pool("c").replace("kernel_size: 3 stride: 1 pad: 1", "global_pooling: true") + SUM, 0),
    ("statistics of the batch, from forks", X + conv("c") + simple("BN", "c", "y", "bn_param { bn_mode: LEARN }"), 1),
    ("priors", X + conv("c") + PRIORS + conv("d", "c"), 1),
]


@pytest.mark.parametrize(("text", "behind"), [p[1:] for p in PARTS], ids=[p[0] for p in PARTS])
def test_layers_behind_a_program(text, behind):
    net, plain = pair(text)
    for seed in range(4):
        fed = feeds(plain, seed=seed)
        fed |= {"label": torch.tensor([seed % 4, 1.0])} if "label" in fed else {}
        kept = {k: x.clone() for k, x in fed.items()}
        with torch.inference_mode():
            got, want = net(**fed), plain(**fed)
        assert list(got) == list(want) and all(torch.equal(fed[k], kept[k]) for k in fed)
        for name in want:
            torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-4)
    assert programs(net) == 1
    part = net._programs.part
    assert len(net.graph.nodes) - len(part.nodes) - sum(n.layer.is_input for n in net.graph.nodes) == behind


NONE = [
    ("values of its own", RANDOM + conv("c", "r")),
    ("statistics of the batch first", X + OWN.replace('"c"', '"x"') + conv("c", "y")),
    ("nothing to multiply", X + pool("x")),
    (
        "versions of one blob",
        X + conv("c") + simple("ArgMax", "c", "y") + simple("TanH", "c", "c") + simple("ArgMax", "c", "z"),
    ),
]


@pytest.mark.parametrize("text", [n[1] for n in NONE], ids=[n[0] for n in NONE])
def test_what_has_no_program(text):
    net = compiled(bound(text))
    for _ in range(3):
        net(**(feeds(net) if "Dummy" not in text else {}))
    assert not net._programs.able and not net._programs.by_shapes


def test_windows_in_the_padding_alone_are_left_to_the_layers():
    """oneDNN may look for such pixels outside of all memory."""
    net, plain = pair(X + conv("c").replace("pad: 1", "pad: 4 stride: 2") + conv("d", "c"))
    for seed in range(3):
        close(net, plain, seed=seed)
    assert programs(net) == 0 and net._programs.by_shapes


def test_layers_of_the_users_run_as_often_as_called():
    calls = []

    class Counted(netcompiler.layers.tan_h.TanH):
        def forward(self, m, *bottoms):
            calls.append(1)
            return super().forward(m, *bottoms)

    graph = bound(X + conv("c") + simple("TanH", "c", "y"))
    nodes = [replace(n, layer=Counted()) if n.layer.kind == "TanH" else n for n in graph.nodes]
    net = compiled(graph.with_nodes(nodes))
    for _ in range(4):
        net(feeds(net)["x"])
    assert len(calls) == 4


def test_a_program_that_fails_or_differs_is_not_used(monkeypatch):
    net, plain = pair()
    monkeypatch.setattr(program, "_agree", lambda *_: False)
    for _ in range(3):
        close(net, plain)
    assert programs(net) == 0 and net._programs.by_shapes
    monkeypatch.undo()
    net = pair()[0]

    def fails(*_):
        raise RuntimeError("bad optional access")

    monkeypatch.setattr(program, "_compiled", fails)
    for _ in range(3):
        close(net, plain)
    assert programs(net) == 0


def test_a_program_that_is_slower_is_not_used(monkeypatch):
    monkeypatch.setattr(program, "MARGIN", 0)
    net, plain = pair()
    for _ in range(3):
        close(net, plain)
    assert programs(net) == 0 and net._programs.by_shapes
    assert any(getattr(m, "packed", None) is not None for m in net.children())


def test_what_is_worth_it(monkeypatch):
    monkeypatch.setattr(program, "MARGIN", 1.05)

    def slow(x):
        time.sleep(0.02)

    x = torch.ones(1)
    assert program._worth_it(torch.abs, slow, [x], [x]) and not program._worth_it(slow, torch.abs, [x], [x])


def test_agreement():
    one = torch.tensor([1.0, float("nan"), 3.0])
    assert program._agree(one, one.clone(), 1e-5) and not program._agree(one, one + 1e-3, 1e-5)
    assert not program._agree(one, one[:2], 1e-5) and not program._agree(one, torch.ones(3), 1e-5)


def test_other_users_of_torchscript_are_left_alone():
    was = torch._C._jit_llga_enabled()
    net, plain = pair()
    for _ in range(2):
        close(net, plain)
    assert torch._C._jit_llga_enabled() == was and programs(net) == 1


@pytest.mark.parametrize("size", range(1, 12, 2))
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_lrn(size, beta):
    text = X + conv("c").replace("num_output: 3", "num_output: 9")
    net, plain = pair(text + lrn("c", "y", f"local_size: {size} alpha: 3 beta: {beta} k: 0.7"))
    assert isinstance(net.y, FastLRN)
    for _ in range(3):
        close(net, plain)


def test_ten_thousand_forwards_take_no_more_memory():
    net, plain = pair()
    x = feeds(net)["x"]
    with torch.inference_mode():
        want = plain(x)["y"]
        for _ in range(500):
            net(x)
        before = resident()
        for i in range(10_000):
            y = net(x)["y"]
            if i % 1000 == 0:
                assert torch.allclose(y, want, rtol=1e-4, atol=1e-6)
    assert programs(net) == 1
    assert resident() - before < 4 << 20, "10,000 blobs of this net would be more"


def test_nets_that_are_gone_leave_no_weights():
    """Only the bare text of programs stays with TorchScript."""
    big = (
        X
        + conv("c").replace("num_output: 3", "num_output: 256")
        + conv("d", "c").replace("num_output: 3", "num_output: 512")
    )
    one = 4 * 512 * 256 * 9

    def build():
        net = compiled(bound(big))
        x = feeds(net)["x"]
        for _ in range(3):
            net(x)
        assert programs(net) == 1
        del net
        gc.collect()
        give_back()

    for _ in range(3):
        build()
    before = resident()
    for _ in range(8):
        build()
    assert resident() - before < 4 * one, "8 nets, of which each holds this twice"


def test_weights_are_not_mixed_up_between_layers_of_one_name():
    text = X + conv("c") + conv("c", "c").replace('top: "c"', 'top: "d"')
    net, plain = pair(text)
    for _ in range(3):
        close(net, plain)
    assert programs(net) == 1


def test_shared_weights():
    text = X + conv("c", more='param { name: "w" }') + conv("d", "c", more='param { name: "w" }') + relu("d")
    graph = netcompiler.weights.bind(netcompiler.build(netcompiler.parse(text)), {}, warn=False)
    net, plain = compiled(graph), netcompiler.CompiledNet(graph)
    for _ in range(3):
        close(net, plain)
    assert programs(net) == 1


def test_tracing_and_fakes_see_the_layers():
    net, plain = pair()
    for _ in range(3):
        close(net, plain)
    x = feeds(net)["x"]
    traced = torch.jit.trace(lambda x: net(x)["y"], (x,), check_trace=False)
    torch.testing.assert_close(traced(2 * x), plain(2 * x)["y"], rtol=1e-4, atol=1e-4)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert net(mode.from_tensor(x))["y"].shape == (2, 4)


def test_a_bad_feed_is_refused_as_ever():
    net = pair()[0]
    x = feeds(net)["x"]
    for _ in range(3):
        net(x)
    with pytest.raises(netcompiler.NetError):
        net(np.zeros((2, 4, 7, 5), np.float32))


def test_a_module_put_in_place_of_another_runs():
    net = pair()[0]
    x = feeds(net)["x"]
    for _ in range(3):
        net(x)
    net.p = torch.nn.Identity()
    assert not torch.equal(net(x)["y"], pair()[0](x)["y"])
