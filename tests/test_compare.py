"""What differs between two nets, and `netcompile diff`."""

import json
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

import netcompiler
from netcompiler import NetError, zoo
from netcompiler.binary import read_net, write_caffemodel
from netcompiler.cli import main
from netcompiler.cli.diff import read_side
from netcompiler.compare import Change, WeightChange, compare, increasing

ROOT = Path(__file__).parents[1]
DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }\n"""
RELU = 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }\n'
POOL = 'layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }\n'
FC = 'layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 5 } }\n'
PROB = 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
NET = DATA + CONV + RELU + POOL + FC + PROB
SECOND = """layer { name: "conv2" type: "Convolution" bottom: "conv" top: "conv2"
          convolution_param { num_output: 4 kernel_size: 1 } }\n"""


def built(text, **options):
    return netcompiler.build(netcompiler.parse(text), partial=True, **options)


def swap(old, new, text=NET):
    assert old in text
    return text.replace(old, new)


CASES = [  # name; the other net; layers that are not the same: status, own changes
    ("equal", NET, {}),
    ("spelling only", NET.replace('type: "ReLU"', 'type: "ReLU" relu_param { negative_slope: 0 }'), {}),
    (
        "a setting",
        swap("kernel_size: 2 stride: 2", "kernel_size: 3 stride: 2 pool: AVE"),
        {"pool": ("changed", [("pool", "MAX", "AVE"), ("kernel", "2x2", "3x3")]), "fc": ("affected", [])},
    ),
    (
        "one that follows",
        swap("num_output: 4 kernel", "num_output: 6 kernel"),
        {
            "conv": ("changed", [("num_output", 4, 6)]),
            "relu": ("affected", []),
            "pool": ("affected", []),
            "fc": ("affected", []),
        },
    ),
    ("a type", swap('"ReLU"', '"TanH"'), {"relu": ("changed", [("type", "ReLU", "TanH")])}),
    (
        "an insertion",
        swap(RELU, RELU + SECOND).replace('bottom: "conv" top: "pool"', 'bottom: "conv2" top: "pool"'),
        {"conv2": ("added", [])},
    ),
    ("in place, inserted", swap(RELU, RELU + RELU.replace('"relu"', '"again"')), {"again": ("added", [])}),
    ("a removal", swap(RELU, ""), {"relu": ("removed", [])}),
    (
        "another bottom",
        swap('bottom: "pool" top: "fc"', 'bottom: "conv" top: "fc"'),
        {"fc": ("changed", [("bottom", "pool", "conv")])},
    ),
    (
        "more bottoms",
        swap(
            'type: "Softmax" bottom: "fc"',
            'type: "Eltwise" bottom: "fc" bottom: "fc"',
            NET + 'layer { name: "e" type: "Eltwise" bottom: "fc" bottom: "prob" top: "e" }',
        ),
        {"prob": ("changed", [("type", "Softmax", "Eltwise"), ("bottoms", "fc", "fc, fc")]), "e": ("added", [])},
    ),
    (
        "names",
        NET.replace('"conv"', '"c1"').replace('"relu"', '"r1"').replace('"pool"', '"p1"'),
        {"c1": ("renamed", []), "r1": ("renamed", []), "p1": ("renamed", [])},
    ),
    (
        "a blob's name",
        NET.replace('top: "fc"', 'top: "x"').replace('bottom: "fc"', 'bottom: "x"'),
        {"fc": ("renamed", [])},
    ),
    (
        "training",
        swap("num_output: 5", 'num_output: 5 weight_filler { type: "xavier" }').replace(
            'top: "conv"\n', 'top: "conv" param { lr_mult: 0 }\n'
        ),
        {"conv": ("training", []), "fc": ("training", [])},
    ),
    (
        "out of place",
        swap('bottom: "conv" top: "conv"', 'bottom: "conv" top: "r"').replace(
            'bottom: "conv" top: "pool"', 'bottom: "r" top: "pool"'
        ),
        {"relu": ("changed", [("in place", True, None)])},
    ),
    (
        "a loss's weight",
        swap('top: "prob"', 'top: "prob" loss_weight: 2'),
        {"prob": ("changed", [("loss_weight", None, "2")])},
    ),
    (
        "without bias",
        swap("num_output: 5", "num_output: 5 bias_term: false"),
        {"fc": ("changed", [("bias_term", True, False)])},
    ),
    ("another input", swap('name: "data"', 'name: "in"'), {"in": ("renamed", [])}),
    (
        "not understood",
        swap('"Pooling"', '"Strange"'),
        {
            "pool": ("changed", [("type", "Pooling", "Strange")]),
            "fc": ("affected", []),
            "prob": ("affected", []),
        },
    ),
]


def told(diff):
    """What is not the same: name in the second net, or else in the first."""
    found = {}
    for pair in diff.pairs:
        node = diff.a.nodes[pair.a] if pair.b is None else diff.b.nodes[pair.b]
        if pair.status != "same":
            found[node.name] = (pair.status, [(c.what, c.a, c.b) for c in pair.changes])
    return found


@pytest.mark.parametrize(("text", "want"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_cases(text, want):
    a, b = built(NET), built(text)
    diff = compare(a, b)
    # The new batch of figures in `affected` is looked at below; which layers there are, and why, is looked at here.
    assert {name: row for name, row in told(diff).items() if row[0] != "affected"} == {
        name: row for name, row in want.items() if row[0] != "affected"
    }
    affected = {name for name, row in told(diff).items() if row[0] == "affected"}
    assert affected >= {name for name, row in want.items() if row[0] == "affected"}
    assert diff.equal == (not want)
    back = compare(b, a)
    turned = {"added": "removed", "removed": "added"}
    assert sorted(p.status for p in back.pairs) == sorted(turned.get(p.status, p.status) for p in diff.pairs)
    assert [p.a for p in sorted(diff.pairs, key=lambda p: (p.a is None, p.a)) if p.a is not None] == list(
        range(len(a.nodes))
    )
    assert [p.b for p in diff.pairs if p.b is not None] == list(range(len(b.nodes)))
    assert sum(diff.count().values()) == len(diff.pairs)
    json.dumps(diff.as_json(), allow_nan=False)


def test_effects():
    """Shapes and figures that follow."""
    diff = compare(built(NET), built(swap("num_output: 4 kernel", "num_output: 6 kernel")))
    conv, pool = diff.pairs[1], diff.pairs[3]
    assert conv.effects == (
        Change("shape", "1 x 4 x 6 x 6", "1 x 6 x 6 x 6"),
        Change("params", 4 * 28, 6 * 28),
        Change("macs", 36 * 4 * 27, 36 * 6 * 27),
        Change("activation_bytes", 4 * 36 * 4, 4 * 36 * 6),
    )
    assert [c.what for c in pool.effects] == ["shape", "activation_bytes"]
    assert (diff.totals[0].params, diff.totals[1].params) == (112 + 36 * 5 + 5, 168 + 54 * 5 + 5)


def test_fields_follow():
    diff = compare(built(NET), built(swap("kernel_size: 3 }", "kernel_size: 5 pad: 1 stride: 1 }")))
    assert diff.pairs[3].effects[-1] == Change("field", "4 x 4", "6 x 6")


def test_training_is_told():
    diff = compare(
        built(NET), built(swap("num_output: 5", 'num_output: 5 weight_filler { type: "gaussian" std: 0.01 }'))
    )
    assert diff.pairs[4].training == (Change("weight_filler", "constant", "gaussian, std 0.01"),)
    param = swap('top: "fc"', 'top: "fc" param { lr_mult: 3 } param { decay_mult: 0 } propagate_down: false')
    assert compare(built(NET), built(param)).pairs[4].training == (
        Change("weight lr_mult", 1.0, 3.0),
        Change("bias decay_mult", 1.0, 0.0),
        Change("propagate_down", "all", "0"),
    )


def test_batches_are_divided_out():
    diff = compare(built(NET), built(NET, inputs={"data": (7, 3, 8, 8)}))
    assert diff.changes == (Change("batch", 1, 7),)
    assert not told(diff) and not diff.equal
    assert diff.per_image[0] == diff.per_image[1]
    other = compare(built(NET), built(NET, inputs={"data": (7, 3, 9, 8)}))
    assert told(other)["data"][0] == "affected"


def test_nets_as_a_whole():
    a, b = built('name: "a"\n' + NET), built('name: "b"\n' + NET, phase="TRAIN")
    assert compare(a, b).changes == (Change("name", "a", "b"), Change("phase", "TEST", "TRAIN"))
    broken = compare(a, built('name: "a"\n' + NET + RELU.replace('"conv"', '"nowhere"')))
    assert Change("faults", 0, 1) in broken.changes


def chain(*layers):
    """A chain of layers `name:kernel`, each a Convolution (or `name:relu`)."""
    text, last = DATA, "data"
    for part in layers:
        name, kind = part.split(":")
        settings = (
            f"convolution_param {{ num_output: 3 pad: {int(kind) // 2} kernel_size: {kind} }}" if kind.isdigit() else ""
        )
        what = "Convolution" if kind.isdigit() else "ReLU"
        text += f'layer {{ name: "{name}" type: "{what}" bottom: "{last}" top: "{name}" {settings} }}\n'
        last = name
    return built(text)


MATCHES = [  # two chains, and who is whose counterpart
    ("a:3 b:3 c:3", "a:3 b:3 c:3", "a-a b-b c-c"),
    ("a:3 b:relu c:5", "x:3 y:relu z:5", "a-x b-y c-z"),
    ("a:3 b:5", "x:3 n:7 y:5", "a-x b-y"),
    ("a:3 b:5 c:3", "x:3 y:3", "a-x c-y"),
    ("a:3 r:relu b:3 s:relu", "b:3 s:relu", "b-b s-s"),
    ("a:3 keep:5 b:3", "keep:5 x:3", "keep-keep b-x"),  # not a with x: they stand on different sides
    ("a:3", "x:5", "a-x"),  # nothing better: of one type
    ("a:3", "x:relu", ""),
    ("a:3 b:5", "b:5 a:3", "a-a b-b"),  # the names decide, in whatever order
    ("a:3 b:3 c:3 d:3", "a:3 p:3 q:3 b:3 d:3", "a-a b-b d-d"),
]


@pytest.mark.parametrize(("first", "second", "want"), MATCHES)
def test_matches(first, second, want):
    a, b = chain(*first.split()), chain(*second.split())
    pairs = compare(a, b).pairs
    found = {(a.nodes[p.a].name, b.nodes[p.b].name) for p in pairs if p.a is not None and p.b is not None}
    assert found == {("data", "data"), *(tuple(m.split("-")) for m in want.split())}


def test_removed_layers_stand_where_they_stood():
    a, b = chain("a:3", "b:relu", "c:5"), chain("a:3", "n:7", "c:5")
    names = [a.nodes[p.a].name if p.b is None else b.nodes[p.b].name for p in compare(a, b).pairs]
    assert names == ["data", "a", "n", "b", "c"]


@given(st.permutations(range(7)))
def test_increasing(order):
    pairs = list(enumerate(order))
    found = increasing(pairs)
    assert all(x[0] < y[0] and x[1] < y[1] for x, y in zip(found, found[1:], strict=False))
    best = max(n for n in range(1, 8) for run in combinations(order, n) if list(run) == sorted(run))
    assert len(found) == best


def test_resnets():
    """The 101 is the 50 with 17 more blocks of one stage, and without conv1's bias."""
    a, b = (netcompiler.build(zoo.resnet.deploy(depth)) for depth in (50, 101))
    start = time.perf_counter()
    diff = compare(a, b)
    assert time.perf_counter() - start < 3
    count = diff.count()
    assert (count["changed"], count["added"], count["removed"], count["training"]) == (1, 17 * 13, 0, 0)
    assert count["renamed"] == 8 * 13  # 3b to 3d, and 4b to 4f, have other names there
    assert told(diff)["conv1"] == ("changed", [("bias_term", True, False)])
    added = {name for name, row in told(diff).items() if row[0] == "added"}
    assert {name.split("_")[0].removeprefix("scale").removeprefix("res").removeprefix("bn") for name in added} == {
        f"4b{i}" for i in range(6, 23)
    }


