"""The search among kernels: what it finds, keeps, reads again, and how it is broken off."""

import json
import threading
import warnings

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import passes
from netcompiler.cli import main
from netcompiler.errors import NetWarning
from netcompiler.kernels import onednn, tuning
from netcompiler.kernels.tuning import Choices, Findings

from .test_fuse import close, compiled, conv, feeds, relu
from .test_passes import X, bound, same, types

ONE = conv("a").replace("kernel_size: 3 pad: 1", "kernel_size: 1") + relu("a")
TWO = conv("b").replace("3 kernel_size: 3 pad: 1", "5 kernel_size: 1") + relu("b")
JOIN = 'layer { name: "y" type: "Concat" bottom: "a" bottom: "b" top: "y" }\n'
FAMILY = X + ONE + TWO + JOIN


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NETCOMPILER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "ROUNDS", (1, 2))
    return tmp_path / "cache" / "tuning.json"


@pytest.fixture
def measured(monkeypatch):
    """What was measured, and times that a test can choose: a function from candidates to seconds."""
    calls = []

    def choose(seconds):
        def compare(candidates, warm=0):
            for run in candidates.values():
                run()
            calls.append(list(candidates))
            return {name: seconds(name, i) for i, name in enumerate(candidates)}

        monkeypatch.setattr(tuning, "compare", compare)
        return calls

    return choose


def tune(text=FAMILY, **options):
    graph = bound(text)
    return netcompiler.compile(graph, device="cpu", tune=True, **options), netcompiler.CompiledNet(graph)


MERGES = [
    ("two", ONE + TWO + JOIN, "Convolution Slice Concat"),
    ("without ReLU", ONE.replace(relu("a"), "") + TWO.replace(relu("b"), "") + JOIN, "Convolution Slice Concat"),
    ("one without bias", ONE + TWO.replace("5 kernel", "5 bias_term: false kernel") + JOIN, "Convolution Slice Concat"),
    ("strides", (ONE + TWO + JOIN).replace("size: 1", "size: 1 stride: 2"), "Convolution Slice Concat"),
    ("others between", ONE + conv("d", "a") + TWO, "Convolution Slice Convolution"),
]


@pytest.mark.parametrize(("text", "kinds"), [m[1:] for m in MERGES], ids=[m[0] for m in MERGES])
def test_siblings_merge(text, kinds):
    before = bound(X + text)
    after = passes.run(before, passes.WITH_SIBLINGS)
    assert types(after) == kinds.split()
    same(before, after)
    assert passes.merge_siblings(after) is after
    net = compiled(before, choices=Choices(siblings=True))
    for seed in range(3):
        close(net, netcompiler.CompiledNet(before), seed=seed)


STAY = [
    ("another bottom", ONE + TWO.replace('bottom: "x"', 'bottom: "a"')),
    ("another stride", ONE + TWO.replace("size: 1", "size: 1 stride: 2")),
    ("one with a ReLU", ONE + TWO.replace(relu("b"), "")),
    ("another slope", ONE + TWO.replace(relu("b"), relu("b", more="relu_param { negative_slope: 0.1 }"))),
    ("larger kernels", ONE + conv("b")),
    ("padding", (ONE + TWO).replace("size: 1", "size: 1 pad: 1")),
    (
        "groups",
        ONE.replace("size: 1", "size: 1 group: 3") + TWO.replace("5 kernel_size: 1", "6 kernel_size: 1 group: 3"),
    ),
    ("shared weights", ONE.replace('top: "a" ', 'top: "a" param { name: "w" }', 1) + TWO),
    (
        "a loss",
        ONE.replace('top: "a" ', 'top: "a" loss_weight: 1', 1).replace(relu("a"), "") + TWO.replace(relu("b"), ""),
    ),
    ("stopped gradient", ONE.replace('bottom: "x"', 'bottom: "x" propagate_down: false') + TWO),
    (
        "a sum",
        ONE.replace(relu("a"), "")
        + TWO.replace("5 kernel", "3 kernel")
        + 'layer { type: "Eltwise" bottom: "a" bottom: "x" top: "s" }',
    ),
]


@pytest.mark.parametrize("text", [s[1] for s in STAY], ids=[s[0] for s in STAY])
def test_who_is_no_sibling_stays(text):
    graph = passes.run(bound(X + text))
    assert passes.merge_siblings(graph) is graph


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kernel", ["convolution", "product"])
def test_every_kernel_gives_the_same_numbers(kernel, dtype):
    graph = bound(X + ONE + conv("c", "a") + conv("d", "c").replace("kernel_size: 3 pad: 1", "kernel_size: 1"))
    net = compiled(graph, dtype=getattr(torch, dtype), choices=Choices(program=False))
    tried = [m for m in net.children() if getattr(m, "kernel", "") == "convolution"]
    for module in tried:
        module.kernel = (
            kernel if len(onednn.kernels(net.graph.nodes[list(net.children()).index(module)])) > 1 else "convolution"
        )
    assert sum(m.kernel == kernel for m in tried) >= 2
    for batch in (2, 5, 2):
        close(net, netcompiler.CompiledNet(graph), 1e-5 if dtype == "float32" else 3e-2, batch=batch)
    assert net._programs is None


