"""The page in a real browser, as a user has it. No console error, no request to anywhere, whatever is done with it."""

import csv
import io
import re
import struct
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import netcompiler
from netcompiler import weights
from netcompiler.drawing.page import page
from netcompiler.looking import look

ROOT = Path(__file__).parents[2]
RESNET_152 = ROOT / "model_zoo/ResNet-152-deploy.prototxt"
TRAIN = ROOT / "model_zoo/ResNet-50-train_val.prototxt"
NET = """\
name: "small"
layer {
  name: "data"
  type: "Input"
  top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 20 dim: 20 } }
}
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "left" type: "Convolution" bottom: "conv" top: "left" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "right" type: "Convolution" bottom: "conv" top: "right" convolution_param { num_output: 9 kernel_size: 1 } }
layer { name: "both" type: "Concat" bottom: "left" bottom: "right" top: "both" }
layer { name: "fc" type: "InnerProduct" bottom: "both" top: "fc" inner_product_param { num_output: 3 } }
"""


PATIENCE = 30  # seconds, for a machine that is busy with other things


class Tab:
    """One page in a browser tab, and what a user sees of it."""

    def __init__(self, tab, complaints):
        self.tab, self.complaints = tab, complaints

    def __getattr__(self, name):
        return getattr(self.tab, name)

    def boxes(self):
        return self.tab.locator(".box").count()

    def selected(self):
        return self.tab.evaluate("netcompiler.diagram.selected?.member.name ?? null")

    def said(self):
        return self.tab.locator("[aria-live]").inner_text()

    def heading(self):
        return self.tab.locator("#details h2").inner_text()

    def click_layer(self, name):
        self.tab.locator(f'.box[aria-label^="{name},"]').locator(".name").click()

    def until(self, what):
        """Wait until an expression is true. From outside, since the page forbids to evaluate text."""
        end = time.monotonic() + PATIENCE
        while not self.tab.evaluate(what):
            assert time.monotonic() < end, what
            time.sleep(0.02)

    def key(self, *keys):
        for key in keys:
            self.tab.keyboard.press(key)


@pytest.fixture
def show(chromium, tmp_path):
    """Open a graph's page; afterwards nothing may have been complained of, or asked for."""
    opened = []

    def open_(*graphs, text="", wide=1440, prefers="light", fragment="", **more):
        path = tmp_path / f"net{len(opened)}.html"
        path.write_text(page(*graphs, text=text, **more), encoding="utf-8")
        context = chromium.new_context(viewport={"width": wide, "height": 900}, color_scheme=prefers)
        tab, complaints = context.new_page(), []
        tab.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        tab.on("pageerror", lambda e: complaints.append(str(e)))
        tab.on("dialog", lambda d: (complaints.append(f"dialog: {d.message}"), d.dismiss()))
        own = path.as_uri()
        tab.on("request", lambda r: None if r.url.startswith((own, "blob:", "data:")) else complaints.append(r.url))
        tab.goto(own + fragment)  # until it has loaded, and so until the diagram is drawn
        opened.append(Tab(tab, complaints))
        assert tab.evaluate("'netcompiler' in window"), complaints
        return opened[-1]

    yield open_
    for tab in opened:
        assert tab.complaints == []
        tab.context.close()


@pytest.fixture
def small(show):
    return show(netcompiler.build(netcompiler.parse(NET)), text=NET)


@pytest.fixture
def resnet(show):
    return show(netcompiler.build(netcompiler.load(RESNET_152)), fold=3)


def blocks(tab):
    """The folds of a page: for the first copy's name, how many copies there are of how many boxes."""
    folds = tab.evaluate("netcompiler.net.folds.map((f) => [f.names[0], f.copies.length, f.copies[0].length])")
    return {name: (copies, size) for name, copies, size in folds}


def frame(tab, name):
    """The frame of the repeated block whose first copy has this name, folded or not."""
    key = tab.evaluate("(name) => netcompiler.diagram.structure.frames.find((f) => f.fold.names[0] === name).key", name)
    return tab.locator(".frame", has=tab.locator(f'[data-action="fold:{key}"]'))


