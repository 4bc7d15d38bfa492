"""Nothing overlaps, no text leaves its box, lines go around boxes: by the numbers."""

import os
from collections import Counter
from pathlib import Path

import pytest

from netcompiler import build, load, parse
from netcompiler.drawing.cards import card, cut, is_measured, width
from netcompiler.drawing.folding import folded, view
from netcompiler.drawing.lanes import without_long
from netcompiler.drawing.layout import lay_out
from netcompiler.drawing.model import picture
from netcompiler.errors import NetError
from netcompiler.looking import look
from tests.drawing.geometry import faults
from tests.drawing.nets import ZOO, add, block, conv, graph, layer, random_net, relu

LONG = "a_name_that_is_longer_than_any_box_is_wide_" * 3


def dense(count):
    """Each convolution reads all before it."""
    text, made = "", ["data"]
    for i in range(count):
        text += layer(f"cat{i}", "Concat", " ".join(made)) + conv(f"c{i}", f"cat{i}", 4)
        made.append(f"c{i}")
    return text


NETS = {
    "a chain": "".join(conv(f"c{i}", f"c{i - 1}" if i else "data") + relu(f"r{i}", f"c{i}") for i in range(5)),
    "blocks": "".join(block(f"b{i}", f"b{i - 1}" if i else "data") for i in range(4)),
    "long names": conv(LONG, "data") + relu("r" + LONG, LONG) + layer("s", "Slice", LONG, f"{LONG}1 {LONG}2"),
    "no names": conv("", "data", top="x") + relu("", "x"),
    "many tops": layer("s", "Slice", "data", " ".join(f"part_{i}" for i in range(8))) + add("e", "part_1", "part_6"),
    "two tops": layer("s", "Slice", "data", "a b") + add("e", "b", "a"),
    "other scripts": conv("卷积层一二三", "data") + relu("ψυχή", "卷积层一二三") + conv("👍" * 20, "卷积层一二三"),
    "apart": layer("lonely", "Input", "", more="input_param { shape { dim: 1 } }") + conv("c", "data"),
    "wide fan": "".join(conv(f"c{i}", "data", 1) for i in range(12))
    + layer("j", "Concat", " ".join(f"c{i}" for i in range(12))),
    "the same twice": add("e", "data", "data") + add("f", "data", "e"),
    "not understood": layer("x", "Strange", "data") + conv("c", "x") + layer("", "", "c", "y"),
    "dense": dense(24),
    "nothing out": layer("s", "Silence", "data", ""),
}


@pytest.mark.parametrize("across", [False, True], ids=["TB", "LR"])
@pytest.mark.parametrize("fold", [0, 2])
@pytest.mark.parametrize("name", NETS)
def test_small_nets(name, fold, across):
    found = picture(graph(NETS[name]))
    assert faults(lay_out(view(folded(found, fold) if fold else found), across)) == []


@pytest.mark.parametrize("across", [False, True], ids=["TB", "LR"])
@pytest.mark.parametrize("seed", range(12))
def test_random_nets(seed, across):
    assert faults(lay_out(view(folded(picture(graph(random_net(seed))), 2)), across)) == []


@pytest.mark.parametrize("across", [False, True], ids=["TB", "LR"])
@pytest.mark.parametrize("fold", [0, 3])
@pytest.mark.parametrize("name", ["ResNet-50-deploy", "ResNet-152-deploy", "ResNet-50-train_val"])
def test_the_zoo(name, fold, across):
    found = picture(look(ZOO / f"{name}.prototxt", inputs={"data": (8, 3, 224, 224)} if "train" in name else None)[1])
    assert faults(lay_out(view(folded(found, fold) if fold else found), across)) == []


def test_the_faults_can_be_found():
    from dataclasses import replace

    found = lay_out(view(picture(graph(NETS["blocks"]))))
    (first, x, y), (second, *_), *rest = found.cards
    assert any("overlap" in f for f in faults(replace(found, cards=((first, x, y), (second, x, y + 3), *rest))))
    assert any("goes through" in f for f in faults(replace(found, cards=tuple((c, x, y) for c, _, y in found.cards))))
    narrow = tuple((replace(c, width=c.width / 2), x, y) for c, x, y in found.cards)
    assert any("leaves its box" in f for f in faults(replace(found, cards=narrow)))
    assert any("outside" in f for f in faults(replace(found, width=found.width - 20)))


def test_every_edge_is_drawn_once():
    seen = view(folded(picture(graph(NETS["blocks"]))))
    found = lay_out(seen)
    whole = [line for line in found.lines if line.head]  # a line into a frame, which parts there, has no arrowhead
    assert Counter(e for line in whole for e in line.edges) == Counter(seen.edges)
    assert len(found.joints) == 1 and len(found.frames) == 1


LABELS = (
    layer("label", "Input", "", more="input_param { shape { dim: 2 } }")
    + "".join(
        conv(f"c{i}", f"c{i - 1}" if i else "data")
        + layer(f"fc{i}", "InnerProduct", f"c{i}", more="inner_product_param { num_output: 5 }")
        for i in range(5)
    )
    + "".join(
        layer(name, kind, f"fc{i} label")
        for i, name, kind in (
            (2, "a", "SoftmaxWithLoss"),
            (2, "b", "Accuracy"),
            (4, "c", "SoftmaxWithLoss"),
            (4, "d", "Accuracy"),
            (4, "e", "HingeLoss"),
        )
    )
)


