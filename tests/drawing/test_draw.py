"""The files: SVG, PNG, PDF and DOT; the function and the command."""

import os
import re
import runpy
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import netcompiler
from netcompiler import NetError, NetWarning
from netcompiler.cli import main
from netcompiler.drawing.raster import png
from netcompiler.drawing.theme import FILLS, INKS
from netcompiler.layers.base import CATEGORIES
from tests.drawing.nets import HEAD, ZOO, block, conv, graph, layer, relu

R50 = ZOO / "ResNet-50-deploy.prototxt"
SVG = "{http://www.w3.org/2000/svg}"
TRAINED = """name: "both"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { batch_size: 8 } transform_param { crop_size: 9 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        data_param { batch_size: 4 } transform_param { crop_size: 9 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "top1" type: "Accuracy" bottom: "fc" bottom: "label" top: "top1" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
BROKEN = HEAD + conv("c", "data") + layer("x", "Strange", "c") + conv("d", "x") + "layer { nmae: 3 }\n"


def parsed(text):
    return ET.fromstring(text)


def texts(text):
    return ["".join(t.itertext()) for t in parsed(text).iter(f"{SVG}text")]


def boxes(text):
    return [g for g in parsed(text).iter(f"{SVG}g") if g.get("class") == "box"]


def test_svg():
    text = netcompiler.draw(R50).svg
    root = parsed(text)
    assert root.tag == f"{SVG}svg" and root.get("role") == "graphics-document"
    assert root.get("aria-label") == "ResNet-50: TEST"
    assert root.find(f"{SVG}title").text == "ResNet-50"
    assert "229 layers; 25.6M parameters; 3.86G MACs" in root.find(f"{SVG}desc").text
    found = texts(text)
    assert {
        "ResNet-50",
        "TEST · 229 layers · 25.6M parameters · 3.86G MACs",
        "102.4 MB of weights · 9.634 MB of activations at the peak",
        "× 5res4b … res4f · 6 with res4a",
    } <= set(found)
    assert "Convolution7×7, s2, p3, 64" in found and "1 × 64 × 112 × 112" in found
    assert "<script" not in text and "http" not in text.replace("http://www.w3.org/2000/svg", "")
    width, height = (float(root.get(k)) for k in ("width", "height"))
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}" and width < height < 10_000


def test_each_box_has_a_name_and_a_tooltip():
    found = boxes(netcompiler.draw(R50, expand=True).svg)
    assert len(found) == 74 and all(g.get("aria-label") and g.get("role") == "img" for g in found)
    first = next(g for g in found if g.get("aria-label").startswith("conv1,"))
    assert first.get("aria-label") == "conv1, Convolution 7×7, s2, p3, 64, then BatchNorm, then Scale + bias, then ReLU"
    tip = first.find(f"{SVG}title").text
    for part in (
        "num_output: 64",
        "blob weight: 64 × 3 × 7 × 7",
        "parameters: 9,472",
        "operations per byte: 61.29",
        "receptive field: 7 × 7, stride 2 × 2, centre 0, 0",
        "line 10 to ",
        "top conv1: 1 × 64",
    ):
        assert part in tip


def test_the_same_bytes():
    """Also in another process, with other hashes, and for another theme the same places."""
    code = "import sys, netcompiler; sys.stdout.write(netcompiler.draw(sys.argv[1], fold=2).svg)"
    env = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", code, str(R50)]
    other = subprocess.check_output(command, env=env).decode()
    text = netcompiler.draw(R50, fold=2).svg
    assert other == text == netcompiler.draw(netcompiler.build(netcompiler.load(R50)), fold=2).svg
    assert re.sub("<style>.*?</style>", "", text, flags=re.S) == re.sub(
        "<style>.*?</style>", "", netcompiler.draw(R50, fold=2, theme="dark").svg, flags=re.S
    )


DOCS = Path(__file__).parents[2] / "docs"


def numbers_apart(text):
    """The text between numbers, and the numbers."""
    parts = re.split(r"(-?\d+(?:\.\d+)?)", text)
    return parts[::2], [float(n) for n in parts[1::2]]


@pytest.mark.parametrize("name", ["resnet-50", "resnet-152", "resnet-50-train_val", "resnet-50-start"])
def test_the_pictures_in_docs(name):
    """They are up to date; another processor may round a place to the next tenth of a pixel."""
    page = runpy.run_path(str(DOCS / "pictures.py"))
    (words, places), (kept_words, kept_places) = (
        numbers_apart(text)
        for text in (page["picture"](f"{name}.svg"), (page["TARGET"] / f"{name}.svg").read_text(encoding="utf-8"))
    )
    assert words == kept_words and places == pytest.approx(kept_places, abs=0.15), "run python docs/pictures.py"


def test_docs_name_their_pictures():
    page = runpy.run_path(str(DOCS / "pictures.py"))
    named = set(re.findall(r"pictures/([\w-]+\.svg)", (DOCS / "drawing.md").read_text(encoding="utf-8")))
    assert named == set(page["PICTURES"]) == {path.name for path in page["TARGET"].iterdir()}


def test_themes():
    light, dark, auto = (netcompiler.draw(R50, theme=t).svg for t in ("light", "dark", "auto"))
    assert INKS["light"]["paper"] in light and INKS["dark"]["paper"] not in light and "@media" not in light
    assert INKS["dark"]["paper"] in dark and "prefers-color-scheme: dark" in auto


def channels(colour):
    return [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]


def luminance(colour):
    """Source: WCAG 2, relative luminance."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(colour))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_and_borders_stand_out(theme):
    ink = INKS[theme]
    assert set(FILLS[theme]) == set(CATEGORIES)
    for fill, border in FILLS[theme].values():
        assert contrast(ink["text"], fill) >= 7 and contrast(ink["muted"], fill) >= 4.5
        assert contrast(border, ink["paper"]) >= 3
    for ground in ("paper", "frame"):
        assert contrast(ink["text"], ink[ground]) >= 7 and contrast(ink["line"], ink[ground]) >= 3