def deep(blocks):
    """A chain of residual blocks, `blocks` times 13 layers; the widths change from time to time."""
    lines = [
        'name: "deep"',
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 8 dim: 9 dim: 9 } } }',
    ]
    before = "x"
    for i in range(blocks):
        reads = before
        for j, wide in enumerate((4 + i // 9 % 5, 4, 8)):
            name = f"b{i}_{j}"
            lines.append(
                f'layer {{ name: "{name}" type: "Convolution" bottom: "{reads}" top: "{name}"'
                f" convolution_param {{ num_output: {wide} kernel_size: 1 }} }}"
            )
            for kind in ("BatchNorm", "Scale", "ReLU"):
                lines.append(f'layer {{ name: "{name}_{kind}" type: "{kind}" bottom: "{name}" top: "{name}" }}')
            reads = name
        lines.append(f'layer {{ name: "b{i}" type: "Eltwise" bottom: "{before}" bottom: "{reads}" top: "b{i}" }}')
        before = f"b{i}"
    return "\n".join(lines) + "\n"


# --- what there is to see ---


def test_everything_is_drawn(small):
    assert small.boxes() == 6 and small.locator(".edge").count() == 6
    assert small.locator("h1").inner_text() == "small"
    assert "7 layers" in small.locator(".sums").inner_text()
    assert [t.strip() for t in small.locator("svg.diagram .shape").all_text_contents()] == [
        "1 × 3 × 20 × 20", "1 × 5 × 18 × 18", "1 × 2 × 18 × 18", "1 × 9 × 18 × 18", "1 × 11 × 18 × 18", "1 × 3",
    ]  # fmt: skip
    assert small.locator(".pill.output").count() == 1


GEOMETRY = """() => {
  const d = netcompiler.diagram
  const rects = [...d.placed.boxes.values()]
  const bad = []
  for (const [i, p] of rects.entries()) for (const q of rects.slice(i + 1)) {
    if (p.x < q.x + q.width && q.x < p.x + p.width && p.y < q.y + q.height && q.y < p.y + p.height) bad.push([p, q])
  }
  for (const [box, g] of d.groups) {
    const card = g.querySelector(".card").getBoundingClientRect()
    for (const text of g.querySelectorAll("text")) {
      const t = text.getBoundingClientRect()
      const within = t.left >= card.left && t.right <= card.right && t.top >= card.top && t.bottom <= card.bottom + 1
      if (!within) bad.push(text.textContent)
    }
  }
  for (const pill of d.world.querySelectorAll(".pills .pill")) {
    const [p, t] = [pill.getBoundingClientRect(), pill.nextElementSibling.getBoundingClientRect()]
    if (t.left < p.left - 1 || t.right > p.right + 1) bad.push(pill.nextElementSibling.textContent)
  }
  const { bounds } = d.placed
  for (const r of rects) {
    const [right, bottom] = [bounds.x + bounds.width, bounds.y + bounds.height]
    if (r.x < bounds.x || r.y < bounds.y || r.x + r.width > right || r.y + r.height > bottom) bad.push(r)
  }
  for (const frame of d.placed.frames.keys()) {
    const f = d.placed.frames.get(frame)
    for (const [box, r] of d.placed.boxes) {
      const within = d.structure.framesAround(box).includes(frame)
      const inside = r.x > f.x && r.y > f.y && r.x + r.width < f.x + f.width && r.y + r.height < f.y + f.height
      const apart = r.x > f.x + f.width || f.x > r.x + r.width || r.y > f.y + f.height || f.y > r.y + r.height
      if (within ? !inside : !apart) bad.push(["frame", frame.key, box])
    }
  }
  return bad
}"""


@pytest.mark.parametrize("direction", ["TB", "LR"])
@pytest.mark.parametrize("folded", [True, False])
def test_nothing_overlaps_and_no_text_leaves_its_box(show, direction, folded):
    for graph in (
        netcompiler.build(netcompiler.load(RESNET_152)),
        netcompiler.build(netcompiler.load(TRAIN), "TRAIN", inputs={"data": (2, 3, 224, 224), "label": (2,)}),
        netcompiler.build(netcompiler.parse(NET.replace('"both"', f'"{"both" * 40}"').replace('"left"', '"左の枝"'))),
    ):
        tab = show(graph, expand=not folded)
        tab.evaluate(f"netcompiler.diagram.turn('{direction}'); netcompiler.diagram.lifeSize()")
        assert tab.evaluate(GEOMETRY) == []


LINES = """() => {
  const d = netcompiler.diagram
  const bad = []
  for (const edge of d.scene.edges) {
    const points = d.placed.edges.get(edge.key)
    const [from, to] = [d.placed.boxes.get(edge.from), d.placed.boxes.get(edge.to)]
    const [start, end] = [points[0], points.at(-1)]
    if (Math.abs(end.y - to.y) > 0.6 || end.x < to.x || end.x > to.x + to.width) bad.push(["end", edge.key])
    const below = from.y + from.height
    const starts = start.y >= below && start.y <= below + 30 && start.x >= from.x && start.x <= from.x + from.width
    if (!starts) bad.push(["start", edge.key])
    const path = d.lines.get(edge.key)
    const whole = path.getTotalLength()
    for (let at = 0; at <= whole; at += 5) {
      const { x, y } = path.getPointAtLength(at)
      for (const [box, r] of d.placed.boxes) {
        if (x > r.x + 1 && x < r.x + r.width - 1 && y > r.y + 1 && y < r.y + r.height - 1) bad.push(["through", edge.key, box])
      }
    }
  }
  return bad
}"""


@pytest.mark.parametrize("folded", [True, False])
def test_lines_lead_from_box_to_box_and_through_none(show, folded):
    for path, phase, inputs in (
        (ROOT / "model_zoo/ResNet-50-deploy.prototxt", "TEST", None),
        (TRAIN, "TRAIN", {"data": (2, 3, 224, 224), "label": (2,)}),
    ):
        tab = show(netcompiler.build(netcompiler.load(path), phase, inputs=inputs), expand=not folded)
        assert tab.evaluate(LINES) == []


def test_labels_do_not_push_the_trunk_aside(show):
    """A label that is read at the end goes by a lane: the boxes stand as without it."""
    tab = show(netcompiler.build(netcompiler.load(TRAIN), "TRAIN", inputs={"data": (2, 3, 224, 224), "label": (2,)}))
    data, first = (
        tab.evaluate(f"(({{x, width}}) => x + width / 2)(netcompiler.diagram.placed.boxes.get({i}))") for i in (0, 1)
    )
    assert abs(data - first) < 60


# --- find, click, follow ---


def test_search_and_jump(resnet):
    resnet.key("/")
    resnet.keyboard.type("RES4B7_branch2b")
    options = resnet.locator('[role="option"]')
    assert options.first.inner_text().split() == ["res4b7_branch2b", "Convolution"]
    assert resnet.locator(".box.hit").count() == 1
    resnet.key("Enter")
    assert resnet.selected() == resnet.heading() == "res4b7_branch2b"
    (copies, _) = blocks(resnet)["res4b1"]
    assert f"copy 7 of {copies}" in resnet.locator("#details .block").first.inner_text()
    assert resnet.evaluate("document.activeElement.getAttribute('aria-label')").startswith("res4b7_branch2b,")
    assert resnet.url.endswith("#res4b7_branch2b")
    box, canvas = resnet.locator(".box.selected").bounding_box(), resnet.locator(".canvas").bounding_box()
    assert canvas["x"] < box["x"] and box["x"] + box["width"] < canvas["x"] + canvas["width"]
    assert canvas["y"] < box["y"] and box["y"] + box["height"] < canvas["y"] + canvas["height"]


def test_search_moves_by_arrows_and_leaves_by_escape(small):
    small.locator("#search").fill("convolution")
    assert small.locator('[role="option"]').count() == 3
    small.key("ArrowDown")
    assert small.locator('[role="option"][aria-selected="true"]').inner_text().startswith("left")
    small.key("Escape")
    assert small.locator("#search").input_value() == "" and small.selected() is None
    small.locator("#search").fill("nothing like it")
    assert small.locator('[role="option"]').inner_text() == "No layer fits"
    small.key("Enter")
    assert small.selected() is None


def test_an_address_with_a_layer(show):
    tab = show(netcompiler.build(netcompiler.parse(NET)), text=NET, fragment="#right")
    assert tab.selected() == tab.heading() == "right"
    tab.evaluate("location.hash = '#conv'")
    tab.until("netcompiler.diagram.selected.member.name === 'conv'")


def test_click_shows_all_of_a_layer(small):
    small.click_layer("conv")
    details = small.locator("#details")
    assert small.heading() == "conv"
    told = " ".join(details.inner_text().split())
    for words in ("num_output 5", "kernel 3×3", "Outputs conv 1 × 5 × 18 × 18", "Inputs data 1 × 3 × 20 × 20",
                  "MACs 43.7 k", "Receptive field 3 × 3", "weight 5 × 3 × 3 × 3", "lines 8 to 14"):  # fmt: skip
        assert words in told, words
    details.locator("summary").click()
    assert "group" in details.inner_text()
    details.get_by_role("button", name="ReLU").click()
    assert small.selected() == "relu"
    details.locator(".close").click()
    assert small.selected() is None and small.heading() == "small"


def test_a_bottom_leads_to_its_maker(small):
    small.click_layer("both")
    small.locator("#details").get_by_role("button", name="right").click()
    assert small.selected() == "right"


def test_source_and_diagram_follow_each_other(small):
    small.click_layer("left")
    band = small.locator("#source .band:not(.faint)")
    line = small.locator("#source .code").bounding_box()["y"] + 18 * 15  # line 16
    assert abs(band.bounding_box()["y"] - line) < 1 and band.bounding_box()["height"] == 18
    code = small.locator("#source .code").bounding_box()
    small.mouse.click(code["x"] + 60, code["y"] + 18 * 10 + 6)  # in the middle of "conv"
    assert small.selected() == "conv"
    assert band.bounding_box()["height"] == 7 * 18
    assert small.locator("#source .string").first.inner_text() == '"small"'
    small.locator("#show-source").click()
    assert not small.locator("#source").is_visible()
    small.locator("#details").get_by_role("button", name="lines 8 to 14").click()
    assert small.locator("#source").is_visible()


def test_hover_shows_the_ways_to_inputs_and_outputs(small):
    small.locator('.box[aria-label^="left,"]').hover()
    small.wait_for_selector(".diagram.tracing")
    assert small.locator(".edge.up").count() == 2 and small.locator(".edge.down").count() == 2
    dim = small.locator(".box:not(.on)")
    assert dim.count() == 1 and dim.get_attribute("aria-label").startswith("right,")
    small.mouse.move(5, 5)
    small.wait_for_selector(".diagram:not(.tracing)")
    assert small.locator(".edge.up, .edge.down").count() == 0


# --- folds ---


def test_fold_and_unfold_one_and_all(resnet):
    folded, known = resnet.boxes(), blocks(resnet)
    assert folded == 210 - sum((copies - 1) * size for copies, size in known.values()) < 60
    assert resnet.locator(".frame.closed").count() == len(known) == 2
    (copies, size) = known["res3b1"]
    assert frame(resnet, "res3b1").locator(".times").text_content() == f"× {copies}"
    resnet.evaluate("netcompiler.diagram.select('res3b1_branch2a')")  # what is out of view cannot be clicked
    frame(resnet, "res3b1").get_by_role("button", name="Unfold").click()
    assert resnet.boxes() == folded + (copies - 1) * size and resnet.locator(".frame.closed").count() == 1
    everything = resnet.locator("#fold-all")
    assert everything.get_attribute("title") == "Unfold all blocks (e)"
    everything.click()
    assert resnet.boxes() == 210 and resnet.locator(".frame.closed").count() == 0
    assert everything.get_attribute("title") == "Fold repeated blocks (e)"
    everything.click()
    assert resnet.boxes() == folded and resnet.locator(".frame.closed").count() == 2


def test_copies_can_be_leafed_through(resnet):
    resnet.evaluate("netcompiler.diagram.select('res3b1_branch2b')")
    size = resnet.evaluate("JSON.stringify(netcompiler.diagram.placed.bounds)")
    (copies, _) = blocks(resnet)["res3b1"]
    frame(resnet, "res3b1").get_by_role("button", name="Next copy").click()
    assert resnet.selected() == resnet.heading() == "res3b2_branch2b"
    assert resnet.said() == f"res3b2, copy 2 of {copies}"
    resnet.locator("#details .block").get_by_role("button", name="Previous copy").click()
    assert resnet.selected() == "res3b1_branch2b"
    assert resnet.evaluate("JSON.stringify(netcompiler.diagram.placed.bounds)") == size, "nothing else moves"


def test_a_line_of_the_source_shows_its_copy(resnet):
    resnet.evaluate("netcompiler.diagram.select('res4b20_relu')")
    assert resnet.locator('.box[aria-label^="res4b20,"]').count() == 1
    assert resnet.locator(".frame.open").count() == 0, "nothing was unfolded for it"


def test_the_selection_stays_when_all_is_folded(resnet):
    resnet.evaluate("netcompiler.diagram.foldAll(false); netcompiler.diagram.select('res4b9_branch2a')")
    resnet.locator("#fold-all").click()
    assert resnet.selected() == "res4b9_branch2a" and resnet.locator(".box.selected").count() == 1
    assert resnet.locator(".box.selected").get_attribute("aria-label").startswith("res4b9_branch2a,")
    assert resnet.locator(".frame.open").count() == 0


# --- colours, table ---


def fills(tab):
    return tab.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.box .fill')].map(f =>"
        " [netcompiler.diagram.layers[f.dataset.layer].member.name, f.getAttribute('fill')]))"
    )


def test_colour_by_figures(small):
    kinds = fills(small)
    assert kinds["conv"] == kinds["left"] != kinds["relu"]
    choices = small.locator("#colour option").all_inner_texts()
    assert choices == ["Colour: kind", "Colour: Parameters", "Colour: MACs", "Colour: Activations", "Colour: Weights"]
    small.locator("#colour").select_option("params")
    heat = fills(small)
    strongest = min(heat, key=lambda name: sum(map(int, re.findall(r"\d+", heat[name]))))
    assert strongest == "fc", "it has most parameters, and so the darkest colour"
    assert heat["relu"] == heat["data"] == "rgb(244,246,248)"
    assert small.locator(".legend").inner_text().split() == ["Parameters", "0", "10.7", "k"]
    small.locator("#colour").select_option("kind")
    assert fills(small) == kinds


def test_colour_by_measured_time(show):
    tab = show(netcompiler.build(netcompiler.parse(NET)), text=NET, times={"conv": 2e-3, "fc": 5e-4})
    assert tab.locator("#colour").input_value() == "time", "who measured wants to see that first"
    assert tab.locator(".legend").inner_text().split() == ["Time", "0", "2", "ms"]
    assert fills(tab)["conv"] == "rgb(27,71,133)"


def names(tab):
    return tab.locator("#table tbody tr th").all_inner_texts()


def test_the_table_sorts(small):
    small.key("t")
    assert names(small) == ["data", "conv", "relu", "left", "right", "both", "fc"]
    head = small.locator("#table").get_by_role("columnheader", name="Parameters")
    head.locator("button").click()
    assert names(small)[:3] == ["fc", "conv", "right"] and head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert names(small)[-1] == "fc" and head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert names(small)[0] == "data" and head.get_attribute("aria-sort") == "none"
    small.locator("#table").get_by_role("columnheader", name="Layer").locator("button").click()
    assert names(small) == ["both", "conv", "data", "fc", "left", "relu", "right"]
    row = small.locator("#table tbody tr", has_text="right")
    row.locator("th button").click()
    assert small.selected() == "right" and "selected" in row.get_attribute("class")
    total = small.locator("#table tfoot td").all_inner_texts()
    assert total[0] == "Total" and "10.9 k" in total


def test_the_table_of_a_deep_net_has_all_rows(show):
    text = deep(20)
    tab = show(netcompiler.build(netcompiler.parse(text)), text=text)
    tab.key("t")
    tab.until("document.querySelectorAll('#table tbody tr').length === 261")
    tab.locator("#table thead button").first.click()
    tab.until("document.querySelectorAll('#table tbody tr').length === 261")
    assert names(tab)[:3] == ["b0", "b0_0", "b0_0_BatchNorm"] and names(tab)[-1] == "x"


# --- the keyboard, and who hears the page ---


def test_arrows_follow_the_edges(small):
    small.locator('.box[tabindex="0"]').focus()
    small.key("ArrowDown")
    assert small.selected() == "conv"
    small.key("Shift+ArrowDown")
    assert small.selected() == "relu"
    small.key("ArrowDown")
    assert small.selected() == "left"
    small.key("ArrowRight")
    other = small.selected()
    small.key("ArrowLeft")
    assert {other, small.selected()} == {"left", "right"}
    small.key("ArrowDown", "ArrowUp")
    assert small.selected() in ("left", "right"), "back the way that one came"
    small.key("End")
    assert small.selected() == "fc" and small.said().startswith("fc, InnerProduct 3; output fc: 1 × 3")
    small.key("Home")
    assert small.selected() == "data"
    small.key("ArrowUp")
    assert small.said() == "An input of the net"
    assert small.locator('.box[tabindex="0"]').count() == 1


def test_folds_by_keyboard(resnet):
    folded = resnet.boxes()
    resnet.evaluate("netcompiler.diagram.select('res3b4_branch2b', { focus: true })")
    resnet.key("]")
    assert resnet.evaluate("document.activeElement.getAttribute('aria-label')").startswith("res3b5_branch2b")
    resnet.key("u")
    (copies, size) = blocks(resnet)["res3b1"]
    assert resnet.boxes() == folded + (copies - 1) * size and "unfolded" in resnet.said()
    resnet.key("u")
    assert resnet.boxes() == folded
    resnet.key("e")
    assert resnet.boxes() == 210
    resnet.key("e")
    assert resnet.boxes() == folded


def test_keys_of_the_page(small):
    small.key("?")
    assert small.get_by_role("dialog").is_visible()
    small.key("Escape")
    assert not small.get_by_role("dialog").is_visible()
    scale = small.evaluate("netcompiler.diagram.transform().k")
    small.key("+")
    assert small.evaluate("netcompiler.diagram.transform().k") == pytest.approx(1.3 * scale)
    small.key("0")
    assert small.locator(".percent").inner_text() == "100 %"
    small.key("f")
    seen = small.evaluate("""() => {
      const d = netcompiler.diagram, t = d.transform(), b = d.placed.bounds
      return [...t.apply([b.x, b.y]), ...t.apply([b.x + b.width, b.y + b.height])]
    }""")
    canvas = small.locator(".canvas").bounding_box()
    assert seen[0] >= 0 and seen[1] >= 0 and seen[2] <= canvas["width"] and seen[3] <= canvas["height"]
    small.key("d")
    assert small.evaluate("document.documentElement.dataset.theme") == "dark"
    small.key("r")
    data, fc = (small.evaluate(f"netcompiler.diagram.placed.boxes.get({i})") for i in (0, 5))
    assert fc["x"] > data["x"] + 300
    small.locator('.box[tabindex="0"]').focus()
    small.key("ArrowRight")
    assert small.selected() == "conv", "arrows turn with the net"
    small.key("Escape")
    assert small.selected() is None
    for key, pane in (("s", "#source"), ("i", "#details"), ("t", "#table")):
        before = small.locator(pane).is_visible()
        small.key(key)
        assert small.locator(pane).is_visible() is not before


def test_everything_has_a_name_and_a_role(small):
    small.key("t")
    unnamed = small.evaluate("""() =>
      [...document.querySelectorAll("button, select, input, summary, [role=button], [tabindex]")]
      .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.title)).map((e) => e.outerHTML)""")
    assert unnamed == []
    assert small.get_by_role("application", name="Diagram of small").count() == 1
    assert small.get_by_role("button", name="conv, Convolution 3×3, 5; then ReLU; conv: 1 × 5 × 18 × 18").count() == 1
    for role, name in (("searchbox", ""), ("combobox", "Search layers"), ("table", "Figures of the layers of small")):
        assert name == "" or small.get_by_role(role, name=name).count() == 1, role
    ids = small.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_focus_is_seen(small):
    small.locator('.box[tabindex="0"]').focus()
    small.key("ArrowDown")
    ring = small.evaluate("getComputedStyle(document.activeElement.querySelector('.ring')).stroke")
    assert ring not in ("none", "rgba(0, 0, 0, 0)")
    small.key("Tab")
    assert small.evaluate("document.activeElement !== document.body")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read(show, theme):
    """The contrast of a box's words with what is behind them, in colours by kind and by figure."""
    tab = show(netcompiler.build(netcompiler.load(RESNET_152)), prefers=theme)
    assert tab.evaluate("document.documentElement.dataset.theme") == theme
    for colour in ("kind", "macs"):
        tab.evaluate(f"netcompiler.diagram.colourBy('{colour}')")
        worst = tab.evaluate("""() => {
          const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
          const light = (c) => {
            const [r, g, b] = c.match(/[\\d.]+/g).map((v) => linear(v / 255))
            return 0.2126 * r + 0.7152 * g + 0.0722 * b
          }
          const rgb = (c) => c.startsWith("#") ? "rgb(" + [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)) + ")" : c
          let worst = 99
          for (const g of document.querySelectorAll(".box")) {
            const fills = [...g.querySelectorAll(".fill")].map((f) => rgb(f.getAttribute("fill")))
            const texts = [...g.querySelectorAll("text")]
            texts.forEach((t, i) => {
              const [p, q] = [light(getComputedStyle(t).fill), light(fills[Math.max(i - 1, 0)])]
              worst = Math.min(worst, (Math.max(p, q) + 0.05) / (Math.min(p, q) + 0.05))
            })
          }
          return worst
        }""")
        assert worst > 4.5, colour


# --- files ---


def saved(tab, kind):
    tab.locator(".menu summary").click()
    with tab.expect_download() as download:
        tab.locator(f"#export-{kind}").click()
    path = Path(download.value.path())
    return download.value.suggested_filename, path.read_bytes()


def test_export_svg(small):
    small.click_layer("conv")
    name, data = saved(small, "svg")
    assert name == "small.svg"
    root = ElementTree.fromstring(data)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [t for e in root.iter("{http://www.w3.org/2000/svg}text") for t in ["".join(e.itertext())]]
    for word in ("conv", "Convolution3×3, 5", "1 × 5 × 18 × 18", "convolution"):
        assert word in texts, word
    allowed = {"id", "d", "x", "y", "dx", "width", "height", "rx", "transform", "viewBox", "font-family", "font-size",
               "font-weight", "fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap",
               "stroke-linejoin", "text-anchor", "marker-end", "refX", "refY", "markerWidth", "markerHeight", "orient",
               "markerUnits", "opacity", "paint-order", "cx", "cy", "r"}  # fmt: skip
    assert {a for e in root.iter() for a in e.attrib} <= allowed, "no class, no style: any viewer shows it"
    assert b"var(" not in data and b"http" not in data.replace(b"http://www.w3.org/2000/svg", b"")


def test_export_png(small):
    name, data = saved(small, "png")
    assert name == "small.png" and data.startswith(b"\x89PNG")
    wide, high = struct.unpack(">II", data[16:24])
    bounds = small.evaluate("netcompiler.diagram.placed.bounds")
    assert high > 2 * bounds["height"] and wide > 2 * bounds["width"]
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(data))
    colours = {c for _, c in image.convert("RGB").getcolors(1 << 24)}
    assert (0xCF, 0xE4, 0xF5) in colours and (0xFD, 0xE5, 0xBD) in colours


