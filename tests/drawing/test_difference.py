"""Two nets side by side, what differs marked: `netcompile diff -o diff.svg`, and the page around it."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import netcompiler
from netcompiler import NetError, zoo
from netcompiler.cli import main
from netcompiler.compare import compare
from netcompiler.drawing.difference import Difference, draw_difference
from netcompiler.drawing.difference_page import page
from netcompiler.drawing.marks import COLOURS, KINDS
from netcompiler.drawing.theme import INKS
from tests.drawing.geometry import faults
from tests.drawing.nets import HEAD, block, conv, relu
from tests.drawing.test_draw import parsed, texts
from tests.test_compare import DATA, NET, POOL, PROB, RELU, built

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
EXTRA = """layer { name: "extra" type: "Convolution" bottom: "conv" top: "extra"
         convolution_param { num_output: 4 kernel_size: 1 } }\n"""


def swap(old, new, text=NET):
    assert old in text
    return text.replace(old, new)


def drawn(a, b, **options):
    return Difference(compare(built(a), built(b)), ("a.prototxt", "b.prototxt"), **options)


def kind(group):
    """How a group of a picture is marked: by its class, which agrees with its rim and its badge."""
    (found,) = re.findall(r"is-(\w+)", group.get("class"))
    rims = [p.get("class") for p in group.iter(f"{SVG}path") if (p.get("class") or "").startswith("mark")]
    badges = [g.get("class") for g in group.iter(f"{SVG}g") if (g.get("class") or "").startswith("badge")]
    wanted = found in KINDS and KINDS[found].dash is not None
    assert rims == ([f"mark m-{found}"] if wanted else [])
    assert found == "same" or badges[0] == f"badge m-{found}"
    return found, [b.removeprefix("badge m-") for b in badges[found != "same" :]]


def marks(text):
    """For each net: {box: (its mark, those of its rows)} where there is one."""
    found = []
    for net in (g for g in parsed(text).iter(f"{SVG}g") if g.get("class") == "net"):
        boxes = [g for g in net.iter(f"{SVG}g") if (g.get("class") or "").startswith("box ")]
        told = {g.get("aria-label").split(",")[0]: kind(g) for g in boxes}
        found.append({name: mark for name, mark in told.items() if mark != ("same", [])})
    return found


CHANGED = ("changed", [])
CASES = [  # name; the other net; the marks in both
    ("equal", NET, {}, {}),
    (
        "a setting",
        swap("kernel_size: 2 stride: 2", "kernel_size: 2 stride: 2 pool: AVE"),
        {"pool": CHANGED},
        {"pool": CHANGED},
    ),
    (
        "one that others follow",
        swap("num_output: 5", "num_output: 6"),
        {"fc": CHANGED, "prob": ("affected", [])},
        {"fc": CHANGED, "prob": ("affected", [])},
    ),
    (
        "a type, in a stack",
        swap('"ReLU"', '"TanH"'),
        {"conv": ("changed", ["changed"])},
        {"conv": ("changed", ["changed"])},
    ),
    (
        "a layer more",
        swap(POOL, EXTRA + POOL).replace('bottom: "conv" top: "pool"', 'bottom: "extra" top: "pool"'),
        {},
        {"extra": ("added", [])},
    ),
    ("a layer less, in a stack", swap(RELU, ""), {"conv": ("changed", ["removed"])}, {}),
    ("a layer less", swap(PROB, ""), {"prob": ("removed", [])}, {}),
    ("names", swap('"pool"', '"p1"'), {"pool": ("renamed", [])}, {"p1": ("renamed", [])}),
    (
        "training",
        swap("num_output: 5", 'num_output: 5 weight_filler { type: "xavier" }'),
        {"fc": ("training", [])},
        {"fc": ("training", [])},
    ),
    (
        "not understood",
        swap('"Softmax"', '"Strange"'),
        {"prob": CHANGED},
        {"prob": CHANGED},
    ),
]


@pytest.mark.parametrize(("text", "a", "b"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_marks(text, a, b):
    drawing = drawn(NET, text)
    assert marks(drawing.svg) == [a, b]
    assert marks(drawn(text, NET).svg) == [
        {
            name: ({"added": "removed", "removed": "added"}.get(m, m), [{"removed": "added"}.get(r, r) for r in rows])
            for name, (m, rows) in side.items()
        }
        for side in (b, a)
    ]
    for panel in drawing._panels:
        assert not [*faults(panel.layout)]


def test_what_changed_is_told():
    other = swap(
        "num_output: 4 kernel_size: 3", "num_output: 4 kernel_size: 1 stride: 2 pad: 1 group: 1 bias_term: false"
    )
    drawing = drawn(NET, swap("kernel_size: 2 stride: 2", "kernel_size: 3 stride: 2"))
    assert texts(drawing.svg).count("kernel 2×2 → 3×3") == 2
    root = parsed(drawing.svg)
    (tip,) = {g.find(f"{SVG}title").text for g in root.iter(f"{SVG}g") if g.get("id") == "b-2"}
    assert tip.startswith("pool: changed\n  kernel: 2×2 → 3×3\n  receptive field: 4 × 4 → 5 × 5\npool (Pooling)")
    found = texts(drawn(NET, other).svg)
    assert found.count("kernel 3×3 → 1×1") == 2 and "and 2 more" in found


def test_heading():
    found = texts(drawn(NET, swap("num_output: 5", "num_output: 6")).svg)
    assert "a.prototxt → b.prototxt" in found
    assert "1 changed · 1 affected by others · 4 the same" in found
    assert "297 → 334 parameters (+12.5 %) · 4,068 → 4,104 MACs (+0.9 %)" in found
    assert {"changed", "shape or figures follow"} <= set(found) and not {"added", "removed"} & set(found)
    assert "no differences" in texts(drawn(NET, NET).svg)


PATHS = [
    (("old/net.prototxt", "new/net.prototxt"), ["old/net.prototxt", "new/net.prototxt"]),
    (("/x/y/a.prototxt", "/x/y/b.caffemodel"), ["a.prototxt", "b.caffemodel"]),
    (("net.prototxt", "net.prototxt"), ["net.prototxt", "net.prototxt"]),
    (("/x/net.prototxt", "/x/y/net.prototxt"), ["net.prototxt", "y/net.prototxt"]),
]


@pytest.mark.parametrize(("files", "want"), PATHS)
def test_names_of_files(files, want):
    assert Difference(compare(built(NET), built(NET)), files).names == want


# --- folding, and one height ---


def test_resnets():
    """The blocks that only the larger net has fold by themselves; what belongs together stands at one height."""
    diff = compare(*(netcompiler.build(zoo.resnet.deploy(depth)) for depth in (50, 101)))
    drawing = draw_difference(diff)
    a, b = drawing._panels
    folds = [[(len(f.fold.copies), f.fold.names[0]) for f in p.layout.frames] for p in (a, b)]
    assert [sorted(n for n, _ in f) for f in folds] == [[2, 2, 3, 5], [2, 2, 3, 5, 17]]
    assert (17, "res4b6") in folds[1] and "× 17res4b6 … res4b22" in texts(drawing.svg)
    places = [{card.box.id: y for card, _, y in p.layout.cards} for p in (a, b)]
    both = {i: j for i, j in drawing.partners.items() if i in places[0] and j in places[1]}
    apart = [abs(places[0][i] - places[1][j]) for i, j in both.items()]
    assert (
        len(apart) > 30 and sum(gap > 1 for gap in apart) <= 1
    )  # a branch of one box may stand beside any of the other
    assert not [*faults(a.layout)] and not [*faults(b.layout)]
    height = max(p.layout.height for p in draw_difference(compare(diff.b, diff.b))._panels)
    assert b.layout.height < height * 1.6  # there is one more frame than in the larger net alone


def chain(n, odd=None, outputs=8):
    """Residual blocks, one of them with another number of outputs inside."""
    text, last = HEAD, "data"
    for k in range(n):
        one = block(f"b{k}", last)
        if k == odd:
            one = one.replace("num_output: 8", f"num_output: {outputs}", 1)
        text, last = text + one, f"b{k}"
    return text


def test_no_difference_is_folded_away():
    drawing = drawn(chain(9), chain(9, odd=4, outputs=6))
    for panel in drawing._panels:
        assert [len(f.fold.copies) for f in panel.layout.frames] == [4, 4]
        assert {"b4_a", "b4_b"} <= {card.box.name for card, _, _ in panel.layout.cards}
    assert [m["b4_a"] for m in marks(drawing.svg)] == [CHANGED, CHANGED]
    assert all(not p.layout.frames for p in drawn(chain(9), chain(9, odd=4, outputs=6), expand=True)._panels)
    same = drawn(chain(9), chain(9))
    assert [[len(f.fold.copies) for f in p.layout.frames] for p in same._panels] == [[9], [9]]


def test_folds_of_one_net_only():
    """Nine blocks and five: the four more fold apart, and every layer of a fold differs in the same way."""
    drawing = drawn(chain(9), chain(5))
    found = [[len(f.fold.copies) for f in p.layout.frames] for p in drawing._panels]
    assert found == [[5, 4], [5]]
    for side, panel in zip(drawing.sides, drawing._panels, strict=True):
        for fold in panel.picture.folds:
            kinds = {tuple(tuple(side.kinds(side.picture.boxes[k])) for k in copy) for copy in fold.copies}
            assert len(kinds) == 1


def test_folds_agree():
    """A layer between two blocks parts the fold in the other net as well; one in each block parts none."""
    more = conv("extra", "b3", kernel=1, top="b3x") + "".join(
        block(f"b{k}", f"b{k - 1}" if k > 4 else "b3x") for k in range(4, 9)
    )
    drawing = drawn(chain(9), chain(4) + more)
    names = [sorted((len(f.fold.copies), f.fold.names[0]) for f in p.layout.frames) for p in drawing._panels]
    assert names == [[(4, "b0"), (5, "b4")]] * 2
    assert marks(drawing.svg)[1] == {"extra": ("added", [])}
    each = "".join(
        line + "\n" + (relu(f"r{k}", f"b{k}_a") if f'name: "b{k}_a"' in line else "")
        for k in range(9)
        for line in block(f"b{k}", f"b{k - 1}" if k else "data").splitlines()
    )
    drawing = drawn(chain(9), HEAD + each)
    assert [[len(f.fold.copies) for f in p.layout.frames] for p in drawing._panels] == [[9], [9]]
    assert marks(drawing.svg) == [{}, {"b0_a": ("changed", ["added"])}]


# --- text of strangers, bytes, themes ---

EVIL = '<script>alert(1)</script> & \\" \\x07 \\342\\200\\256 ]]>'


def test_names_are_data():
    text = swap('name: "pool"', f'name: "{EVIL}"').replace('"Softmax"', f'"{EVIL}"')
    drawing = Difference(compare(built(NET), built(text)), (f"{EVIL}.prototxt", '"><img src=x onerror=alert(2)>'))
    assert any("<script>alert(1)</script>" in t for t in texts(drawing.svg))
    html = page(drawing)
    assert html.count("<script") == 1 and "<img" not in html and "\x07" not in html and "\u202e" not in _outside(html)
    assert [tag for tag, _ in Tags(html).all if tag in ("img", "iframe", "object", "embed")] == []


def _outside(html):
    """A page without its picture, whose texts are as they stand in the nets."""
    return re.sub(r'<section id="picture".*?</section>', "", html, flags=re.DOTALL)


def test_the_same_bytes():
    files = [str(ROOT / "model_zoo" / f"ResNet-50-{kind}.prototxt") for kind in ("deploy", "train_val")]
    found = set()
    for seed in ("1", "2"):
        script = f"""
