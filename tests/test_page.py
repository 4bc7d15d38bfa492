"""The page: the data that the diagram is drawn from, and the one file that holds everything and asks for nothing."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import netcompiler
from netcompiler import weights
from netcompiler.binary import write_caffemodel
from netcompiler.cli import main
from netcompiler.drawing.page import ASSETS, page, page_data, page_html
from netcompiler.drawing.weighing import BINS, filter_picture, png, statistics
from netcompiler.errors import NetError
from netcompiler.looking import look

ROOT = Path(__file__).parents[1]
NET = """\
name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 2 }
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "gaussian" std: 0.01 } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 7 } }
"""
BLOCK = """\
layer {{ name: "b{0}_a" type: "Convolution" bottom: "{1}" top: "b{0}_a" convolution_param {{ num_output: 3 kernel_size: 1 }} }}
layer {{ name: "b{0}" type: "Eltwise" bottom: "{1}" bottom: "b{0}_a" top: "b{0}" }}
"""
ZOO = {n: ROOT / f"model_zoo/ResNet-{n}-deploy.prototxt" for n in (50, 152)}


def graph_of(text, **more):
    return netcompiler.build(netcompiler.parse(text), **more)


def data_of(text, **more):
    return page_data(graph_of(text), text=text, **more)


class Page(HTMLParser):
    """The tags of a page with their attributes, and what stands in each script, style and title."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.comments = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, text):
        if text.strip():
            self.texts.append((self.tags[-1], text))

    def handle_comment(self, text):
        self.comments.append(text)

    def inside(self, tag, **attributes):
        return [t for (name, found), t in self.texts if name == tag and attributes.items() <= found.items()]


# --- the data ---


def test_boxes_and_edges():
    data = data_of(NET)
    assert (data["name"], data["phase"], data["text"], data["faults"]) == ("tiny", "TEST", NET, [])
    assert [[m["name"] for m in box["members"]] for box in data["boxes"]] == [
        ["data"],
        ["conv", "relu"],
        ["pool"],
        ["fc"],
    ]
    assert data["edges"] == [[0, 0, 1, 0], [1, 0, 2, 0], [2, 0, 3, 0]]
    assert [box["category"] for box in data["boxes"]] == ["data", "convolution", "pooling", "dense"]
    assert data["boxes"][3]["tops"] == [{"blob": "fc", "shape": [2, 7], "output": True}]
    assert not data["boxes"][1]["tops"][0]["output"]
    assert set(data["categories"]) >= {box["category"] for box in data["boxes"]}


def test_a_layer():
    conv = data_of(NET)["boxes"][1]["members"][0]
    assert conv["brief"] == "3×3, 5" and conv["lines"] == [3, 7] and conv["fault"] == ""
    assert conv["bottoms"] == [{"blob": "data", "shape": [2, 3, 8, 8]}]
    assert conv["tops"] == [{"blob": "conv", "shape": [2, 5, 6, 6]}]
    given = {name: value for name, value, usual in conv["settings"] if not usual}
    usual = {name for name, _, usual in conv["settings"] if usual}
    assert given["num_output"] == "5" and given["weight_filler"] == "gaussian, std 0.01"
    assert "group" in usual and "num_output" not in usual and "weight_filler" not in usual
    assert [b["name"] for b in conv["blobs"]] == ["weight", "bias"]
    assert [b["note"] for b in conv["blobs"]] == ["lr × 2", ""]
    figures = conv["figures"]
    assert figures["params"] == 140 and figures["macs"] == 2 * 4860 and figures["activation_bytes"] == 4 * 2 * 5 * 6 * 6
    assert (figures["field"], figures["field_stride"], figures["field_centre"]) == ("3 × 3", "1 × 1", "1, 1")


def test_figures_and_totals_have_the_same_names():
    data = data_of(NET)
    keys = {f["key"] for f in data["figures"]}
    for box in data["boxes"]:
        for member in box["members"]:
            assert member["figures"].keys() <= keys
    assert data["totals"]["params"] == 140 + 7 * 45 + 7
    for key in ("params", "macs", "activation_bytes", "weight_bytes"):
        assert data["totals"][key] == sum(m["figures"][key] for b in data["boxes"] for m in b["members"]), key