@pytest.mark.parametrize("across", [False, True], ids=["TB", "LR"])
def test_labels_run_together_and_part_above_their_readers(across):
    seen = view(picture(graph(LABELS)))
    found = lay_out(seen, across)
    assert faults(found) == [] and len(found.joints) == 2
    lines = [(len(line.edges), bool(line.head)) for line in found.lines if all(edge.label for edge in line.edges)]
    assert sorted(lines) == [(1, True)] * 5 + [(3, False), (5, False)]
    at = {card.box.name: (x, y) for card, x, y in found.cards}
    flow = 0 if across else 1
    for joint, before, after in zip(sorted(found.joints, key=lambda p: p[flow]), ("c2", "c4"), ("a", "c"), strict=True):
        assert at[before][flow] < joint[flow] < at[after][flow]


def test_lines_end_at_boxes():
    found = lay_out(view(picture(graph(NETS["blocks"]))))
    boxes = {card.box.id: (x, y, x + card.width, y + card.height) for card, x, y in found.cards}
    for line in found.lines:
        left, top, right, bottom = boxes[line.edges[0].target]
        x, y = line.head[1]
        assert left - 3 <= x <= right + 3 and top - 3 <= y <= bottom + 3


def test_dense_nets_have_buses():
    seen = view(picture(graph(dense(24))))
    short, long = without_long(seen)
    assert len(short) + len(long) == len(seen.edges) and long
    found = lay_out(seen)
    lanes, branches = [b for b in found.buses if not b.head], [b for b in found.buses if b.head]
    assert {e for b in lanes for e in b.edges} == {e for b in branches for e in b.edges} == set(long)
    for branch in branches:  # a dot for each lane that feeds it, and where that lane runs
        assert len(branch.dots) == len(branch.edges)
    boxes = [(x, y, x + c.cell[0], y + c.cell[1]) for c, x, y in found.cards]
    assert all(max(b[2] for b in boxes) < max(x for x, _ in lane.points) <= found.width for lane in lanes)
    assert not without_long(view(picture(graph(NETS["blocks"]))))[1]


def test_lanes_beside_the_net_do_not_meet():
    found = lay_out(view(picture(graph(dense(24)))))
    runs = {}
    for bus in found.buses:
        if not bus.head:
            (x, top), (_, bottom) = bus.points[-2:]
            runs.setdefault(x, []).append((top, bottom))
    for spans in runs.values():
        spans.sort()
        assert all(end < start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


WIDTHS = [
    ("", 0),
    ("i", 2.8),
    ("conv1", 30.5),
    ("×…", 18.4),
    ("卷", 10.5),
    ("e\N{COMBINING ACUTE ACCENT}", 6.2),
]


@pytest.mark.parametrize(("text", "expected"), WIDTHS)
def test_widths(text, expected):
    assert width(text, 10) == pytest.approx(expected)


def test_widths_are_those_of_the_widest_fonts():
    """Pillow brings a font along, and a machine may have more: none is wider than the table says."""
    from PIL import ImageFont

    fonts = [(ImageFont.load_default(100), False)]
    for name, bold in (
        *((f"{family}{style}", bool(style)) for family in ("DejaVuSans", "LiberationSans") for style in ("", "-Bold")),
        ("LiberationSans-Regular", False),
        ("Arial", False),
        ("Arial Bold", True),
    ):
        try:
            fonts.append((ImageFont.truetype(f"{name}.ttf", 100), bold))
        except OSError:
            continue
    texts = [chr(c) for c in range(32, 127)] + ["×", "…", "·", "–", "res4b35_branch2a", "1 × 2048 × 14 × 14"]
    for font, bold in fonts:
        for text in texts:
            assert font.getlength(text) <= width(text, 100, bold) + 0.51 * len(text), (font.getname(), text)


def test_cut():
    assert cut("x" * 1_000_000, 13, 250) == "x" * len(cut("x" * 1_000_000, 13, 250)[:-1]) + "…"  # and it ends
    assert cut("conv1", 10, 30.5) == "conv1"
    assert cut("conv1", 10, 30) == "con…" and width("con…", 10) <= 30 < width("conv…", 10)
    assert cut("conv1", 10, 1) == "…"
    assert is_measured("res2a × 3…") and not is_measured("卷")


def test_whole_texts_are_in_the_tooltip():
    seen = view(picture(graph(NETS["long names"])))
    found = card(seen.boxes[1], seen, False)
    assert all(text.text != LONG for text in found.texts) and LONG in found.tip


def test_nothing_to_draw():
    found = lay_out(view(folded(picture(build(parse(""))))))
    assert (found.width, found.height, found.cards) == (0, 0, ())


def test_missing_library(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    with pytest.raises(NetError, match="drawing needs libraries") as e:
        lay_out(view(picture(graph(conv("c", "data")))))
    assert "netcompiler[draw]" in str(e.value)


CORPUS = os.environ.get("NETCOMPILER_CORPUS")


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS names no folder")
def test_other_peoples_nets():
    """Of a folder of nets, every twentieth, both phases, folded and not."""
    paths, drawn = sorted(Path(CORPUS or "").rglob("*.prototxt"))[::20], 0
    for path in paths:
        for phase in ("TEST", "TRAIN"):
            try:
                found = picture(look(path, phase)[1])
            except NetError:
                continue
            for one in (found, folded(found)):
                assert faults(lay_out(view(one))) == [], path
                drawn += 1
    assert drawn


def test_build_and_look_draw_alike():
    path = ZOO / "ResNet-50-deploy.prototxt"
    assert picture(build(load(path))) == picture(look(path)[1])