# --- weights ---


def arrays(seed=0):
    graph, rng = built(NET), np.random.default_rng(seed)
    return {
        n.name: [rng.standard_normal(s.shape).astype(np.float32) for s in n.layer.blobs(n.bottom_shapes).values()]
        for n in graph.nodes
        if n.layer.blobs(n.bottom_shapes)
    }


def weighed(change):
    a, b = arrays(), arrays()
    change(b)
    diff = compare(built(NET), built(NET), a, b)
    assert diff.weighed == 4
    json.dumps(diff.as_json(), allow_nan=False)
    (found,) = [w for p in diff.pairs for w in p.weights if not w.equal] or [None]
    assert diff.equal == (found is None)
    return found


def nan(blobs, *more):
    blobs["fc"][1][2] = np.nan


def test_weights():
    shape = (5,)
    bias = arrays()["fc"][1]

    def add(blobs):
        blobs["fc"][1][3] += 0.5

    found = weighed(add)
    assert (found.blob, found.a, found.b) == ("bias", shape, shape)
    assert found.largest == pytest.approx(0.5, rel=1e-6)
    assert found.relative == pytest.approx(0.5 / np.abs(bias).max(), rel=1e-6)
    assert weighed(lambda blobs: None) is None
    assert weighed(nan) == WeightChange("bias", shape, shape, False)
    assert weighed(lambda b: b["fc"].__setitem__(1, b["fc"][1].reshape(1, 1, 1, 5))) is None  # as old files have it
    assert weighed(lambda b: b["fc"].__setitem__(1, b["fc"][1][:4])) == WeightChange("bias", shape, (4,), False)


