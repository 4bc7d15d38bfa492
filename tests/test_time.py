"""`netcompile time`: what it tells, of which layers, and how it refuses."""

import json

import pytest

from netcompiler import build, parse, passes
from netcompiler.cli import main
from netcompiler.passes.groups import groups

from .test_engines import NET
from .test_passes import bound


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    return str(tmp_path / "net.prototxt")


def report(capsys, *arguments):
    assert main(["time", *arguments, "--device", "cpu", "--iters", "2", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json(capsys, net):
    told = report(capsys, net)
    rows = told["layers"]
    assert [row["layers"] for row in rows][:2] == [["conv", "bn", "relu"], ["pool"]]
    assert rows[0]["operations"] == 2 * 2 * 4 * 10 * 10 * 27
    assert rows[0]["bytes"] == 4 * (2 * 3 * 144 + 2 * 4 * 100 + 4 * 27 + 4)
    assert all(row["seconds"] > 0 for row in rows) and told["sum_of_layers"] == pytest.approx(
        sum(r["seconds"] for r in rows)
    )
    assert told["whole"]["low"] <= told["whole"]["median"] <= told["whole"]["high"]
    assert told["ceilings"]["operations"] > 1e8 and told["ceilings"]["bytes"] > 1e8
    assert told["optimized"] and told["images"] == 2 and told["memory"] > 1e7
    assert 4 * 2 * 4 * 10 * 10 < told["planned_activation_bytes"] < 1e6 and told["one_program"] in (True, False)


def test_one_module_per_layer(capsys, net):
    told = report(capsys, net, "--no-optimize", "--batch", "3")
    assert [row["layers"] for row in told["layers"]] == [
        [n] for n in ("conv", "bn", "relu", "pool", "lrn", "fc", "prob")
    ]
    assert told["images"] == 3 and not told["optimized"]


def test_backward(capsys, net):
    told = report(capsys, net, "--backward")
    assert not told["optimized"] and told["roof"] is None, "the roof is that of a forward"


def test_what_only_looks_at_memory_anew_has_no_roof(capsys, tmp_path):
    text = NET.replace('"lrn" type: "LRN"', '"lrn" type: "Flatten"')
    (tmp_path / "net.prototxt").write_text(text)
    roofs = {row["layers"][-1]: row["roof"] for row in report(capsys, str(tmp_path / "net.prototxt"))["layers"]}
    assert roofs["lrn"] is None and roofs["fc"] > 0


def test_peers(capsys, net, monkeypatch):
    monkeypatch.setattr("netcompiler.engines.available", lambda name: name == "eager")
    told = report(capsys, net, "--peers")["peers"]
    assert set(told) == {"netcompiler", "eager", "inductor", "openvino", "onnxruntime", "tensorrt"}
    assert told["eager"]["median"] > 0 and told["openvino"] == "not installed"


def test_text_and_page(capsys, net, tmp_path):
    assert main(["time", net, "--device", "cpu", "--iters", "1", "-o", str(tmp_path / "time.html")]) == 0
    out = capsys.readouterr().out
    assert "conv + bn + relu" in out and "GFLOP/s" in out and "images/s" in out
    assert '"time":' in (tmp_path / "time.html").read_text()


WRONG = [
    (["--iters", "0"], "too few runs"),
    (["--batch", "0"], "no batch"),
    (["-o", "time.svg"], "expected: .html"),
    (["--tune", "--no-optimize"], "--no-optimize does not go with --tune"),
    (["--tune", "--backward"], "--backward does not go with --tune"),
    (["--tune", "--phase", "train"], "--phase TRAIN does not go with --tune"),
    (["--peers", "--backward"], "--backward does not go with --peers"),
    (["-w", "none.caffemodel"], "none.caffemodel"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_wrong_arguments(capsys, net, arguments, message):
    assert main(["time", net, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_groups():
    text = NET.replace('type: "LRN"', 'type: "Dropout"')
    graph = build(parse(text))
    found = groups(graph, passes.run(graph))
    assert [[n.name for n in group] for group in found][-3:] == [["pool"], ["lrn", "fc"], ["prob"]]
    assert [[n.name for n in group] for group in groups(graph, graph)] == [[n.name] for n in graph.nodes]


def test_groups_of_nodes_that_the_source_has_not():
    """A shortcut thinned out, and two convolutions as one."""
    convolutions = [("a", "x", 3, 1), ("b", "e", 1, 2), ("c", "e", 1, 2)]
    text = 'input: "x" input_dim: 1 input_dim: 4 input_dim: 8 input_dim: 8 '
    sum_ = 'layer { name: "e" type: "Eltwise" bottom: "a" bottom: "x" top: "e" } '
    for name, bottom, kernel, stride in convolutions:
        text += f"""layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{
                    num_output: 4 kernel_size: {kernel} pad: {kernel // 2} stride: {stride} }} }} """
        text, sum_ = text + sum_, ""
    graph = bound(text)
    found = groups(graph, passes.run(graph, passes.WITH_SIBLINGS))
    assert [[n.name for n in group] for group in found[1:]] == [["x/2"], ["a", "e"], ["b+c"], ["b", "c"]]