def test_times():
    data = data_of(NET, times={"conv": 0.003, "fc": 0.001})
    assert data["totals"]["time"] == 0.004
    assert data["boxes"][1]["members"][0]["figures"]["time"] == 0.003
    assert "time" not in data["boxes"][0]["members"][0]["figures"]


def test_folds_are_those_of_the_picture():
    first = 'layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }\n'
    text = first + "".join(BLOCK.format(i, f"b{i - 1}" if i else "in") for i in range(4))
    (fold,) = data_of(text)["folds"]
    assert fold == {"copies": [[1, 2], [3, 4], [5, 6], [7, 8]], "names": ["b0", "b1", "b2", "b3"], "sideBySide": False}
    assert data_of(text, fold=5)["folds"] == []


def test_a_net_that_does_not_build():
    text = NET.replace('"Pooling"', '"Strange"').replace("pooling_param { kernel_size: 2 stride: 2 }", "")
    msg, graph = look(netcompiler.parse(text))
    data = page_data(graph, text=text)
    strange, fc = data["boxes"][2], data["boxes"][3]
    assert strange["members"][0]["fault"] == 'unknown layer type "Strange"'
    assert strange["tops"][0]["shape"] is None and fc["tops"][0]["shape"] is None
    assert "macs" not in strange["members"][0]["figures"] and data["totals"]["unknown"] == 2
    (fault,) = data["faults"]
    assert fault["line"] == 9 and fault["layer"] == '"pool" (Strange)' and "Strange" in fault["what"]
    json.dumps(data, allow_nan=False)


def test_the_text_is_read_again_from_its_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    graph = netcompiler.build(netcompiler.load(path))
    assert page_data(graph)["text"] == NET and page_data(graph)["file"] == "net.prototxt"
    path.write_text(NET.replace("\n", "\n\n"))
    assert page_data(graph)["text"] == "", "the file has changed: its lines are others"
    path.unlink()
    data = page_data(graph)
    assert data["text"] == "" and data["boxes"][1]["members"][0]["lines"] is None


def test_a_net_made_by_a_program_has_no_text():
    net = netcompiler.NetSpec("made")
    net.InnerProduct(net.layer("Input", name="x", shape=[{"dim": [1, 3]}]), num_output=2, name="fc")
    data = page_data(netcompiler.build(net.message()))
    assert data["text"] == data["file"] == "" and data["boxes"][1]["members"][0]["lines"] is None


@pytest.mark.parametrize("number", ZOO)
def test_every_layer_is_there_once(number):
    text = ZOO[number].read_text()
    graph = graph_of(text)
    data = page_data(graph, text=text)
    names = [m["name"] for box in data["boxes"] for m in box["members"]]
    assert sorted(names) == sorted(n.name for n in graph.nodes)
    lines = text.split("\n")
    for box in data["boxes"]:
        for member in box["members"]:
            first, last = member["lines"]
            excerpt = "\n".join(lines[first - 1 : last])
            assert excerpt.startswith("layer {") and excerpt.endswith("}") and f'name: "{member["name"]}"' in excerpt


# --- what is said of weights ---


def test_statistics_are_numpys():
    values = np.random.default_rng(3).standard_normal((7, 11, 13)).astype(np.float32)
    values[0, 0, :5] = 0
    told = statistics(values)
    assert told["count"] == values.size and told["zeros"] == 5 and told["odd"] == 0
    assert told["min"] == values.min() and told["max"] == values.max()
    assert told["mean"] == pytest.approx(values.mean(dtype=np.float64), abs=1e-12)
    assert told["std"] == pytest.approx(values.std(dtype=np.float64), rel=1e-12)
    expected, _ = np.histogram(values.astype(np.float64), BINS)
    assert sum(told["bins"]) == values.size
    assert np.abs(np.cumsum(told["bins"]) - np.cumsum(expected)).max() <= 1  # a value on the edge between two bins


def test_statistics_of_many_chunks(monkeypatch):
    values = np.arange(1000, dtype=np.float32)
    whole = statistics(values)
    monkeypatch.setattr("netcompiler.drawing.weighing.CHUNK", 37)
    parts = statistics(values)
    assert parts.pop("std") == pytest.approx(whole.pop("std")) and parts == whole


