"""The command: what it prints, what it writes, and how it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import netcompiler
from netcompiler.cli import main

ROOT = Path(__file__).parents[1]
NET = """name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path / "net.prototxt"


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_report(capsys, net):
    code, out, err = run(capsys, net, "--device", "cpu")
    assert (code, err) == (0, "")
    assert "conv   Convolution   data     1 x 5 x 6 x 6     140  4,860" in out
    assert "params       1,407 learned, 5.628 kB of weights  (no -w given: random" in out
    assert "MACs         6,120" in out
    assert "prob 1 x 7: " in out


def test_json(capsys, net):
    code, out, _ = run(capsys, net, "--device", "cpu", "--json", "--input", "data=2,3,8,8")
    report = json.loads(out)
    assert code == 0
    assert report["totals"]["params"] == 1407 and report["totals"]["macs"] == 2 * 6120
    (top,) = report["layers"][1]["tops"]
    assert (top["blob"], top["shape"]) == ("conv", [2, 5, 6, 6])
    assert report["layers"][1]["line"] == 3
    assert report["weights"] == "random" and report["run"]["device"].startswith("cpu")
    assert report["ranges"]["prob"]["shape"] == [2, 7]


def test_code(capsys, net):
    assert "def forward(self, data):" in run(capsys, net, "--device", "cpu", "--code")[1]


def test_files_and_back(capsys, net, tmp_path):
    outs = [
        tmp_path / f"out.{suffix}"
        for suffix in ("prototxt", "caffemodel", "npz", "safetensors", "json", "caffemodel.h5")
    ]
    code, out, _ = run(capsys, net, "--device", "cpu", "-q", *(a for o in outs for a in ("-o", o)))
    assert code == 0 and all(f"wrote {o}" in out for o in outs)
    assert netcompiler.load(outs[0]) == netcompiler.load(net)
    blobs = netcompiler.read_weights(outs[1])
    arrays = np.load(outs[2])
    assert sorted(arrays.files) == ["conv.bias", "conv.weight", "fc.bias", "fc.weight"]
    assert np.array_equal(arrays["conv.weight"], blobs["conv"][0])
    from safetensors.numpy import load_file

    assert np.array_equal(load_file(outs[3])["fc.weight"], blobs["fc"][0])
    assert json.loads(outs[4].read_text())["totals"]["params"] == 1407
    assert np.array_equal(netcompiler.read_weights(outs[5])["fc"][0], blobs["fc"][0])
    assert not list(tmp_path.glob("*.part*"))
    code, out, err = run(capsys, net, "-w", outs[1], "--device", "cpu", "-q")
    assert (code, err) == (0, "") and "top 5 of prob, item 0:" in out and "random" not in out


def test_classifying_pictures(capsys, net, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "names.txt").write_text("\n".join(f"name{i}" for i in range(7)))
    run(capsys, net, "--device", "cpu", "-q", "-o", tmp_path / "w.caffemodel")
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    options = ["-w", tmp_path / "w.caffemodel", "--labels", tmp_path / "names.txt", "--device", "cpu", "-q"]
    code, out, _ = run(capsys, net, "--image", *pictures, *options)
    assert code == 0
    assert out.count("top 5 of prob") == 2 and out.count("name") == 10


def test_layers_that_are_left_out_are_not_in_the_file(capsys, net, tmp_path):
    from netcompiler.binary import read_net

    net.write_text(NET + NET[NET.index('layer { name: "fc"') :].replace('"fc"', '"fc2"').replace("prob", "prob2"))
    for outputs, want in ((["--outputs", "fc"], ["data", "conv", "relu", "fc"]), ([], 8)):
        assert run(capsys, net, "--device", "cpu", "-q", *outputs, "-o", tmp_path / "w.caffemodel")[0] == 0
        names = [m.name for m in read_net(tmp_path / "w.caffemodel").layer]
        assert want in (names, len(names)) and ("fc2" in names) == (not outputs)


def test_a_training_net_is_written_as_it_was_read(capsys, net, tmp_path):
    net.write_text(NET + 'layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }')
    options = [net, "--device", "cpu", "--phase", "TRAIN", "-q"]
    for source, target in ((), "a"), (("-w", tmp_path / "a.caffemodel"), "b"):
        assert run(capsys, *options, *source, "-o", tmp_path / f"{target}.caffemodel")[0] == 0
    assert not netcompiler.read_weights(tmp_path / "a.caffemodel")["norm"][2].any()
    assert (tmp_path / "a.caffemodel").read_bytes() == (tmp_path / "b.caffemodel").read_bytes()