def test_export_csv(small):
    name, data = saved(small, "csv")
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    assert name == "small.csv" and [r["layer"] for r in rows] == ["data", "conv", "relu", "left", "right", "both", "fc"]
    assert rows[1]["params"] == "140" and rows[1]["macs"] == str(18 * 18 * 5 * 27) and rows[1]["line"] == "8"
    assert rows[5]["bottoms"] == "left right" and rows[5]["shapes"] == "1x11x18x18"


def test_print_and_back(small):
    small.click_layer("conv")
    pdf = small.pdf()
    assert pdf.startswith(b"%PDF")
    assert small.evaluate("netcompiler.diagram.svg.getAttribute('viewBox')") is None
    assert not small.locator("#table").is_visible() and small.selected() == "conv"


# --- nets of all sorts ---


def test_weights_are_told_of(show):
    graph = netcompiler.build(netcompiler.parse(NET))
    found = {
        n.name: [np.full(s.shape, 0.5, np.float32) for s in n.layer.blobs(n.bottom_shapes).values()]
        for n in graph.nodes
    }
    found = {name: arrays for name, arrays in found.items() if arrays}
    found["conv"][0] = np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype(np.float32)
    tab = show(weights.bind(graph, found), text=NET)
    tab.click_layer("conv")
    details = tab.locator("#details")
    assert details.locator(".histogram").count() == 1, "the bias is all 0.5"
    assert "mean 0.5" in " ".join(details.inner_text().split())
    assert details.locator(".filters img").evaluate("img => img.decode().then(() => img.naturalWidth)") > 5