def test_weights_of_renamed_layers():
    b = {name.replace("conv", "c1"): blobs for name, blobs in arrays().items()}
    diff = compare(built(NET), built(NET.replace('"conv"', '"c1"')), arrays(), b)
    assert diff.weighed == 4 and all(w.equal for p in diff.pairs for w in p.weights)


def test_settings_that_are_no_numbers():
    text = NET + 'layer { name: "odd" type: "Power" bottom: "data" top: "odd" power_param { shift: nan scale: inf } }'
    assert compare(built(text), built(text)).equal
    told = json.dumps(compare(built(text), built(text.replace("nan", "1"))).as_json(), allow_nan=False)
    assert '{"what": "shift", "a": "nan", "b": 1.0}' in told


def test_values_that_are_no_numbers_on_both_sides():
    a, b = arrays(), arrays()
    nan(a), nan(b)
    assert compare(built(NET), built(NET), a, b).equal
    b["fc"][1][0] += 1
    (found,) = [w for p in compare(built(NET), built(NET), a, b).pairs for w in p.weights if not w.equal]
    assert found.largest == pytest.approx(1) and found.relative is None


# --- the net in a .caffemodel ---


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "a.prototxt").write_text(NET)
    (tmp_path / "b.prototxt").write_text(swap("num_output: 5", "num_output: 6"))
    write_caffemodel("a.caffemodel", netcompiler.load("a.prototxt"), arrays(), phase="TRAIN")
    return tmp_path