@pytest.mark.parametrize(
    "values, expected",
    [
        ([], {"count": 0, "odd": 0, "bins": []}),
        ([2.5, 2.5], {"min": 2.5, "max": 2.5, "std": 0, "bins": []}),
        ([np.nan, np.inf, 1, 3], {"count": 2, "odd": 2, "min": 1, "max": 3, "mean": 2, "std": 1}),
        ([np.nan], {"count": 0, "odd": 1}),
        ([-3e38, 3e38], {"min": float(np.float32(-3e38)), "max": float(np.float32(3e38))}),
        ([0, 1e-45], {"zeros": 1, "count": 2}),
    ],
)
def test_statistics_of_odd_arrays(values, expected):
    told = statistics(np.array(values, np.float32))
    assert {k: told[k] for k in expected} == expected
    json.dumps(told, allow_nan=False)


def test_statistics_of_float64_near_its_end():
    told = statistics(np.array([1.5e308, 1.5e308, -1.5e308, 1e-300, np.inf]))
    assert (told["min"], told["max"], told["zeros"], told["odd"]) == (-1.5e308, 1.5e308, 0, 1)
    assert told["mean"] == pytest.approx(3.75e307) and told["std"] == pytest.approx(1.5e308 * 0.6875**0.5)
    assert sum(told["bins"]) == told["count"] == 4 and told["bins"][-1] == 2


def test_the_page_tells_of_weights():
    graph = graph_of(NET)
    values = np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype(np.float32)
    found = {"conv": [values, np.zeros(5, np.float32)], "fc": [np.ones((7, 45), np.float32), np.ones(7, np.float32)]}
    data = page_data(weights.bind(graph, found), text=NET)
    weight, bias = data["boxes"][1]["members"][0]["blobs"]
    assert weight["stats"]["max"] == values.max() and bias["stats"]["zeros"] == 5
    assert weight["stats"]["picture"]["png"].startswith("data:image/png;base64,")
    fc = data["boxes"][3]["members"][0]["blobs"][0]
    assert fc["stats"]["mean"] == 1 and fc["stats"].get("picture") is None
    assert "stats" not in page_data(graph, text=NET)["boxes"][1]["members"][0]["blobs"][0]


def opened(picture):
    """The pixels of a picture of filters, by Pillow."""
    image = pytest.importorskip("PIL.Image")
    data = base64.b64decode(picture["png"].partition(",")[2])
    return np.asarray(image.open(io.BytesIO(data)))


def test_filters_as_a_picture():
    blue, red = np.zeros((2, 3, 2, 3), np.float32)
    blue[0, 1, 2], red[2, 0, 0] = 4, -4
    pixels = opened(filter_picture(np.stack([blue, red])))
    assert pixels.shape == (2, 7, 4), "two filters of 2 x 3 side by side, a clear line between them"
    assert (pixels[:, 3, 3] == 0).all() and (pixels[:, :3, 3] == 255).all()
    assert pixels[1, 2].tolist() == [128, 128, 255, 255], "the first channel is blue"
    assert pixels[0, 4].tolist() == [0, 128, 128, 255]
    assert pixels[0, 0].tolist() == [128, 128, 128, 255], "0 is grey"


def test_filters_of_one_channel():
    pixels = opened(filter_picture(np.array([[[[1, -1], [0, 0.5]]]], np.float32)))
    assert pixels[..., 0].tolist() == [[255, 0], [128, 191]]
    assert (pixels[..., :3] == pixels[..., :1]).all()


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (4, 3, 1, 1), (4, 3), (0, 3, 2, 2)])
def test_what_makes_no_picture(shape):
    assert filter_picture(np.ones(shape, np.float32)) is None


def test_png_is_what_pillow_reads():
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 4), np.uint8)
    assert (np.asarray(image.open(io.BytesIO(png(pixels)))) == pixels).all()


# --- the file ---


def test_nothing_is_loaded():
    text = page(graph_of(NET), text=NET)
    parsed = Page(text)
    loading = {"src", "href", "data", "action", "srcset", "poster", "background", "manifest", "ping"}
    for tag, attributes in parsed.tags:
        found = loading.intersection(attributes)
        assert not found or (tag, attributes) == ("link", {"rel": "icon", "href": "data:,"}), (tag, attributes)
        assert tag not in ("iframe", "object", "embed", "base", "form")
    (style,), (*_, script) = parsed.inside("style"), parsed.inside("script")
    assert "@import" not in style and not re.findall(r"url\((?!#)", style)
    assert not re.findall(
        r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts|import)\s*\(", script
    )
    addresses = set(re.findall(r"https?://[\w./-]+", script))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml", "http://www.w3.org/1999/xlink",
                         "http://www.w3.org/XML/1998/namespace", "http://www.w3.org/2000/xmlns/"}  # fmt: skip