EVIL = "<img src=x onerror=alert(1)>"


def test_names_are_shown_as_they_are(show):
    text = NET.replace('"conv"', f'"{EVIL}"').replace("small", "</script><script>alert(2)</script>")
    text = text.replace('"left"', r'"left\001"')  # which no XML can hold
    tab = show(netcompiler.build(netcompiler.parse(text)), text=text)
    tab.evaluate("netcompiler.diagram.select(1)")
    assert tab.heading() == EVIL
    tab.key("t", "/")
    tab.keyboard.type("onerror")
    assert tab.locator('[role="option"]').first.inner_text().startswith(EVIL)
    assert tab.locator("h1").inner_text() == "</script><script>alert(2)</script>"
    assert tab.locator("img, script:not(#net):not(:last-of-type)").count() == 0
    ElementTree.fromstring(saved(tab, "svg")[1])
    assert saved(tab, "png")[1].startswith(b"\x89PNG")


def test_a_net_with_unknown_layers(show):
    text = NET.replace('"Concat"', '"Strange"')
    _, graph = look(netcompiler.parse(text))
    tab = show(graph, text=text)
    (unknown,) = tab.locator(".box.opaque").all()
    assert unknown.get_attribute("aria-label").endswith("not understood")
    assert 'unknown layer type "Strange"' in tab.locator(".faults").inner_text()
    assert tab.locator("svg.diagram .shape").all_text_contents()[-2:] == ["?", "?"]
    tab.locator(".faults .link").click()
    assert tab.locator("#source .band:not(.faint)").is_visible()
    assert "≥" in tab.locator(".sums").inner_text()