BRANCHES = NET + 'layer { name: "e" type: "Eltwise" bottom: "pool" bottom: "pool" top: "e" }\n'


def test_read_net(files):
    """As the writer saved it: phases told, Split layers in it; and not a byte of weights."""
    write_caffemodel("b.caffemodel", netcompiler.parse(BRANCHES), arrays())
    net = read_net("b.caffemodel")
    assert [m.type for m in net.layer].count("Split") == 1
    assert all(m.enum("phase") == "TEST" and not m.has("blobs") for m in net.layer)
    assert net.raw.ByteSize() < 2000
    side = read_side("b.caffemodel")
    assert side.phase == "TEST"
    assert compare(netcompiler.build(side.msg), built(BRANCHES)).equal


def old(kind):
    """The same layers as Caffe of 2014 (V1), or of 2013 (V0), wrote them."""
    from netcompiler import schema

    net = schema.message("NetParameter")(name="old", input=["data"], input_dim=[1, 3, 8, 8])
    layer = net.layers.add(bottom=["data"], top=["conv"])
    inner = layer if kind == "V1" else layer.layer
    inner.name = "conv"
    inner.blobs.add(num=4, channels=3, height=3, width=3, data=[1.0] * 108)
    if kind == "V1":
        layer.type = 4
        layer.convolution_param.num_output = 4
        layer.convolution_param.kernel_size.append(3)
    else:
        inner.type, inner.num_output, inner.kernelsize = "conv", 4, 3
    return net.SerializeToString()