def test_weights_that_do_not_cover_the_net(capsys, net, tmp_path):
    run(capsys, net, "--device", "cpu", "-q", "-o", tmp_path / "w.caffemodel")
    net.write_text(NET.replace('name: "fc"', 'name: "fc_new"'))
    code, _, err = run(capsys, net, "-w", tmp_path / "w.caffemodel", "--device", "cpu", "-q")
    assert code == 0
    assert "warning: layers without weights in the file start from their fillers: fc_new" in err
    assert "warning: the file has weights for layers that the net does not have: fc" in err


def text(change):
    return lambda folder: (folder / "net.prototxt").write_text(change(NET))


def weights(make):
    def prepare(folder):
        main([str(folder / "net.prototxt"), "--device", "cpu", "-q", "-o", str(folder / "w.caffemodel")])
        make(folder)

    return prepare


def truncate(folder):
    whole = (folder / "w.caffemodel").read_bytes()
    (folder / "w.caffemodel").write_bytes(whole[: len(whole) // 2])


W = ["-w", "w.caffemodel"]
HUGE = """layer {{ name: "c{0}" type: "Convolution" bottom: "data" top: "c{0}"
         convolution_param {{ num_output: 10000000 kernel_size: 8 }} }}"""
MANY = [  # of 8 GB each, that live until the last one is made
    'layer { name: "tile" type: "Tile" bottom: "data" top: "d0" tile_param { axis: 0 tiles: 10000000 } }',
    *(f'layer {{ name: "r{i}" type: "ReLU" bottom: "d0" top: "r{i}" }}' for i in range(130)),
]
WRONG = [
    ("missing brace", text(lambda t: t[:-3]), [], 'net.prototxt:8:7: "{" is never closed'),
    ("misspelt field", text(lambda t: t.replace("num_output: 5", "num_ouput: 5")), [], 'did you mean "num_output"?'),
    ("unknown type", text(lambda t: t.replace('"ReLU"', '"RelU"')), [], 'unknown layer type "RelU"'),
    ("unknown bottom", text(lambda t: t.replace('bottom: "fc"', 'bottom: "fd"')), [], 'unknown bottom "fd"'),
    ("kernel", text(lambda t: t.replace("kernel_size: 3", "kernel_size: 9")), [], "larger than the padded image"),
    ("group", text(lambda t: t.replace("kernel_size: 3", "kernel_size: 3 group: 2")), [], "group must divide"),
    ("two makers", text(lambda t: t.replace('top: "prob"', 'top: "conv"')), [], 'top "conv" is made by two layers'),
    ("truncated weights", weights(truncate), W, "w.caffemodel"),
    ("caffemodel as net", weights(lambda d: (d / "w.caffemodel").replace(d / "net.prototxt")), [], "a binary file"),
    ("net as caffemodel", weights(lambda d: (d / "w.caffemodel").write_text(NET)), W, "text"),
    ("a directory", lambda d: ((d / "net.prototxt").unlink(), (d / "net.prototxt").mkdir()), [], "directory"),
    ("an empty file", text(lambda t: ""), [], "the file is empty"),
    ("no file", lambda d: (d / "net.prototxt").unlink(), [], "No such file"),
    ("a terabyte", text(lambda t: t + "\n".join(HUGE.format(i) for i in range(200))), [], "does not fit into memory"),
    ("a terabyte of blobs", text(lambda t: t + "\n".join(MANY)), [], "not enough memory for this net"),
    ("a huge blob", text(lambda t: t.replace("dim: 8 dim: 8", "dim: 800000 dim: 800000")), [], "elements, as in Caffe"),
    ("suffix", lambda d: None, ["-o", "net.docx"], "-o chooses the format by suffix"),
    ("no folder", lambda d: None, ["-o", "none/net.npz"], "the folder does not exist"),
    ("input option", lambda d: None, ["--input", "data"], "--input is not NAME=DIMS"),
    ("input name", lambda d: None, ["--input", "x=1"], 'no input is called "x"'),
    ("device", lambda d: None, ["--device", "quantum"], "device quantum cannot be used"),
    ("mean", lambda d: None, ["--mean", "1,2,3"], "--mean is for pictures"),
    ("scale", lambda d: None, ["--scale", "2"], "--scale is for pictures"),
    ("labels", lambda d: None, ["--labels", "none.txt"], "the labels cannot be read: No such file"),
    ("output blob", lambda d: None, ["--outputs", "probb"], "did you mean prob"),
    ("seed", lambda d: None, ["--seed", "-1"], "a seed cannot be negative"),
    ("meta", lambda d: None, ["--device", "meta"], "device meta cannot be used"),
    ("dtype", lambda d: None, ["--dtype", "int4"], "unknown dtype"),
    ("weights by no name", lambda d: None, ["-w", ","], "error: cannot be read"),
    ("a number for a type", text(lambda t: t[:13] + "layer { type: 3 }"), [], "net.prototxt:2:15: a bad value for"),
]


@pytest.mark.parametrize(("prepare", "options", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_wrong_input(capsys, net, tmp_path, monkeypatch, prepare, options, message):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    capsys.readouterr()
    code, out, err = run(capsys, "net.prototxt", *options)
    assert code == 2, out
    assert err.startswith("netcompile: error: ") and message in err and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == before


INPUT = 'layer {{ name: "in" type: "Input" top: "{}" input_param {{ shape {{ {} }} }} }}\n'
ODD = [
    ("no layers", 'name: "n"', "0 layers"),
    (
        "only data",
        'layer { name: "d" type: "Data" top: "x" top: "y" data_param { batch_size: 2 } '
        "transform_param { crop_size: 8 } }",
        "output       x 2 x 3 x 8 x 8",
    ),
    ("no outputs", INPUT.format("x", "dim: 2") + 'layer { type: "Silence" bottom: "x" }', "2 layers"),
    ("a scalar", INPUT.format("x", "") + 'layer { type: "ReLU" bottom: "x" top: "y" }', "output       y ()"),
    (
        "an empty batch",
        INPUT.format("x", "dim: 0 dim: 3") + 'layer { type: "Softmax" bottom: "x" top: "y" }',
        "2 layers",
    ),
    (
        "no values at all",
        INPUT.format("x", "dim: 2 dim: 0") + 'layer { name: "f" type: "InnerProduct" bottom: "x" top: "y" '
        'inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }',
        "output       y 2 x 5: 0 to 0",
    ),
    (
        "self",
        INPUT.format("self", "dim: 2") + 'layer { name: "self" type: "ReLU" bottom: "self" top: "None" }',
        "output       None",
    ),
    (
        "attributes",
        INPUT.format("x", "dim: 2 dim: 3") + 'layer { name: "attributes" type: "PReLU" bottom: "x" top: "日本" }',
        "output       日本 2 x 3",
    ),
    (
        "layers alike",
        INPUT.format("x", "dim: 2") + 'layer { name: "a" type: "ReLU" bottom: "x" top: "x" } ' * 3,
        "4 layers",
    ),
    (
        "blobs like layers",
        INPUT.format("in", "dim: 2") + 'layer { name: "r" type: "ReLU" bottom: "in" top: "r" }',
        "output       r 2",
    ),
    (
        "not a number",
        INPUT.format("x", "dim: 2 dim: 3") + 'layer { name: "l" type: "Log" bottom: "x" top: "y" }',
        "nan",
    ),
    (
        "loss weight 0",
        INPUT.format("x", "dim: 2 dim: 3")
        + INPUT.format("l", "dim: 2")
        + 'layer { name: "s" type: "SoftmaxWithLoss" bottom: "x" bottom: "l" loss_weight: 0 }',
        "output       s (): ",
    ),
]


@pytest.mark.parametrize(("text", "told"), [o[1:] for o in ODD], ids=[o[0] for o in ODD])
def test_odd_nets_run(capsys, net, tmp_path, text, told):
    net.write_text(text, encoding="utf-8")
    outs = [tmp_path / f"o.{suffix}" for suffix in ("prototxt", "caffemodel", "json", "npz", "safetensors", "h5")]
    code, out, err = run(capsys, net, "--device", "cpu", *(a for o in outs for a in ("-o", o)))
    assert (code, err) == (0, "") and told in out
    assert netcompiler.load(outs[0]) == netcompiler.load(net)
    weights = ["-w", outs[1]] if "layer" in text else []  # a file without layers is none of weights
    code, out, _ = run(capsys, net, *weights, "--device", "cpu", "--json")
    report = json.loads(out, parse_constant=pytest.fail)
    assert code == 0 and report["layers"] == json.loads(outs[2].read_text(), parse_constant=pytest.fail)["layers"]


def test_names_that_the_terminal_cannot_show(net):
    net.write_text(NET.replace('"conv"', '"日本"'), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "netcompiler", str(net), "--device", "cpu"],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0 and "\n\\u65e5\\u672c " in done.stdout, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_cannot_be_written(net):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "netcompiler", str(net), "--device", "cpu"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, "netcompile: error: [Errno 28] No space left on device\n")


def test_help_is_told_without_torch():
    code = "import sys; from netcompiler.cli import parser; parser().format_help(); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "False"


def test_module_runs_from_a_checkout(net):
    out = subprocess.check_output([sys.executable, "-m", "netcompiler", str(net), "-q"], text=True, cwd=ROOT)
    assert "MACs         6,120" in out


def test_a_reader_that_goes_away_is_no_fault(net):
    command = f"{sys.executable} -m netcompiler {net} --device cpu | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert done.stderr == "" and done.stdout.startswith("layer")