def test_a_net_without_text_or_name(show):
    graph = netcompiler.build(netcompiler.parse(NET.replace('name: "small"\n', "")))
    tab = show(graph)
    assert tab.locator("h1").inner_text() == "net" and tab.locator("#show-source").count() == 0
    tab.click_layer("conv")
    assert tab.heading() == "conv"


def test_one_layer(show):
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }'
    tab = show(netcompiler.build(netcompiler.parse(text)), text=text)
    assert tab.boxes() == 1 and tab.locator("#fold-all").count() == 0
    tab.key("f", "e", "r", "t", "c")


def test_a_narrow_window(show):
    tab = show(netcompiler.build(netcompiler.parse(NET)), text=NET, wide=420)
    assert not tab.locator("#source").is_visible() and not tab.locator("#details").is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") == 420
    tab.locator("#show-details").click()
    assert tab.locator("#details").is_visible()


def test_train_and_test_in_one_page(show):
    """The same place, layer and panes, in the other phase."""
    inputs = {"data": (2, 3, 224, 224), "label": (2,)}
    graphs = [netcompiler.build(netcompiler.load(TRAIN), phase, inputs=inputs) for phase in ("TRAIN", "TEST")]
    assert len(graphs[0].nodes) != len(graphs[1].nodes)
    tab = show(*graphs, fold=3)
    tab.key("t")
    tab.locator("#colour").select_option("macs")
    tab.evaluate("netcompiler.diagram.select('res2a_branch2b')")
    train = tab.locator('.box[aria-label^="res2a_branch2b,"]').bounding_box()
    assert tab.locator('.phase[aria-pressed="true"]').inner_text() == "TRAIN"
    counts = tab.locator(".sums").inner_text()
    tab.locator(".phase", has_text="TEST").click()
    assert tab.locator('.phase[aria-pressed="true"]').inner_text() == "TEST"
    assert tab.evaluate("document.activeElement.textContent") == "TEST"
    assert tab.selected() == tab.heading() == "res2a_branch2b"
    assert tab.locator("#colour").input_value() == "macs" and tab.locator("#table").is_visible()
    test = tab.locator('.box[aria-label^="res2a_branch2b,"]').bounding_box()
    assert test == pytest.approx(train, abs=0.01)
    assert tab.locator(".sums").inner_text() != counts
    assert tab.evaluate(
        "netcompiler.diagram.layer('accuracy/top1') ?? netcompiler.diagram.layers.find(l => l.member.type === 'Accuracy')"
    )
    tab.key("p")
    assert tab.locator(".sums").inner_text() == counts and tab.locator("header.top, main, dialog").count() == 3
    tab.key("Escape")
    assert tab.selected() is None, "keys work once, after coming back"