from netcompiler import load, build
from netcompiler.compare import compare
from netcompiler.drawing.difference import Difference
from netcompiler.drawing.difference_page import page
import hashlib
shapes = None, {{"data": (1, 3, 224, 224)}}
one = Difference(compare(*(build(load(f), inputs=i) for f, i in zip({files!r}, shapes))), ("a", "b"))
print(hashlib.sha256((one.svg + page(one)).encode()).hexdigest())
"""
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        found.add(subprocess.check_output([sys.executable, "-c", script], text=True, env=env))
    assert len(found) == 1


def light(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_are_seen(theme):
    paper = light(INKS[theme]["paper"])
    for colour in (*COLOURS[theme].values(), INKS[theme]["muted"]):
        low, high = sorted((paper, light(colour)))
        assert (high + 0.05) / (low + 0.05) >= 4.5
    assert len({k.sign for k in KINDS.values()}) == len(KINDS)
    dashes = [k.dash for k in KINDS.values() if k.dash is not None]
    assert len(set(dashes)) == len(dashes) == len(COLOURS[theme])


def test_themes():
    assert "prefers-color-scheme" in drawn(NET, FIVE).svg
    dark = drawn(NET, FIVE, theme="dark")
    assert "prefers-color-scheme" not in dark.svg and COLOURS["dark"]["changed"] in dark.svg
    assert COLOURS["light"]["changed"] not in dark.svg and COLOURS["light"]["changed"] not in page(dark)


FIVE = swap("kernel_size: 2", "kernel_size: 3").replace(
    "num_output: 5", 'num_output: 5 weight_filler { type: "xavier" }'
)


# --- weights ---


def test_other_weights():
    graph, rng = built(NET), np.random.default_rng(3)
    a = {
        n.name: [rng.normal(size=s.shape).astype("f") for s in n.layer.blobs(n.bottom_shapes).values()]
        for n in graph.nodes
    }
    b = {name: [x.copy() for x in blobs] for name, blobs in a.items()}
    b["fc"][1][2] += 1
    drawing = Difference(compare(graph, graph, a, b), ("a", "b"))
    assert marks(drawing.svg) == [{"fc": ("weights", [])}] * 2
    assert "1 with other weights · 5 the same" in texts(drawing.svg)
    assert "weights of bias" in page(drawing) and "by up to 1 (" in page(drawing)


# --- the page ---


class Tags(HTMLParser):
    """All tags of a page with their attributes; and what scripts and styles hold."""

    def __init__(self, html):
        super().__init__()
        self.all, self.raw, self._open = [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))
        self._open = tag if tag in ("script", "style") else None
        if self._open:
            self.raw.append([tag, ""])

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.raw[-1][1] += data

    def of(self, name):
        return [attributes for tag, attributes in self.all if tag == name]


PAGES = [
    ("differences", NET, FIVE),
    ("equal", NET, NET),
    ("many", chain(9), chain(5)),
    ("nothing in common", DATA, chain(2)),
]


@pytest.mark.parametrize(("a", "b"), [p[1:] for p in PAGES], ids=[p[0] for p in PAGES])
def test_page(a, b):
    drawing = drawn(a, b)
    html = page(drawing)
    tags = Tags(html)
    for _, attributes in tags.all:
        assert "style" not in attributes and not [k for k in attributes if k.startswith("on")]
        for name in ("href", "src", "xlink:href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), attributes
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "@import" not in html and "url(" not in html and "fetch" not in html and "innerHTML" not in html
    (policy,) = [m["content"] for m in tags.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    for tag, text in tags.raw:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        part = next(p for p in policy.split(";") if p.strip().startswith(f"{tag}-src"))
        assert f"'sha256-{digest}'" in part
    ids = [t["id"] for _, t in tags.all if "id" in t]
    assert len(ids) == len(set(ids))
    links = [t["href"][1:] for t in tags.of("a")]
    assert set(links) <= set(ids)
    rows = [t for t in tags.of("tr") if (t.get("class") or "").startswith("k-")]
    assert [t["class"] for t in rows] == [f"k-{p.status}" for p in drawing.diff.pairs if p.status != "same"]
    assert sorted(links) == sorted(t[side] for t in rows for side in ("data-a", "data-b") if side in t)
    shown = {t["id"].removeprefix("show-") for t in tags.of("input")}
    assert shown == {p.status for p in drawing.diff.pairs} - {"same"}
    assert all(f"#show-{kind}:not(:checked)) .k-{kind}" in html for kind in shown)


def test_rows_lead_to_their_boxes():
    drawing = drawn(chain(9), chain(5))
    boxes = {g.get("id"): g.get("aria-label").split(",")[0] for g in parsed(drawing.svg).iter(f"{SVG}g") if g.get("id")}
    gone = next(p for p in drawing.diff.pairs if p.b is None and drawing.diff.a.nodes[p.a].name == "b8_b")
    assert boxes[drawing.anchors[0][gone.a]] == "b5_b"  # where its block is seen


# --- the command ---


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.prototxt").write_text(NET)
    (tmp_path / "b.prototxt").write_text(FIVE)
    return tmp_path


STARTS = [
    ("x.svg", b"<svg "),
    ("x.png", b"\x89PNG"),
    ("x.pdf", b"%PDF"),
    ("x.html", b"<!doctype html>"),
    ("x.json", b"{"),
]


def test_files(capsys, files):
    wanted = [part for name, _ in STARTS for part in ("-o", name)]
    assert main(["diff", "a.prototxt", "b.prototxt", *wanted, "--theme", "light", "--expand"]) == 1
    assert capsys.readouterr().out.splitlines()[-len(STARTS) :] == [f"wrote {name}" for name, _ in STARTS]
    for name, start in STARTS:
        assert (files / name).read_bytes().startswith(start)
    ET.parse(files / "x.svg")
    assert main(["diff", "a.prototxt", "a.prototxt", "-q", "-o", "same.svg"]) == 0
    assert marks((files / "same.svg").read_text()) == [{}, {}]
    assert not [*files.glob(".*")]


WRONG = [
    (["none", "none", "-o", "x.dot"], "expected: .json, .svg, .png, .pdf, .html"),  # told before anything is read
    (["none", "none", "-o", "x"], "no suffix"),
    (["a.prototxt", "b.prototxt", "--fold", "1", "-o", "x.svg"], "expected: at least 2"),
    (["a.prototxt", "b.prototxt", "-o", "no/such/folder/x.html"], "the folder does not exist"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong(capsys, files, arguments, message):
    assert main(["diff", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err and out == ""
    assert sorted(p.name for p in files.iterdir()) == ["a.prototxt", "b.prototxt"]


def test_other_suffixes_in_python(tmp_path):
    with pytest.raises(NetError, match="chosen by suffix"):
        draw_difference(compare(built(NET), built(FIVE)), tmp_path / "x.dot")
    assert not [*tmp_path.iterdir()]


def test_a_net_and_its_weights(files):
    """The net inside a .caffemodel is drawn as well."""
    from netcompiler.binary import write_caffemodel

    graph = built(NET)
    blobs = {n.name: [np.zeros(s.shape, "f") for s in n.layer.blobs(n.bottom_shapes).values()] for n in graph.nodes}
    write_caffemodel("b.caffemodel", netcompiler.parse(swap("stride: 2", "stride: 1")), blobs)
    assert main(["diff", "a.prototxt", "b.caffemodel", "-q", "-o", "x.svg"]) == 1
    assert [m["pool"] for m in marks((files / "x.svg").read_text())] == [CHANGED, CHANGED]