def test_the_fastest_is_taken_and_kept(measured, cache):
    calls = measured(lambda name, i: 1.0 if name in ("[false, true]", "product") else 2.0)
    net, plain = tune()
    assert net.choices == Choices(program=False, siblings=True) and net.a_b.kernel == "product"
    assert [len(c) for c in calls] == [4, 2]
    for seed in range(3):
        close(net, plain, seed=seed)
    assert set(json.loads(cache.read_text())) == {tuning.machine(torch.float32)}
    again, _ = tune()
    assert again.choices == net.choices and again.a_b.kernel == "product" and len(calls) == 2, (
        "nothing is measured twice"
    )


def test_another_shape_or_type_is_measured_again(measured):
    calls = measured(lambda name, i: 1.0)
    tune()
    before = len(calls)
    tune(FAMILY.replace("dim: 7", "dim: 9"))
    assert len(calls) > before
    before = len(calls)
    tune(dtype="bfloat16")
    assert len(calls) > before


def test_the_usual_stays_unless_another_is_clearly_faster():
    assert tuning.fastest({"a": 1.0, "b": 0.99}) == "a" and tuning.fastest({"a": 1.0, "b": 0.9, "c": 0.8}) == "c"


def test_it_measures():
    net, plain = tune()
    close(net, plain)
    seconds = tuning.compare({"a": lambda: None, "b": lambda: sum(range(20000))})
    assert 0 < seconds["a"] < seconds["b"]


def test_a_net_without_siblings_is_built_no_more_than_needed(measured):
    calls = measured(lambda name, i: 1.0)
    net, _ = tune(X + conv("c"))
    assert calls == [["[true, false]", "[false, false]"]] and net.choices == tuning.USUAL


BROKEN = [
    "",
    "{",
    "[]",
    '{"MACHINE": 3}',
    '{"MACHINE": {"WHAT": {"choice": "none", "seconds": {"a": 1}}}}',
    "\x00\xff",
    "[" * 100_000,
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_left_out_and_written_anew(cache, text):
    cache.parent.mkdir()
    cache.write_text(text.replace("MACHINE", tuning.machine(torch.float32)).replace("WHAT", "what"))
    if text.startswith('{"'):
        findings = Findings(torch.float32)
    else:
        with pytest.warns(NetWarning, match="findings of earlier searches are left out"):
            findings = Findings(torch.float32)
    assert findings.get("what", ["a", "b"]) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one warning is enough
        findings.add("what", "b", {"a": 2.0, "b": 1.0})
    assert Findings(torch.float32).get("what", ["a", "b"]) == "b"
    assert Findings(torch.float32).get("what", ["a", "c"]) is None, "other candidates are measured anew"


def test_findings_of_another_version_do_not_count(monkeypatch):
    Findings(torch.float32).add("what", "b", {"a": 2.0, "b": 1.0})
    monkeypatch.setattr(tuning, "__version__", "0.0")
    assert Findings(torch.float32).get("what", ["a", "b"]) is None


def test_many_writers_leave_a_whole_file(cache):
    def write(i):
        for k in range(20):
            Findings(torch.float32).add(f"{i} {k}", "x", {"x": 1.0})

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = json.loads(cache.read_text())[tuning.machine(torch.float32)]
    assert 20 <= len(kept) <= 80 and not list(cache.parent.glob("*.part"))


def test_two_searches_at_once_keep_both_findings():
    one, two = Findings(torch.float32), Findings(torch.float32)
    one.add("a", "x", {"x": 1.0})
    two.add("b", "y", {"y": 1.0})
    assert [Findings(torch.float32).get(k, [c]) for k, c in (("a", "x"), ("b", "y"))] == ["x", "y"]


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NETCOMPILER_CACHE", str(tmp_path / "file"))
    with pytest.warns(NetWarning, match="is not kept") as told:
        net, plain = tune()
    assert len(told) == 2, "once that it cannot be read, and once that it cannot be written"
    close(net, plain)


def test_ctrl_c_leaves_a_net_that_runs(measured, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "_best_kernels", stopped)
    measured(lambda name, i: 1.0 if name == "[false, false]" else 2.0)
    with pytest.warns(NetWarning, match="broken off"):
        net, plain = tune()
    assert not net.choices.program
    close(net, plain)
    monkeypatch.setattr(tuning, "compare", stopped)
    monkeypatch.undo()


def test_where_findings_are_kept(monkeypatch, tmp_path):
    assert tuning.folder() == tmp_path / "cache"
    monkeypatch.delenv("NETCOMPILER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert tuning.folder() == tmp_path / "x" / "netcompiler"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert tuning.folder().parts[-2:] == (".cache", "netcompiler")


def test_plain_nets_are_left_alone(measured):
    calls = measured(lambda name, i: 1.0)
    assert not tune(optimize=False)[0].optimized and not calls


def test_new_weights_keep_the_choices(measured):
    measured(lambda name, i: 1.0 if name == "[true, true]" else 2.0)
    net, plain = tune()
    params = {k: [np.asarray(-2 * a) for a in v] for k, v in net.caffe_params().items()}
    for other in (net, plain):
        other.load_caffe_params(params)
    assert net.choices.siblings
    for seed in range(3):
        close(net, plain, seed=seed)


@pytest.mark.parametrize("command", [[], ["time"]])
def test_command_line(capsys, tmp_path, cache, command):
    (tmp_path / "net.prototxt").write_text(FAMILY)
    options = ["--iters", "1"] if command else ["--check"]
    assert main([*command, str(tmp_path / "net.prototxt"), "--tune", "--device", "cpu", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out)["name"] is not None and cache.exists()
    assert feeds