def test_how_it_looks_at_first_can_be_chosen(show):
    graph = netcompiler.build(netcompiler.parse(NET))
    tab = show(graph, text=NET, direction="LR", theme="dark")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    data, fc = (tab.evaluate(f"netcompiler.diagram.placed.boxes.get({i})") for i in (0, 5))
    assert fc["x"] > data["x"] + 300


# --- how fast ---


def test_resnet_152_is_drawn_within_a_second(show):
    graph = netcompiler.build(netcompiler.load(RESNET_152))
    took = min(show(graph).evaluate("performance.getEntriesByName('drawn')[0].startTime") for _ in range(3))
    assert took < 5000, "milliseconds from opening to drawn; benchmarks/page.py has the goal"


def test_2000_layers_are_usable(show):
    text = deep(155)
    graph = netcompiler.build(netcompiler.parse(text))
    assert len(graph.nodes) > 2000
    tab = show(graph, text=text)
    times = {}
    for what, do in (
        ("unfold", "d.foldAll(false)"),
        ("trace", "d.trace(d.scene.boxes[300])"),
        ("zoom", "d.scaleBy(0.5)"),
        ("colour", "d.colourBy('macs')"),
        ("jump", "d.select('b150_1')"),
        ("fold", "d.foldAll(true)"),
    ):
        times[what] = tab.evaluate(
            f"(() => {{ const d = netcompiler.diagram, t = performance.now(); {do};"
            " d.svg.getBoundingClientRect(); return performance.now() - t }})()".replace("}}", "}")
        )
    start = time.perf_counter()
    tab.key("t")
    tab.locator("#table tbody tr").first.wait_for()
    times["table"] = 1000 * (time.perf_counter() - start)
    assert tab.selected() == "b150_1"
    assert max(times.values()) < 10000, times  # each is a fraction of it on a machine that has nothing else to do