def test_names_in_latin_1(files):
    """As protobuf's strings of 2013, which nobody checked."""
    (files / "latin.caffemodel").write_bytes(b"\xa2\x06\x0e\x0a\x02\xe9t\x12\x04ReLU\x1a\x02\xe91")
    (layer,) = read_net("latin.caffemodel").layer
    assert (layer.name, layer.type, list(layer.bottom)) == ("\u00e9t", "ReLU", ["\u00e91"])


@pytest.mark.parametrize("kind", ["V1", "V0"])
def test_old_nets(files, kind):
    (files / "old.caffemodel").write_bytes(old(kind))
    net = read_net("old.caffemodel")
    assert net.raw.ByteSize() < 100
    side = read_side("old.caffemodel")
    assert compare(
        netcompiler.build(side.msg), built('name: "old"\n' + DATA.replace('name: "data"', 'name: "input"') + CONV)
    ).equal
    assert side.blobs["conv"][0].shape == (4, 3, 3, 3)


DAMAGED = [
    ("cut", lambda data: data[: len(data) // 2], "the file is cut short"),
    ("h5", lambda data: b"\x89HDF\r\n\x1a\n" + bytes(100), "holds weights only"),
    ("empty", lambda data: b"", "the file is empty"),
    ("solver state", lambda data: b"\x08\x05\x12\x01a", "this is a .solverstate"),
    ("layer", lambda data: b"\xa2\x06\x02\x0a\x05", "the file is cut short"),
    ("settings", lambda data: b"\xa2\x06\x05\xd2\x06\x02\x0a\x05", "a setting of a layer cannot be read"),
]


@pytest.mark.parametrize(("change", "message"), [d[1:] for d in DAMAGED], ids=[d[0] for d in DAMAGED])
def test_damaged(files, change, message):
    (files / "bad.caffemodel").write_bytes(change((files / "a.caffemodel").read_bytes()))
    with pytest.raises(NetError, match=message):
        read_net("bad.caffemodel")


# --- the command ---


def run(capsys, *arguments):
    code = main(["diff", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_text(capsys, files):
    (files / "c.prototxt").write_text(swap(POOL, SECOND).replace('bottom: "pool"', 'bottom: "conv2"'))
    assert run(capsys, "a.prototxt", "c.prototxt")[:2] == (
        1,
        """\
--- a.prototxt  (phase TEST, 6 layers)
+++ c.prototxt  (phase TEST, 6 layers)

  data to relu: 3 the same
+ conv2  Convolution  1x1, 4  -> 1 x 4 x 6 x 6
- pool  Pooling  MAX, 2x2, s2  -> 1 x 4 x 3 x 3
  fc to prob: 1 the same, 1 with other shapes or figures

totals
  layers                      6         6
  params                    297       857  (x 2.89)
  MACs                    4,068     5,184  (+27.4 %)
  weights              1.188 kB  3.428 kB  (x 2.89)
  activations          1.528 kB   1.96 kB  (+28.3 %)
  peak of activations  1.344 kB  1.344 kB
  operations per byte   1.51339   1.22264  (-19.2 %)
1 added, 1 removed, 1 affected, 4 the same
""",
    )


def test_equal(capsys, files):
    code, out, err = run(capsys, "a.prototxt", "a.prototxt")
    assert (code, out.splitlines()[-1], err) == (0, "no differences", "")
    code, out, _ = run(capsys, "a.prototxt", "a.caffemodel")
    assert (code, out.splitlines()[-1]) == (0, "no differences")
    code, out, _ = run(capsys, "a.caffemodel", "a.caffemodel", "--phase", "TEST")
    assert (code, out.splitlines()[-1]) == (0, "no differences, the weights are equal (4 blobs)")
    assert run(capsys, "a.prototxt", "a.caffemodel", "-q") == (0, "", "")


def test_weights_in_the_text(capsys, files):
    other = arrays()
    other["fc"][0] += 0.25
    other["conv"][1][:] = np.nan
    write_caffemodel("b.caffemodel", netcompiler.load("a.prototxt"), other, phase="TRAIN")
    code, out, _ = run(capsys, "a.caffemodel", "b.caffemodel")
    assert code == 1
    assert "weights: 2 of 4 blobs differ" in out
    assert "conv.bias  values that are no finite numbers" in out
    assert "fc.weight  by up to 0.25 (" in out and "% of the largest value)" in out
    assert "6 the same" in out


def test_json(capsys, files):
    code, out, _ = run(capsys, "a.prototxt", "b.prototxt", "--json", "-o", "diff.json")
    report = json.loads(out)
    assert code == 1 and report == json.loads((files / "diff.json").read_text())
    assert report["files"] == ["a.prototxt", "b.prototxt"] and report["equal"] is False
    assert report["counts"]["changed"] == 1 and report["counts"]["same"] == 4
    fc = report["layers"][4]
    assert fc["status"] == "changed" and fc["a"]["name"] == fc["b"]["name"] == "fc" and fc["a"]["line"] == 6
    assert fc["changes"] == [{"what": "num_output", "a": 5, "b": 6}]
    assert {"what": "params", "a": 185, "b": 222} in fc["effects"]
    assert report["b"]["totals"]["params"] - report["a"]["totals"]["params"] == 37


def test_inputs_of_the_other_net(capsys, files):
    (files / "data.prototxt").write_text(
        DATA.replace("input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } }", "")
        .replace("Input", "Data")
        .replace('top: "data"', 'top: "data" top: "label"')
        + CONV
    )
    code, out, err = run(capsys, "a.prototxt", "data.prototxt", "--json")
    report = json.loads(out)
    assert (code, err) == (1, "")
    assert report["b"]["totals"]["unknown"] == 0
    assert report["layers"][1]["status"] == "same"
    shapes = ("--input", "data=2,3,9,9", "--json")
    report = json.loads(run(capsys, "a.prototxt", "data.prototxt", *shapes)[1])
    assert report["layers"][1]["a"]["shapes"] == report["layers"][1]["b"]["shapes"] == [[2, 4, 7, 7]]


def test_nets_that_do_not_build(capsys, files):
    (files / "odd.prototxt").write_text(swap('"Pooling"', '"Strange"').replace("num_output: 4", "num_ouput: 4"))
    code, out, err = run(capsys, "a.prototxt", "odd.prototxt")
    assert code == 1
    assert 'did you mean "num_output"?' in err and 'unknown layer type "Strange"' in err
    assert "faults: 0 -> " in out and "at least, for odd.prototxt" in out
    code, out, err = run(capsys, "odd.prototxt", "odd.prototxt")
    assert code == 0 and "no differences" in out


WRONG = [
    (["a.prototxt", "none.prototxt"], "No such file"),
    (["a.prototxt", "a.prototxt", "-o", "x.docx"], "-o chooses the format by suffix"),
    (["a.prototxt", "b.prototxt", "--input", "x=1"], 'no input of the two nets is called "x"'),
    (["a.prototxt", "solver.prototxt"], 'no field "base_lr"'),
    (["a.prototxt", "."], "directory"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_input(capsys, files, arguments, message):
    (files / "solver.prototxt").write_text("base_lr: 0.1")
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and message in err and "Traceback" not in err


def test_colours_only_in_a_terminal(capsys, files, monkeypatch):
    assert "\033" not in run(capsys, "a.prototxt", "b.prototxt")[1]
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\033[33m~ fc" in run(capsys, "a.prototxt", "b.prototxt")[1]


def test_names_cannot_steer_the_terminal(capsys, files):
    (files / "evil.prototxt").write_text(NET.replace('name: "fc"', 'name: "fc\\033[2J"'))
    out = run(capsys, "a.prototxt", "evil.prototxt", "--all")[1]
    assert "\033" not in out and "fc -> fc\\x1b[2J" in out


def test_needs_no_torch(files):
    code = "import sys; from netcompiler.cli import main; main(['diff', 'a.prototxt', 'a.caffemodel'])"
    code += "; print('torch' in sys.modules)"
    out = subprocess.check_output([sys.executable, "-c", code], text=True, env={"PYTHONPATH": str(ROOT)})
    assert out.splitlines()[-1] == "False"
