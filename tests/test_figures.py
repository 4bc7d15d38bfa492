"""`netcompile NET --figures`, and the figures in JSON and CSV."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from netcompiler.cli import main

ROOT = Path(__file__).parents[1]
NET = """name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 5 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 7 } }
"""
ODD = 'layer { name: "odd" type: "Strange" bottom: "conv" top: "odd" top: "even" }\n'
TABLE = """\
layer  top shapes     params   MACs  activations  ops/byte  field  stride  centre
data   2 x 3 x 8 x 8                    1.536 kB              1x1       1       0
conv   2 x 5 x 6 x 6     140  9,720      1.44 kB       5.5    3x3       1       1
relu   2 x 5 x 6 x 6                                          3x3       1       1
fc     2 x 7           1,267  2,520         56 B       0.8    8x8       -     3.5
"""
TOTALS = """
net          tiny, phase TEST, 4 layers
params       1,407 learned, 5.628 kB of weights
MACs         12,240
activations  3.032 kB all kept, 2.976 kB at the peak
one image    6,120 MACs; 1.516 kB all kept, 1.488 kB at the peak, of a batch of 2
intensity    1.686 operations for each byte of weights and activations moved
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path / "net.prototxt"


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_table(capsys, net):
    assert run(capsys, net, "--figures") == (0, TABLE + TOTALS, "")
    assert run(capsys, net, "--figures", "-q") == (0, TOTALS[1:], "")


def test_json(capsys, net, tmp_path):
    code, out, _ = run(capsys, net, "--figures", "--json", "-o", tmp_path / "net.json")
    report = json.loads(out)
    assert code == 0 and report == json.loads((tmp_path / "net.json").read_text())
    conv = report["layers"][1]
    assert conv["params"] == 140 and conv["per_image"]["macs"] == 4860
    assert conv["tops"] == [
        {
            "blob": "conv",
            "shape": [2, 5, 6, 6],
            "field": {"input": "data", "size": [3, 3], "stride": [1, 1], "centre": [1, 1]},
        }
    ]
    assert report["layers"][3]["tops"][0]["field"]["stride"] == [None, None]
    assert report["totals"]["images"] == 2 and report["totals"]["per_image"]["macs"] == 6120


def test_csv(capsys, net, tmp_path):
    code, out, _ = run(capsys, net, "--figures", "-q", "-o", tmp_path / "net.csv")
    assert code == 0 and f"wrote {tmp_path / 'net.csv'}" in out
    with open(tmp_path / "net.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["data", "conv", "relu", "fc", "total"]
    conv, fc, total = rows[1], rows[3], rows[-1]
    assert (conv["bottoms"], conv["tops"], conv["shapes"]) == ("data", "conv", "2 x 5 x 6 x 6")
    assert (conv["params"], conv["macs"], conv["macs_per_image"]) == ("140", "9720", "4860")
    assert (conv["field"], conv["stride"], conv["centre"]) == ("3 x 3", "1 x 1", "1 x 1")
    assert (fc["field"], fc["stride"]) == ("8 x 8", "- x -")
    assert (total["type"], total["params"], total["macs"], total["field"]) == ("4 layers", "1407", "12240", "")
    assert (total["peak_activation_bytes"], total["peak_activation_bytes_per_image"]) == ("2976", "1488")
    assert conv["peak_activation_bytes"] == ""
    sums = {name: sum(int(row[name]) for row in rows[:-1]) for name in ("params", "macs", "activation_bytes")}
    assert sums == {name: int(total[name]) for name in sums}


def test_a_name_is_no_formula(capsys, net, tmp_path):
    net.write_text(NET.replace('"fc"', '"=1+2"'))
    run(capsys, net, "--figures", "-o", tmp_path / "net.csv")
    *_, last, _ = csv.DictReader((tmp_path / "net.csv").read_text().splitlines())
    assert (last["layer"], last["bottoms"], last["tops"], last["field"]) == ("'=1+2", "conv", "'=1+2", "8 x 8")


def test_outputs_leave_the_rest_out(capsys, net):
    code, out, _ = run(capsys, net, "--figures", "--outputs", "conv")
    assert code == 0 and "fc" not in out and "params       140 learned" in out


def test_a_run_writes_csv_too(capsys, net, tmp_path):
    outs = [tmp_path / "run.csv", tmp_path / "look.csv"]
    assert run(capsys, net, "--device", "cpu", "-q", "-o", outs[0])[0] == 0
    assert run(capsys, net, "--figures", "-q", "-o", outs[1])[0] == 0
    assert outs[0].read_text() == outs[1].read_text()


def test_a_net_that_does_not_build(capsys, net, tmp_path):
    net.write_text(NET + ODD)
    code, out, err = run(capsys, net, "--figures", "-o", tmp_path / "net.csv")
    assert code == 0
    assert "warning: " in err and 'unknown layer type "Strange"' in err and "net.prototxt:6:" in err
    assert "odd    ?, ?                ?      ?            ?         ?      ?       ?       ?" in out
    assert "params       at least 1,407 learned" in out and "MACs         at least 12,240" in out
    assert "not counted  1 of 5 layers, whose figures are not known" in out
    *_, odd, total = csv.DictReader((tmp_path / "net.csv").read_text().splitlines())
    assert (odd["shapes"], odd["params"], odd["macs"], odd["macs_per_image"], odd["field"]) == ("?, ?", *"????")
    assert total["layer"] == "total, at least: 1 layers are not counted"
    layers = json.loads(run(capsys, net, "--figures", "--json")[1])["layers"]
    assert layers[-1]["params"] is layers[-1]["intensity"] is layers[-1]["tops"][0]["shape"] is None


WRONG = [
    (NET, ["-o", "net.npz"], "--figures runs nothing, and has no weights"),
    ("base_lr: 0.1", [], 'NetParameter has no field "base_lr"'),
    ('name: "nothing"', [], "the net has no layers"),
    (NET, ["--input", "x=1"], 'no input is called "x"'),
    (NET, ["--outputs", "x"], 'the net has no blob "x"'),
    (NET.replace("layer {", "layer { include { phase: TRAIN }"), [], "all its layers are for another phase"),
]


@pytest.mark.parametrize(("text", "options", "message"), WRONG)
def test_wrong_input(capsys, net, tmp_path, monkeypatch, text, options, message):
    monkeypatch.chdir(tmp_path)
    net.write_text(text)
    code, out, err = run(capsys, net, "--figures", *options)
    assert (code, out) == (2, "") and message in err and "Traceback" not in err


def test_table_fits_the_terminal(capsys):
    for name in ("ResNet-50-deploy", "ResNet-152-deploy"):
        lines = run(capsys, ROOT / "model_zoo" / f"{name}.prototxt", "--figures")[1].splitlines()
        assert max(map(len, lines)) <= 120


def test_needs_no_torch(net):
    code = f"import sys; from netcompiler.cli import main; main([{str(net)!r}, '--figures']); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).splitlines()[-1] == "False"