def test_the_policy_allows_this_script_and_style_only():
    parsed = Page(page(graph_of(NET), text=NET))
    (policy,) = [a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data: blob:"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    for rule, content in (("script-src", parsed.inside("script")[-1]), ("style-src", parsed.inside("style")[0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'", rule
    scripts = [a for tag, a in parsed.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "net"}, {}]
    assert not [a for _, a in parsed.tags if any(name.startswith("on") or name == "style" for name in a)]


EVIL = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "--> ]]> &lt;b&gt;",
    '"><img src=x onerror=alert(1)>',
    "\u2028\u2029\\",
]


@pytest.mark.parametrize("evil", EVIL)
def test_names_never_become_markup(evil):
    quoted = evil.replace("\\", "\\\\").replace('"', '\\"')
    text = NET.replace("tiny", quoted).replace('"conv"', f'"{quoted}"') + f"# {evil}\n"
    plain = Page(page(graph_of(NET), text=NET))
    parsed = Page(page(graph_of(text), text=text))
    assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in plain.tags] and not parsed.comments
    data = json.loads(parsed.inside("script", id="net")[0])
    assert data["name"] == evil and data["text"] == text
    assert data["boxes"][1]["members"][0]["name"] == data["boxes"][1]["tops"][0]["blob"] == evil
    assert parsed.inside("title") == [f"{evil} (TEST)"]


def test_the_same_net_gives_the_same_bytes():
    assert page(graph_of(NET), text=NET) == page(graph_of(NET), text=NET)


def test_the_page_of_resnet_152_is_small():
    text = ZOO[152].read_text()
    assert len(page(graph_of(text), text=text).encode()) < 1_500_000


def test_html_without_a_name():
    assert Page(page_html(page_data(graph_of(NET.replace('name: "tiny"\n', ""))))).inside("title") == ["net (TEST)"]


# --- the front-end's sources ---


WEB = ROOT / "web"
has_sources = pytest.mark.skipif(not WEB.is_dir(), reason="the front-end's sources are not there")


@has_sources
@pytest.mark.parametrize(
    "script, names",
    [
        ("page.js", ["@dagrejs/dagre", "d3-selection", "d3-zoom"]),
        ("editor.js", ["@codemirror/view", "@lezer/common", "d3-zoom"]),
    ],
)
def test_assets_hold_the_licences_of_what_is_in_them(script, names):
    head = (ASSETS / script).read_text(encoding="utf-8").partition("*/")[0]
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]
    for name in names:
        assert f"{name} {lock[f'node_modules/{name}']['version']}\n" in head
    packages = re.findall(r"^[@\w./-]+ \d+\.\d+\.\d+$", head, re.M)
    assert len(packages) >= 8 and head.count("Copyright") >= len(packages)
    assert head.count("Permission ") + head.count("Redistribution and use") == len(packages), "each with its licence"


def text_digest(path):
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


@has_sources
def test_assets_were_built_from_these_sources():
    """Without node: by what build.js has written down."""
    built = json.loads((ASSETS / "built.json").read_text())
    files = [f.relative_to(WEB).as_posix() for f in (WEB / "src").rglob("*") if f.is_file()]
    lines = [
        f"{path}\n{text_digest(WEB / path)}\n"
        for path in sorted(["build.js", "package-lock.json", "package.json", *files])
    ]
    assert built["sources"] == hashlib.sha256("".join(lines).encode()).hexdigest(), "run `npm run build` in web/"
    assert built["assets"] == {f.name: text_digest(f) for f in ASSETS.iterdir() if f.name != "built.json"}


@has_sources
def test_versions_are_pinned():
    package = json.loads((ROOT / "web/package.json").read_text())
    for name, version in (package["dependencies"] | package["devDependencies"]).items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name


@has_sources
@pytest.mark.slow
def test_assets_are_those_of_the_sources(tmp_path):
    """Where node and the packages are there (npm ci in web/): build again, and compare."""
    if not shutil.which("node") or not (ROOT / "web/node_modules/esbuild").is_dir():
        pytest.skip("node, or web/node_modules (npm ci), is not there")
    subprocess.run(["node", "build.js", "--out", str(tmp_path)], cwd=ROOT / "web", check=True)
    built = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert built == {p.name: p.read_bytes() for p in ASSETS.iterdir()}, "run `npm run build` in web/"