def seen_by(colour, kind):
    """A colour as people without one kind of cone see it. Source: Vienot, Brettel and Mollon 1999, in linear light."""
    matrix = {
        "protan": ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1)),
        "deutan": ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1)),
    }[kind]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(colour)]
    return [sum(m * c for m, c in zip(row, linear, strict=True)) for row in matrix]


@pytest.mark.parametrize("kind", ["protan", "deutan"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_borders_differ_for_colour_blind_readers(theme, kind):
    """The kinds of layer that make up most of a net."""
    often = ("convolution", "pooling", "activation", "dense", "loss")
    found = {c: seen_by(FILLS[theme][c][1], kind) for c in often}
    for a in often:
        for b in often:
            if a < b:
                assert max(abs(x - y) for x, y in zip(found[a], found[b], strict=True)) > 0.02, (a, b)


def test_the_legend_tells_of_what_there_is():
    plain = texts(netcompiler.draw(graph(conv("c", "data") + relu("r", "c"))).svg)
    assert {"data", "convolution", "activation", "output"} <= set(plain)
    assert not {"pooling", "not understood", "repeated"} & set(plain)
    odd = texts(
        netcompiler.draw(
            graph(layer("x", "Strange", "data") + "".join(block(f"b{i}", f"b{i - 1}" if i else "x") for i in range(4)))
        ).svg
    )
    assert {"not understood", "repeated", "other"} <= set(odd)


def test_shapes_tell_data_losses_and_the_rest_apart(tmp_path):
    (tmp_path / "net.prototxt").write_text(TRAINED)
    by_name = {
        g.get("aria-label").split(",")[0]: ET.tostring(g).decode()
        for g in boxes(netcompiler.draw(tmp_path / "net.prototxt").svg)
    }
    assert by_name["loss"].count("loss-rim") == 1 and "a15 15" in by_name["data"] and "a5 5" in by_name["fc"]
    assert "loss-rim" not in by_name["top1"] and 'class="edge label"' in netcompiler.draw(tmp_path / "net.prototxt").svg


ODD_NAMES = ['<b> & "quotes"', "bell \a and \x00", "]]>", "卷积 1", "\\n\\l", "e\u0301", "\ufffe"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_of_all_kinds(name, tmp_path):
    from netcompiler.text import format_message

    net = netcompiler.parse(HEAD + conv("c", "data"))
    net.layer[1].raw.name = name.replace("\x00", "\x01")
    found = netcompiler.draw(netcompiler.parse(format_message(net)))
    assert parsed(found.svg) is not None and len(boxes(found.svg)) == 2
    found.save(tmp_path / "net.dot")
    import pygraphviz

    assert len(pygraphviz.AGraph(string=(tmp_path / "net.dot").read_text()).nodes()) == 2


def test_faults_are_drawn(tmp_path):
    (tmp_path / "net.prototxt").write_text(BROKEN)
    found = netcompiler.draw(tmp_path / "net.prototxt")
    dashed = [g.get("aria-label") for g in boxes(found.svg) if " opaque" in ET.tostring(g).decode()]
    assert [label.split(",")[0] for label in dashed] == ["x", ""] and len(found.pictures[0].faults) == 3
    assert texts(found.svg).count("?") == 2
    assert "at least 584 parameters" in texts(found.svg)[1]


def test_direction():
    down, right = (parsed(netcompiler.draw(R50, direction=d).svg) for d in ("TB", "LR"))
    assert float(down.get("height")) > 3 * float(down.get("width"))
    assert float(right.get("width")) > 3 * float(right.get("height"))


def test_dialects():
    """jolibrain's regions are parts of the image where no scale is told."""
    size = "input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } shape { dim: 2 dim: 5 } }"
    text = f'layer {{ name: "in" type: "Input" top: "x" top: "r" {size} }} layer {{ name: "p" type: "ROIPooling"'
    text += ' bottom: "x" bottom: "r" top: "p" roi_pooling_param { pooled_h: 2 pooled_w: 2 } }'
    for dialect, relative in ((None, False), ("jolibrain", True)):
        assert ("relative" in netcompiler.draw(netcompiler.parse(text), dialect=dialect).svg) == relative
    with pytest.raises(NetError, match="unknown dialect"):
        netcompiler.draw(netcompiler.parse(text), dialect="jolly")


def test_both_phases(tmp_path):
    (tmp_path / "net.prototxt").write_text(TRAINED)
    found = netcompiler.draw(tmp_path / "net.prototxt", phase="BOTH")
    assert [p.phase for p in found.pictures] == ["TRAIN", "TEST"]
    words = texts(found.svg)
    assert [w.rpartition("activations")[2] for w in words if "activations" in w] == [", all kept", " at the peak"]
    assert words.index("TRAIN") < words.index("TEST") and words.count("fc") == 2 and words.count("top1") == 1
    places = [g.get("transform") for g in parsed(found.svg).iter(f"{SVG}g") if g.get("class") == "net"]
    (x1, y1), (x2, y2) = (re.findall(r"[\d.]+", p) for p in places)
    assert y1 == y2 and float(x2) > float(x1) + 100
    across = netcompiler.draw(tmp_path / "net.prototxt", phase="BOTH", direction="LR").svg
    places = [g.get("transform") for g in parsed(across).iter(f"{SVG}g") if g.get("class") == "net"]
    (x1, y1), (x2, y2) = (re.findall(r"[\d.]+", p) for p in places)
    assert x1 == x2 and float(y2) > float(y1) + 50


def test_several_graphs_and_a_message():
    net = netcompiler.load(R50)
    graphs = [netcompiler.build(net), netcompiler.build(net, "TRAIN")]
    assert len(netcompiler.draw(graphs).pictures) == 2
    assert netcompiler.draw(net).svg == netcompiler.draw(graphs[0]).svg == netcompiler.draw(R50)._repr_svg_()


WRONG = [
    ({"direction": "down"}, "unknown direction"),
    ({"theme": "pink"}, "unknown theme"),
    ({"phase": "VAL"}, "unknown phase"),
    ({"fold": 1}, "at least 2"),
    ({"path": "net.docx"}, "chosen by suffix"),
    ({"path": "nowhere/net.svg"}, "cannot be written"),
]


@pytest.mark.parametrize(("options", "told"), WRONG)
def test_wrong_arguments(options, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NetError, match=told):
        netcompiler.draw(graph(conv("c", "data")), **options)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NetError, match="nothing to draw"):
        netcompiler.draw([])


def test_png_and_pdf(tmp_path):
    for name in ("net.png", "again.png", "net.pdf"):
        netcompiler.draw(graph(conv("c", "data")), tmp_path / name)
    assert (tmp_path / "net.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    from PIL import Image

    found = netcompiler.draw(graph(conv("c", "data")))
    root = parsed(found.svg)
    with Image.open(tmp_path / "net.png") as image:
        assert image.size == tuple(round(2 * float(root.get(k)) + 0.1) for k in ("width", "height"))
        assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
        inks = image.convert("RGB").getcolors(1 << 24)
        assert len(inks) > 50  # texts are drawn, with soft edges
    data = (tmp_path / "net.pdf").read_bytes()
    assert (
        data.startswith(b"%PDF")
        and b"/Type /Page\n" in data
        and b"/FontFile" in data.replace(b"FontFile2", b"FontFile")
    )
    netcompiler.draw(graph(conv("c", "data")), tmp_path / "dark.png", theme="dark")
    with Image.open(tmp_path / "dark.png") as image:
        assert image.convert("RGB").getpixel((2, 2)) == (0x16, 0x18, 0x1C)


def test_a_picture_too_large_for_a_png():
    small = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="200000" viewBox="0 0 10 200000"/>'
    with pytest.warns(NetWarning, match="16 % of its size"):
        assert png(small, 10, 200_000).startswith(b"\x89PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png(small.replace("200000", "20"), 10, 20)


@pytest.mark.parametrize(("suffix", "library"), [("svg", "pygraphviz"), ("png", "vl_convert"), ("dot", "graphviz")])
def test_missing_libraries(suffix, library, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(NetError, match=r"librar"):
        netcompiler.draw(graph(conv("c", "data")), tmp_path / f"net.{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_dot(tmp_path):
    import pygraphviz

    text = "".join(block(f"b{i}", f"b{i - 1}" if i else "data") for i in range(3)) + layer("x", "Strange", "b2")
    netcompiler.draw(graph(text), tmp_path / "net.dot")
    found = pygraphviz.AGraph(string=(tmp_path / "net.dot").read_text())
    assert len(found.nodes()) == len(found.edges()) == 5
    assert found.get_node("n1").attr["label"] == r"b0_a\nConvolution 3×3, p1, 8"
    assert found.get_edge("n0", "n1").attr["label"] == "2 × 8 × 32 × 32"
    assert [s.graph_attr["label"] for s in found.subgraphs()[0].subgraphs()] == ["x 3  b0 ... b2"]
    assert "dashed" in found.get_node("n10").attr["style"]
    netcompiler.draw([graph(text), graph(text)], tmp_path / "two.dot", direction="LR")
    assert len(pygraphviz.AGraph(string=(tmp_path / "two.dot").read_text()).nodes()) == 10
    odd = graph('name: "<a<>" ' + layer("<b", "Odd>", "data") + layer("c", "Odd", "<b"))
    netcompiler.draw(odd, tmp_path / "odd.dot")
    found = pygraphviz.AGraph(string=(tmp_path / "odd.dot").read_text())
    assert found.name == "<a<>" and found.get_node("n1").attr["label"] == r"<b\nOdd>"


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_command(capsys, tmp_path):
    outs = [tmp_path / f"net.{s}" for s in ("svg", "png", "pdf", "dot", "prototxt", "json", "csv")]
    code, out, err = run(capsys, R50, *(a for o in outs for a in ("-o", o)))
    assert (code, err) == (0, "") and out.splitlines() == [f"wrote {o}" for o in outs]
    assert outs[0].read_text() == netcompiler.draw(R50).svg
    assert netcompiler.load(outs[4]) == netcompiler.load(R50) and '"run"' not in outs[5].read_text()


def test_options_of_the_command(capsys, tmp_path):
    target = tmp_path / "net.svg"
    for options, like in [
        (("--expand",), {"expand": True}),
        (("--fold", "2"), {"fold": 2}),
        (("--direction", "lr"), {"direction": "LR"}),
        (("--theme", "dark"), {"theme": "dark"}),
        (("--phase", "both"), {"phase": "BOTH"}),
        (("--input", "data=7,3,224,224"), {"inputs": {"data": (7, 3, 224, 224)}}),
    ]:
        assert run(capsys, R50, "-o", target, *options)[0] == 0
        assert target.read_text() == netcompiler.draw(R50, **like).svg
    assert run(capsys, R50, "-o", target, "--outputs", "res2a,pool1")[0] == 0
    assert len(boxes(target.read_text())) == 8
    assert 'no blob "res9"' in run(capsys, R50, "-o", target, "--outputs", "res9")[2]


def test_faults_are_told(capsys, tmp_path):
    (tmp_path / "net.prototxt").write_text(BROKEN)
    code, out, err = run(capsys, tmp_path / "net.prototxt", "-o", tmp_path / "net.svg", "-o", tmp_path / "net.json")
    assert code == 0 and err.count("netcompile: warning: ") == 3
    assert 'unknown layer type "Strange"' in err and 'no field "nmae"' in err and "net.prototxt:3:" in err
    assert (tmp_path / "net.svg").exists() and (tmp_path / "net.json").exists()
    code, out, err = run(capsys, tmp_path / "net.prototxt", "-o", tmp_path / "a.svg", "-o", tmp_path / "a.prototxt")
    assert code == 2 and not (tmp_path / "a.prototxt").exists()  # it would lose what was not understood


def test_figures_and_a_picture(capsys, tmp_path):
    code, out, _ = run(capsys, R50, "--figures", "-q", "-o", tmp_path / "net.svg")
    assert code == 0 and "MACs" in out and (tmp_path / "net.svg").read_text() == netcompiler.draw(R50).svg


def test_a_picture_beside_a_run(capsys, tmp_path):
    (tmp_path / "net.prototxt").write_text(HEAD + conv("c", "data"))
    code, out, _ = run(
        capsys, tmp_path / "net.prototxt", "--device", "cpu", "-o", tmp_path / "n.svg", "-o", tmp_path / "n.npz"
    )
    assert code == 0 and "params" in out and boxes((tmp_path / "n.svg").read_text())


def test_both_is_for_pictures(capsys, tmp_path):
    for target in ("net.npz", "net.json"):
        code, _, err = run(capsys, R50, "--phase", "both", "-o", tmp_path / "net.svg", "-o", tmp_path / target)
        assert code == 2 and "--phase BOTH is for pictures" in err
    assert run(capsys, R50, "--phase", "both")[0] == 2


def test_neither_dot_nor_torch(tmp_path):
    """Drawing needs no command of the system, and starts no torch."""
    code = "import sys; from netcompiler.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    command = [
        sys.executable,
        "-c",
        code,
        str(R50),
        *(a for s in ("svg", "png", "pdf", "dot") for a in ("-o", f"net.{s}")),
    ]
    env = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "False" and found.stderr == ""
    assert (tmp_path / "net.svg").read_text() == netcompiler.draw(R50).svg


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fold", "1", "-o", "net.svg", "-o", "net.npz"], "too small"),
        (["--phase", "BOTH", "-o", "net.svg", "-o", "net.csv"], "--phase BOTH is for pictures"),
    ],
    ids=["fold", "both phases"],
)
def test_what_cannot_be_is_told_before_anything_is_written(arguments, message, tmp_path, monkeypatch, capsys):
    from netcompiler.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }'
    )
    assert main(["net.prototxt", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["net.prototxt"]
