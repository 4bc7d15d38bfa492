"""The page: the data that the diagram is drawn from, and the one file that holds everything and asks for nothing."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import netcompiler
from netcompiler import weights
from netcompiler.drawing.page import ASSETS, page, page_data, page_html
from netcompiler.drawing.weighing import BINS, filter_picture, png, statistics
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
    assert [[m["name"] for m in box["members"]] for box in data["boxes"]] == [["data"], ["conv", "relu"], ["pool"], ["fc"]]
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
    assert not re.findall(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts|import)\s*\(", script)
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


EVIL = ["</script><script>alert(1)</script>", "<!--<script>", "--> ]]> &lt;b&gt;", '"><img src=x onerror=alert(1)>', "\u2028\u2029\\"]


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


def test_assets_hold_the_licences_of_what_is_in_them():
    head = (ASSETS / "page.js").read_text(encoding="utf-8").partition("*/")[0]
    lock = json.loads((ROOT / "web/package-lock.json").read_text())["packages"]
    for name in ("@dagrejs/dagre", "d3-selection", "d3-zoom"):
        assert f"{name} {lock[f'node_modules/{name}']['version']}\n" in head
    assert head.count("Permission") >= 8


def test_versions_are_pinned():
    package = json.loads((ROOT / "web/package.json").read_text())
    for name, version in (package["dependencies"] | package["devDependencies"]).items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name


@pytest.mark.slow
def test_assets_are_those_of_the_sources(tmp_path):
    """Where node and the packages are there (npm ci in web/): build again, and compare."""
    if not shutil.which("node") or not (ROOT / "web/node_modules/esbuild").is_dir():
        pytest.skip("node, or web/node_modules (npm ci), is not there")
    subprocess.run(["node", "build.js", "--out", str(tmp_path)], cwd=ROOT / "web", check=True)
    built = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert built == {p.name: p.read_bytes() for p in ASSETS.iterdir()}, "run `npm run build` in web/"