# --- the command, and Python ---


def held(path):
    """The data in a page, one net or several."""
    return json.loads(Page(path.read_text(encoding="utf-8")).inside("script", id="net")[0])


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


@pytest.fixture
def trained(net):
    """Weights of the net, but for its last layer."""
    path = net.with_suffix(".caffemodel")
    rng = np.random.default_rng(5)
    blobs = {"conv": [rng.standard_normal((5, 3, 3, 3)).astype(np.float32), np.full(5, 0.25, np.float32)]}
    write_caffemodel(path, netcompiler.parse(NET), blobs, phase="TEST", level=0, stages=())
    return path


def test_the_command_writes_a_page(net, capsys):
    out = net.with_suffix(".html")
    assert main([str(net), "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n", "nothing is run"
    data = held(out)
    assert data["text"] == NET and data["file"] == "net.prototxt" and str(net.parent) not in out.read_text()
    assert (data["expand"], data["direction"], data["theme"]) == (False, "TB", "auto")
    assert not [b for box in data["boxes"] for m in box["members"] for b in m["blobs"] if "stats" in b]


def test_the_command_looks_at_weights_without_torch(net, trained):
    out = net.with_suffix(".html")
    options = [str(net), "-w", str(trained), "-o", str(out)]
    code = f"import sys; from netcompiler.cli import main; main({options!r}); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert run.stdout == f"wrote {out}\nFalse\n" and run.stderr.endswith(": fc\n"), (
        "and tells what the file does not have"
    )
    members = {m["name"]: m for box in held(out)["boxes"] for m in box["members"]}
    weight, bias = members["conv"]["blobs"]
    assert bias["stats"]["mean"] == 0.25 and weight["stats"]["count"] == 135 and "png" in weight["stats"]["picture"]
    assert "stats" not in members["fc"]["blobs"][0], "what a filler would put there says nothing"


def test_weights_that_do_not_fit(net, trained, capsys):
    net.write_text(NET.replace("num_output: 5", "num_output: 6"))
    assert main([str(net), "-w", str(trained), "-o", str(net.with_suffix(".html"))]) == 2
    assert "conv" in capsys.readouterr().err and not net.with_suffix(".html").exists()
    assert main([str(net), "-w", str(trained), "-o", str(net.with_suffix(".html")), "--weights-policy", "skip"]) == 0


def test_the_command_shapes_the_page(net):
    first = 'layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }\n'
    net.write_text(first + "".join(BLOCK.format(i, f"b{i - 1}" if i else "in") for i in range(5)))
    out = net.with_suffix(".html")
    assert main([str(net), "-o", str(out), "--fold", "5", "--expand", "--direction", "lr", "--theme", "dark"]) == 0
    data = held(out)
    assert len(data["folds"]) == 1 and (data["expand"], data["direction"], data["theme"]) == (True, "LR", "dark")
    assert main([str(net), "-o", str(out), "--fold", "6", "--outputs", "b2"]) == 0
    assert held(out)["folds"] == [] and len(held(out)["boxes"]) == 7


def test_both_phases_in_one_page(net):
    net.write_text(NET + 'layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" include { phase: TRAIN } }\n')
    out = net.with_suffix(".html")
    assert main([str(net), "-o", str(out), "--phase", "BOTH"]) == 0
    train, test = held(out)
    assert (train["phase"], test["phase"]) == ("TRAIN", "TEST")
    assert (train["totals"]["layers"], test["totals"]["layers"]) == (6, 5)
    assert Page(out.read_text()).inside("title") == ["tiny (TRAIN, TEST)"]


def test_a_net_that_does_not_build_gets_a_page(net, trained, capsys):
    net.write_text(NET.replace('"Pooling"', '"Strange"').replace("pooling_param { kernel_size: 2 stride: 2 }", ""))
    out = net.with_suffix(".html")
    assert main([str(net), "-o", str(out), "-w", str(trained)]) == 0
    assert 'unknown layer type "Strange"' in capsys.readouterr().err
    data = held(out)
    assert len(data["faults"]) == 1 and data["boxes"][1]["members"][0]["blobs"][1]["stats"]["mean"] == 0.25


def test_measured_times_are_in_the_page(net, capsys):
    out = net.with_suffix(".html")
    assert main([str(net), "-o", str(out), "--times", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert " ms\n" in told and "optimised" not in told
    data = held(out)
    times = {m["name"]: m["figures"].get("time") for box in data["boxes"] for m in box["members"]}
    assert times.pop("data") is None and all(0 < t < 5 for t in times.values())
    assert data["totals"]["time"] == pytest.approx(sum(times.values()))
    assert not [b for box in data["boxes"] for m in box["members"] for b in m["blobs"] if "stats" in b], (
        "random weights"
    )
    assert main([str(net), "--times", "--json", "--device", "cpu"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [bool(layer["seconds"]) for layer in layers] == [False, True, True, True, True]
    assert main([str(net), "--times", "--figures"]) == 2 and "no times" in capsys.readouterr().err


def test_draw_writes_a_page(net):
    out = net.with_suffix(".html")
    netcompiler.draw(graph_of(NET), out, times={"conv": 1.0}, direction="LR")
    data = held(out)
    assert data["text"] == "" and data["direction"] == "LR" and data["totals"]["time"] == 1
    netcompiler.draw(net, out, phase="BOTH")
    assert [one["text"] for one in held(out)] == [NET, NET]
    with pytest.raises(NetError, match="by suffix"):
        netcompiler.draw(net, net.with_suffix(".htm"))


def test_an_old_net_is_shown_as_it_is_written(tmp_path):
    """The lines are those of the file, whatever generation it is of."""
    path = tmp_path / "old.prototxt"
    path.write_text(
        'input: "data"\ninput_dim: 1\ninput_dim: 3\ninput_dim: 8\ninput_dim: 8\n'
        'layers {\n  layer { name: "conv" type: "conv" num_output: 4 kernelsize: 3 }\n  bottom: "data"\n  top: "conv"\n}\n'
        'layers {\n  layer { name: "relu" type: "relu" }\n  bottom: "conv"\n  top: "conv"\n}\n'
    )
    netcompiler.draw(path, path.with_suffix(".html"))
    data = held(path.with_suffix(".html"))
    assert data["text"] == path.read_text()
    assert [m["lines"] for box in data["boxes"][1:] for m in box["members"]] == [[6, 10], [11, 15]]


def squeezing():
    """Four pairs of fire modules, as SqueezeNet has them; the last one ends in a Dropout, and so is not like the others."""
    text = ['layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }']

    def layer(name, kind, bottoms, top, more=""):
        reads = " ".join(f'bottom: "{b}"' for b in bottoms)
        text.append(f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{top}" {more} }}')
        return top

    def conv(name, bottom, outputs, kernel):
        settings = f"num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2}"
        return layer(name, "Convolution", [bottom], name, f"convolution_param {{ {settings} }}")

    reads = "x"
    for i, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        thin = conv(f"f{i}s", reads, squeeze, 1)
        reads = layer(
            f"f{i}", "Concat", [conv(f"f{i}a", thin, 4 * squeeze, 1), conv(f"f{i}b", thin, 4 * squeeze, 3)], f"f{i}"
        )
        if i in (1, 3):
            reads = layer(f"p{i}", "Pooling", [reads], f"p{i}", "pooling_param { kernel_size: 2 stride: 2 }")
    layer("drop", "Dropout", [reads], reads)
    return "\n".join(text)


@pytest.mark.parametrize(
    "text", [squeezing(), *(path.read_text() for path in ZOO.values())], ids=["squeezing", *map(str, ZOO)]
)
@pytest.mark.parametrize("fold", [None, 2, 3])
def test_folds_lie_apart_or_within_each_other(text, fold):
    """What the page relies on: a copy of a fold lies within one copy of the fold around it, and copies share nothing."""
    folds = data_of(text, fold=fold)["folds"]
    sets = [[set(copy) for copy in f["copies"]] for f in folds]
    for copies in sets:
        assert sum(map(len, copies)) == len(set.union(*copies))
    for i, inner in enumerate(sets):
        for outer in sets[i + 1 :]:
            if set.union(*inner) & set.union(*outer):
                assert sum(set.union(*inner) <= copy for copy in outer) == 1, (folds[i]["names"], inner, outer)
