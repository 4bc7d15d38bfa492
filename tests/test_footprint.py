"""What a net is said to take for its activations, and what it takes."""

import pytest
import torch

import netcompiler
from netcompiler import passes, stats, zoo
from netcompiler.kernels import footprint, program

from .test_fuse import BLOCK, add, compiled, conv, feeds, pool, relu
from .test_passes import X, bound
from .test_program import FULL, NET, lrn


@pytest.fixture(autouse=True)
def _any_program_will_do(monkeypatch):
    monkeypatch.setattr(program, "MARGIN", 1e9)


SCRATCH = 32 << 10  # what a convolution of oneDNN may take for itself; one blob of these nets is 280 kB


def measured(net):
    """The most bytes that torch held at once in a forward, beside what it held before; what it held at the end; and calls."""
    x = {name: torch.as_tensor(x) for name, x in feeds(net).items()}
    with torch.inference_mode():
        for _ in range(3):
            net(**x)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
            outputs = net(**x)
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    assert alive == sum(y.numel() * y.element_size() for y in outputs.values()), "what nobody reads any more is let go"
    return peak


def big(text, channels=16):
    """The same net over larger images, so that what is not an activation does not count."""
    return text.replace("num_output: 3", f"num_output: {channels}").replace("dim: 7 dim: 5", "dim: 56 dim: 40")


EXACT = [
    ("a convolution", conv("c")),
    ("a chain", conv("c") + conv("d", "c") + conv("e", "d")),
    ("two readers", conv("c") + conv("d", "c") + pool("c") + conv("f", "p")),
    ("a sum that is written over", conv("c") + conv("d", "c") + conv("e", "d") + add("e", "c", "s") + relu("s")),
    ("an output in the middle", conv("c") + pool("c") + conv("d", "p")),
]


def test_in_a_type_that_onednn_has_not_nothing_is_written_over():
    net = compiled(bound(big(X + EXACT[3][1])), dtype=torch.float64)
    assert measured(net) <= net.planned_bytes() + SCRATCH


@pytest.mark.parametrize("text", [e[1] for e in EXACT], ids=[e[0] for e in EXACT])
def test_the_plan_is_what_a_forward_takes(text):
    net = compiled(bound(big(X + text)))
    net._programs.on = False
    assert net.planned_bytes() <= measured(net) <= net.planned_bytes() + SCRATCH


@pytest.mark.parametrize("one_program", [False, True], ids=["by layer", "one program"])
@pytest.mark.parametrize(
    "text",
    [NET, X + BLOCK, X + conv("c") + lrn("c", "n") + FULL.replace('"g"', '"n"'), X + relu("x", "y") + conv("c", "y")],
    ids=["all kinds", "sums", "lrn and inner product", "relu first"],
)
def test_a_forward_takes_no_more_than_planned(text, one_program):
    net = compiled(bound(big(X.join(text.split(X)))))
    net._programs.on = one_program
    assert 0 < measured(net) <= net.planned_bytes() + SCRATCH


def test_by_hand():
    text = "\n".join(
        [X.replace("dim: 2 ", "dim: 1 ", 1), conv("c"), conv("d", "c"), conv("e", "d"), add("e", "c", "s")]
    )
    graph = passes.run(bound(text))
    net = compiled(bound(text))
    one = 16 * 7 * 5  # 3 channels, in a full block
    modules = [net.get_submodule(a) for a in net.attributes]
    assert footprint.planned(net.graph, modules, 1) == 2 * one  # the sum is written over what it adds
    assert footprint.planned(net.graph, modules, 1, whole=True) == net.planned_bytes() // 4 == 4 * one
    assert [n.layer.kind for n in graph.nodes][1:] == ["Convolution"] * 3


def test_resnet_takes_less_than_its_layers_one_by_one():
    net = netcompiler.compile(zoo.resnet.deploy(50), device="cpu")
    plain = stats.peak_activation_bytes(net.source)
    assert measured(net) <= net.planned_bytes() < 0.8 * plain
