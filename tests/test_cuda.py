"""What optimised nets run on CUDA: the numbers of the plain net on the CPU; and, of that, what needs no CUDA to be seen."""

import contextlib
import threading
from types import SimpleNamespace

import pytest
import torch

import netcompiler
from netcompiler.kernels import cuda, program

from .test_fuse import BLOCK, LEAKY, add, close, compiled, conv, feeds, relu
from .test_passes import X, bound
from .test_program import NET, pair, programs


@pytest.fixture
def device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


GROUPED = conv("c").replace("num_output: 3", "num_output: 6 group: 3")
NETS = [
    ("a block", BLOCK),
    ("a ReLU", conv("c") + relu("c")),
    ("a leaky one", conv("c") + relu("c", more=LEAKY)),
    ("a sum", conv("c") + add("c", "x")),
    ("a sum and a ReLU", conv("c") + add("c", "x") + relu("e")),
    ("a sum and a leaky ReLU", conv("c") + add("c", "x") + relu("e", more=LEAKY)),
    ("groups", GROUPED + relu("c")),
    ("dilation", conv("c").replace("pad: 1", "pad: 2 dilation: 2") + relu("c")),
    ("no bias", conv("c").replace("kernel_size", "bias_term: false kernel_size") + relu("c")),
    ("a whole net", NET[len(X) :]),
]
WITHIN = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 3e-3}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("text", [n[1] for n in NETS], ids=[n[0] for n in NETS])
def test_numbers(device, text, dtype):
    net, plain = compiled(bound(X + text), device=device, dtype=dtype), netcompiler.CompiledNet(bound(X + text))
    for seed in range(4):  # by layer, recorded, replayed
        x = feeds(plain, seed=seed)
        want, got = plain(**x), net(**x)
        for name, y in want.items():
            scale = float(y.abs().max())
            torch.testing.assert_close(got[name].float().cpu(), y, rtol=0, atol=WITHIN[dtype] * scale)


@pytest.mark.gpu
def test_a_graph_is_recorded_and_outputs_are_the_callers(device, monkeypatch):
    monkeypatch.setattr(program, "MARGIN", 1e9)
    graph = bound(NET)
    net, plain = compiled(graph, device=device), netcompiler.CompiledNet(graph)
    kept = []
    for seed in range(5):
        kept.append((net(**feeds(plain, seed=seed))["y"], plain(**feeds(plain, seed=seed))["y"]))
    assert programs(net) == 1 and isinstance(next(iter(net._programs.by_shapes.values())).run, cuda.Recorded)
    for got, want in kept:
        torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for other in (net, plain):
            next(other.parameters()).mul_(2)
    for seed in range(3):
        torch.testing.assert_close(net(**feeds(plain, seed=seed))["y"].cpu(), plain(**feeds(plain, seed=seed))["y"])


@pytest.mark.gpu
def test_threads_and_streams(device, monkeypatch):
    monkeypatch.setattr(program, "MARGIN", 1e9)
    graph = bound(NET)
    net, plain = compiled(graph, device=device), netcompiler.CompiledNet(graph)
    wants = [plain(**feeds(plain, seed=seed))["y"] for seed in range(4)]
    wrong = []

    def work(seed):
        with torch.cuda.stream(torch.cuda.Stream()), torch.inference_mode():
            for _ in range(50):
                y = net(**feeds(plain, seed=seed))["y"].cpu()
                if not torch.allclose(y, wants[seed], rtol=1e-4, atol=1e-5):
                    wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.gpu
def test_forwards_take_no_more_memory(device):
    net, plain = compiled(bound(NET), device=device), netcompiler.CompiledNet(bound(NET))
    x = feeds(plain)
    held = []
    for _ in range(3):
        for _ in range(300):
            net(**x)
        held.append(torch.cuda.memory_allocated(device))
    assert held[1] == held[2]


@pytest.mark.gpu
def test_tf32_is_asked_for(device):
    """Unless it is, a product of float32 on CUDA keeps its digits."""
    text = 'input: "x" input_dim: 1 input_dim: 512 input_dim: 8 input_dim: 8 ' + conv("c").replace(": 3 k", ": 64 k")
    graph = bound(text)
    want = netcompiler.CompiledNet(graph)(**feeds(netcompiler.CompiledNet(graph)))["c"]
    off = {}
    for dtype in ("float32", "tf32"):
        net = netcompiler.compile(graph, device=device, dtype=dtype)
        off[dtype] = float((net(**feeds(net))["c"].cpu() - want).abs().max() / want.abs().max())
    assert off["float32"] < 1e-6 < 1e-5 < off["tf32"] < 1e-2


def test_the_setting_is_put_back():
    """In a block float32 is exact, or TensorFloat-32; behind it PyTorch is set as before, also after an error."""
    legacy = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for tf32 in (False, True):
        with contextlib.suppress(ZeroDivisionError), cuda.precision(tf32):
            if hasattr(torch.backends.cudnn, "conv"):
                found = {b.fp32_precision for b in (torch.backends.cudnn.conv, torch.backends.cuda.matmul)}
                assert found == {"tf32" if tf32 else "ieee"}
            _ = 1 / 0
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == legacy


def test_tf32_is_refused_on_the_cpu():
    with pytest.raises(netcompiler.NetError, match="tf32 is for CUDA devices"):
        netcompiler.compile(netcompiler.parse(X + conv("c")), device="cpu", dtype="tf32")


@pytest.mark.parametrize("fused", [True, False], ids=["as one", "where cuDNN has no such kernel"])
@pytest.mark.parametrize("text", [n[1] for n in NETS], ids=[n[0] for n in NETS])
def test_what_cudnn_is_asked_for(monkeypatch, text, fused):
    """The convolutions as they go to cuDNN, with PyTorch's own in its place."""
    calls = []

    def answer(x, weight, bias, *sides):
        calls.append("relu")
        if not fused:
            raise RuntimeError("no kernel")
        return torch.conv2d(x, weight, bias, *sides).relu()

    def with_sum(x, weight, z, alpha, bias, *sides):
        calls.append("add")
        return (torch.conv2d(x, weight, bias, *sides) + alpha * z).relu()

    monkeypatch.setattr(torch, "cudnn_convolution_relu", answer)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", with_sum)
    monkeypatch.setattr(cuda, "takes", lambda module, x: True)
    net, plain = compiled(bound(X + text)), netcompiler.CompiledNet(bound(X + text))
    net._programs.on = False
    for seed in range(2):
        close(net, plain, seed=seed)
    cuts = [n.layer for n in net.graph.nodes if getattr(n.layer, "relu", False) and not n.layer.negative_slope]
    assert len(calls) == sum(2 if fused or layer.summed else 1 for layer in cuts)


def test_recording(monkeypatch):
    """A graph reads its own inputs, and gives tensors that later replays leave alone. CUDA is stood in for."""
    events = []

    class Graph:
        def replay(self):
            events.append("replay")
            for top, new in zip(recorded.tops, program_(*recorded.inputs), strict=True):
                top.copy_(new)

    stream = SimpleNamespace(wait_stream=lambda other: None, wait_event=lambda event: events.append("wait"))
    stands_in = SimpleNamespace(
        current_stream=lambda device: stream,
        Stream=lambda device: stream,
        stream=lambda s: contextlib.nullcontext(),
        CUDAGraph=Graph,
        graph=lambda g: contextlib.nullcontext(),
        Event=lambda: SimpleNamespace(record=lambda s: events.append("record")),
    )
    monkeypatch.setattr(cuda.torch, "cuda", stands_in)

    def program_(a, b):
        return a + b, a * b

    x, y = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
    recorded = cuda.Recorded(program_, [x, y])
    first, second = recorded(x, y), recorded(y, y)
    assert [t.tolist() for t in (*first, *second)] == [[4, 7], [3, 10], [6, 10], [9, 25]]
    assert x.tolist() == [1, 2] and events == ["record", *["wait", "replay", "record"] * 2]


def test_a_net_of_many_activations_is_not_recorded(monkeypatch):
    net, _ = pair()
    fed = net._feeds((), feeds(net))
    monkeypatch.setattr(cuda, "GRAPH_BYTES", 10)
    monkeypatch.setattr(cuda, "Recorded", None)
    assert net._programs.recorded(net.graph, None, [torch.zeros(1)], fed) is None
