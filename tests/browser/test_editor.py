"""The editor in a real browser, as a user has it: type, see, fix, save. No console error, no request to anywhere else."""

import re
import threading
import time

import pytest

from netcompiler.serve.analysis import State
from netcompiler.serve.folder import Folder
from netcompiler.serve.server import Editor

NET = """\
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 20 dim: 20 } } }
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "pool"
  type: "Pooling"
  bottom: "conv"
  top: "pool"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 }
}
"""
DATA = """\
layer { name: "d" type: "Data" top: "data" top: "label" data_param { batch_size: 7 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 10 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" include { phase: TRAIN } }
"""
TEST = State()
PATIENCE = 60  # seconds; on a machine that is busy with other things


class Desk:
    """A tab with the editor in it, and what a user does there."""

    def __init__(self, tab, editor, url):
        self.tab, self.editor = tab, editor
        self.wrong = []  # console messages, exceptions, requests that go elsewhere
        self.expected = ()  # parts of such messages that a test means to cause
        tab.on("console", lambda m: m.type in ("error", "warning") and self.wrong.append(m.text))
        tab.on("pageerror", lambda e: self.wrong.append(str(e)))
        tab.on("dialog", lambda d: (self.wrong.append(f"dialog: {d.message}"), d.dismiss()))
        tab.on("request", self.asked)
        tab.goto(url)

    def asked(self, request):
        if not request.url.startswith((self.editor.address, "blob:", "data:")):
            self.wrong.append(f"request: {request.url}")

    def ready(self):
        self.tab.wait_for_selector("body[data-answered]", timeout=1000 * PATIENCE)
        return self

    def settled(self):
        """Wait until the editor has the answer for the text as it stands: what is shown is of this very text."""
        self.until(
            lambda: self.tab.evaluate("!netcompiler.follower.asking && !netcompiler.follower.stale"), "no answer"
        )
        return self

    def until(self, look, what=None):
        """Wait until something is so. Returns it."""
        end = time.monotonic() + PATIENCE
        while not (found := look()):
            assert time.monotonic() < end, what or f"not so within {PATIENCE} s; {self.problems}:\n{self.text[-900:]}"
            time.sleep(0.02)
        return found

    def see(self, selector, text=None):
        """Wait for an element that is shown, and return it."""
        found = self.tab.locator(selector, has_text=text) if text is not None else self.tab.locator(selector)
        found.first.wait_for(state="visible", timeout=1000 * PATIENCE)
        return found.first

    def press(self, name):
        self.tab.get_by_role("button", name=name, exact=True).first.click()

    def choose(self, menu, item):
        self.press(menu)
        self.tab.get_by_role("menuitem", name=item).first.click()

    @property
    def text(self):
        return self.tab.evaluate("netcompiler.text.doc.toString()")

    @property
    def problems(self):
        return self.tab.locator(".count").inner_text()

    @property
    def shown(self):
        """The names in the diagram."""
        return self.tab.locator("[data-box] .name").all_text_contents()

    @property
    def figures(self):
        return self.tab.locator(".figures-line").inner_text()

    def cursor(self, before, after=""):
        """Put the cursor between two pieces of text."""
        at = self.text.index(before + after) + len(before)
        self.tab.evaluate("(at) => netcompiler.text.goTo(at)", at)

    def type(self, text, at=None):
        if at is not None:
            self.cursor(*at)
        self.tab.keyboard.type(text)

    def replace(self, old, new):
        """Select a piece of text and type over it."""
        at = self.text.index(old)
        self.tab.evaluate(
            "([anchor, head]) => netcompiler.text.view.dispatch({ selection: { anchor, head } })", [at, at + len(old)]
        )
        self.tab.evaluate("netcompiler.text.view.focus()")
        if new:
            self.tab.keyboard.type(new)
            self.tab.keyboard.press("Escape")  # of what is offered
        else:
            self.tab.keyboard.press("Delete")

    def marked(self):
        """The texts that have an error's mark."""
        return self.tab.locator(".cm-lintRange-error").all_inner_texts()

    def offered(self):
        """What completion offers, once it does."""
        self.see(".cm-tooltip-autocomplete li")
        return self.tab.locator(".cm-tooltip-autocomplete .cm-completionLabel").all_inner_texts()

    def take(self, label):
        """Take an offer by the keyboard."""
        self.until(lambda: label in self.offered())
        time.sleep(0.1)  # for 75 ms after it has come up a list leaves all keys to the text, Enter and the arrows too
        down = self.offered().index(label) - self.place_in_list()
        for _ in range(abs(down)):
            self.tab.keyboard.press("ArrowDown" if down > 0 else "ArrowUp")
        assert self.offered()[self.place_in_list()] == label
        self.tab.keyboard.press("Enter")

    def place_in_list(self):
        """Which offer is selected, from 0."""
        rows = self.tab.locator(".cm-tooltip-autocomplete li")
        return rows.evaluate_all("(rows) => rows.findIndex((row) => row.ariaSelected)")


@pytest.fixture
def open_editor(chromium, tmp_path):
    """Starts an editor for a folder with files, and opens it in a tab. In the end nothing may have gone wrong."""
    running = []

    def start(files=(("small.prototxt", NET),), only="small.prototxt", state=TEST, url=None, **context):
        for name, text in dict(files).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        editor = Editor(Folder(tmp_path / only if only else tmp_path), state)
        thread = threading.Thread(target=editor.serve_forever, args=(0.05,))
        thread.start()
        tabs = chromium.new_context(**{"viewport": {"width": 1400, "height": 860}, **context})
        tabs.set_default_timeout(1000 * PATIENCE)
        desk = Desk(tabs.new_page(), editor, url(editor) if url else editor.url)
        running.append((desk, editor, thread, tabs))
        return desk

    yield start
    for _, editor, thread, tabs in running:
        tabs.close()
        editor.shutdown()
        editor.close()
        thread.join()
    for desk, *_ in running:
        assert not [w for w in desk.wrong if not any(part in w for part in desk.expected)], desk.wrong


@pytest.fixture
def desk(open_editor):
    return open_editor().ready()


def test_a_file_is_shown(desk, tmp_path):
    assert desk.text == NET and desk.shown == ["data", "conv", "pool"] and desk.problems == "No problems"
    assert desk.tab.title() == "small.prototxt"
    assert re.match(r"4 layers\s+140 Parameters", desk.figures)
    assert "#" not in desk.tab.url and desk.editor.token not in desk.tab.content()
    assert desk.see(".tok-message", "convolution_param") and desk.see(".tok-enum", "MAX")


def test_an_error_is_shown_at_its_place_and_goes_when_it_is_mended(desk):
    desk.replace("num_output: 5", "num_outptu: 5")
    desk.until(lambda: "num_outptu: 5" in desk.marked())
    assert "error" in desk.problems
    line = desk.tab.locator(".cm-line", has=desk.tab.locator(".cm-lintRange-error", has_text="num_outptu")).inner_text()
    assert line == "  convolution_param { num_outptu: 5 kernel_size: 3 }"
    desk.tab.locator(".count").click()
    item = desk.see(".problems li", "num_outptu")
    assert item.locator(".where").inner_text() == "8:23" and "did you mean" in item.inner_text()
    desk.tab.locator(".cm-lintRange-error", has_text="num_outptu").first.hover()
    assert 'ConvolutionParameter has no field "num_outptu"' in desk.see(".cm-tooltip .told", "num_outptu").inner_text()
    desk.tab.mouse.move(900, 20)
    desk.replace("num_outptu", "num_output")
    desk.until(lambda: desk.problems == "No problems" and not desk.marked())


def test_what_is_expected_and_given_is_told(desk):
    desk.replace("kernel_size: 3", "kernel_size: 30")
    desk.until(lambda: "kernel_size: 30" in desk.marked())
    desk.tab.locator(".cm-lintRange-error").first.hover()
    told = desk.see(".cm-tooltip .told").inner_text()
    assert '"conv" (Convolution)' in told and "expected" in told and "got" in told and "30" in told


def test_a_problem_is_a_link_to_its_place(desk):
    desk.replace('bottom: "conv"\n  top: "pool"', 'bottom: "convv"\ntop: "pool"')
    desk.settled()
    assert desk.problems == "1 error" and desk.marked() == ['bottom: "convv"']
    desk.tab.evaluate("netcompiler.text.goTo(0)")
    desk.tab.keyboard.press("F8")
    desk.until(lambda: desk.tab.locator(".place").inner_text().startswith("Line 14,"))
    desk.tab.evaluate("netcompiler.text.goTo(0)")
    desk.tab.locator(".count").click()
    desk.see(".problems button", "convv").click()
    desk.until(lambda: desk.tab.locator(".place").inner_text().startswith("Line 14, column 3"))


def test_the_diagram_and_the_figures_follow(desk):
    desk.replace("num_output: 5", "num_output: 7")
    desk.until(lambda: "196 Parameters" in desk.figures or "196" in desk.figures)
    assert desk.see("[data-box]", "3×3, 7")
    desk.tab.keyboard.press("Control+End")
    desk.type('layer { name: "new" type: "Softmax" bottom: "pool" top: "new" }')
    desk.until(lambda: desk.shown == ["data", "conv", "pool", "new"])
    desk.tab.get_by_role("tab", name="Figures").click()
    assert desk.see("#table tbody tr", "new")
    desk.tab.keyboard.press("Control+z")


def test_half_a_word_leaves_the_diagram_alone(desk):
    width = desk.tab.locator(".canvas").bounding_box()["width"]
    desk.type("  stride", at=("kernel_size: 3", " }"))
    desk.tab.keyboard.press("Escape")
    note = desk.see(".stale")
    assert note.inner_text() == "As it was before the fault in line 8" and desk.shown == ["data", "conv", "pool"]
    assert desk.tab.locator(".canvas").bounding_box()["width"] == width
    desk.type(": 2")
    note.wait_for(state="hidden")
    desk.until(lambda: desk.see("[data-box]", "s2"))
    assert desk.problems == "No problems"


def test_an_unknown_layer_is_drawn_and_the_rest_as_well(desk):
    desk.replace('"Pooling"', '"Pooool"')
    desk.until(lambda: desk.tab.locator("[data-box].opaque").count() == 1)
    assert desk.shown == ["data", "conv", "pool"] and "1 error" in desk.problems


def test_fields_are_offered_where_they_belong(desk):
    desk.type(" di", at=("kernel_size: 3", " }"))
    assert desk.offered()[0] == "dilation"
    desk.take("dilation")
    desk.type("2")
    desk.until(lambda: "kernel_size: 3 dilation: 2 }" in desk.text)
    desk.type("\n", at=('name: "pool"', "\n"))
    desk.type("param")
    offered = desk.offered()
    assert "pooling_param" not in offered and "param" in offered  # it stands there already, and only once
    for _ in "param":
        desk.tab.keyboard.press("Backspace")
    desk.type("inc")
    desk.take("include")
    desk.type("ph")
    desk.take("phase")
    desk.take("TRAIN")
    desk.until(lambda: "include {\n    phase: TRAIN\n  }" in desk.text)


def test_layer_types_and_blobs_are_offered(desk):
    desk.tab.keyboard.press("Control+End")
    desk.type("layer {\n")
    desk.type('name: "x"\ntype: "')
    desk.type("Soft")
    assert set(desk.offered()) >= {"Softmax", "SoftmaxWithLoss"}
    desk.take("Softmax")
    desk.type("\n")
    desk.type("bot")
    desk.take("bottom")
    assert desk.offered() == ["pool", "conv", "data"]
    desk.take("pool")
    desk.type("\n")
    desk.type("top")
    desk.take("top")
    desk.take("x")
    desk.until(lambda: desk.shown == ["data", "conv", "pool", "x"])
    assert desk.text.endswith('layer {\n  name: "x"\n  type: "Softmax"\n  bottom: "pool"\n  top: "x"\n}')


def test_a_whole_layer_is_offered(desk):
    desk.tab.keyboard.press("Control+End")
    desk.type("Inner")
    desk.take("InnerProduct")
    desk.until(lambda: "inner_product_param {" in desk.text)
    for _ in range(2):
        desk.tab.keyboard.press("Tab")
    desk.type("num")
    desk.take("num_output")
    desk.type("10")
    desk.until(lambda: desk.problems == "No problems" and len(desk.shown) == 4, desk.text)
    assert 'bottom: "pool"' in desk.text[-160:]


def test_what_is_offered_is_explained(desk):
    desk.type(" dila", at=("kernel_size: 3", " }"))
    desk.see(".cm-completionInfo", "dilation")
    box = desk.tab.locator(".cm-completionInfo").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    uppermost = "([x, y]) => document.elementFromPoint(x, y).closest('.cm-completionInfo') !== null"
    assert desk.tab.evaluate(uppermost, [x, y]), box


def test_enter_behind_a_whole_value_is_a_new_line(desk):
    desk.cursor("pool: MAX")
    for _ in "MAX":
        desk.tab.keyboard.press("Backspace")
    desk.type("AV")
    assert desk.offered() == ["AVE"]
    desk.type("E")
    desk.tab.locator(".cm-tooltip-autocomplete").wait_for(state="detached")
    desk.type("\n")
    assert "pool: AVE\n" in desk.text


def test_words_that_javascript_has_a_meaning_for(desk):
    desk.tab.keyboard.press("Control+End")
    desk.type("constructor: ")
    desk.tab.keyboard.press("Control+Space")
    desk.type('\nlayer {\ntype: "constructor"\n')
    desk.type("na")
    assert desk.offered()[0] == "name"


def test_nothing_is_offered_in_a_comment(desk):
    desk.tab.keyboard.press("Control+End")
    desk.type("# lay")
    desk.tab.keyboard.press("Control+Space")
    time.sleep(0.4)
    assert desk.tab.locator(".cm-tooltip-autocomplete").count() == 0


def test_the_cursor_selects_in_the_diagram_and_a_click_there_moves_the_cursor(desk):
    desk.cursor("kernel_size: 2")
    assert desk.see("[data-box].selected .name").text_content() == "pool"
    assert desk.see(".of-layer", "pool").inner_text().startswith("pool\nPooling\n→ 1 × 5 × 9 × 9")
    desk.tab.locator("[data-box] .name", has_text="conv").click()
    desk.until(lambda: desk.tab.locator(".place").inner_text() == "Line 3, column 1")
    assert desk.tab.locator(".cm-here").count() == 7
    desk.tab.locator("[data-box] text", has_text="ReLU").click()
    desk.until(lambda: desk.tab.locator(".place").inner_text() == "Line 10, column 1")
    desk.cursor('name: "small"')
    desk.until(lambda: desk.tab.locator("[data-box].selected").count() == 0)


def test_what_is_selected_stays_in_view_beside_the_details(open_editor):
    desk = open_editor(viewport={"width": 1100, "height": 800}).ready()
    desk.cursor("kernel_size: 2")
    desk.see("[data-box].selected")
    desk.press("Details")
    desk.see(".details", "kernel")
    desk.tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    canvas, box = (desk.tab.locator(s).bounding_box() for s in (".canvas", "[data-box].selected rect >> nth=0"))
    assert canvas["x"] <= box["x"] and box["x"] + box["width"] <= canvas["x"] + canvas["width"], (canvas, box)


def test_places_hold_while_the_text_moves(desk):
    """The diagram's places are those of an older text until the server has answered."""
    desk.tab.route("**/api/analyse", lambda route: route.abort())
    desk.expected = ("ERR_FAILED",)
    desk.cursor("", 'name: "small"')
    desk.type("# one\n# two\n# three\n")
    desk.tab.locator("[data-box] .name", has_text="pool").click()
    desk.until(lambda: desk.tab.locator(".place").inner_text() == "Line 14, column 1")
    assert "does not answer" in desk.see(".health").inner_text()
    desk.tab.unroute("**/api/analyse")
    desk.until(lambda: desk.tab.locator(".health").inner_text() == "")


def test_from_a_bottom_to_its_maker(desk):
    desk.cursor('bottom: "co', 'nv"\n  top: "pool"')
    desk.tab.keyboard.press("F12")
    desk.until(lambda: desk.tab.locator(".place").inner_text().startswith("Line 10,"))  # the layer in place


def test_saved(desk, tmp_path):
    file = tmp_path / "small.prototxt"
    save = desk.tab.get_by_role("button", name="Save")
    assert save.is_disabled()
    desk.type("# mine\n", at=("",))
    assert desk.see(".dirty") and desk.tab.title().startswith("● ") and not save.is_disabled()
    assert file.read_text() == NET
    desk.tab.keyboard.press("Control+s")
    desk.until(lambda: file.read_text() == "# mine\n" + NET)
    desk.tab.locator(".dirty").wait_for(state="hidden")
    for _ in range(2):  # the line's end is a change of its own
        desk.tab.keyboard.press("Control+z")
    desk.press("Save")
    desk.until(lambda: file.read_text() == NET)


def test_a_change_by_another_program_is_shown(desk, tmp_path):
    desk.cursor("kernel_size: 2")
    (tmp_path / "small.prototxt").write_text(NET.replace('name: "pool"', 'name: "theirs"'))
    desk.until(lambda: '"theirs"' in desk.text)
    desk.until(lambda: desk.shown == ["data", "conv", "theirs"])
    assert desk.tab.locator(".place").inner_text().startswith("Line 16,")  # the cursor stays
    assert desk.tab.locator(".dirty").is_hidden()
    assert "Another program" in desk.see(".notice").inner_text()


@pytest.mark.parametrize("answer", ["Keep mine", "Take the file's", "Cancel"])
def test_two_changes_at_once(desk, tmp_path, answer):
    desk.expected = ("409 (Conflict)",)
    file = tmp_path / "small.prototxt"
    desk.type("# mine\n", at=("",))
    file.write_text("# theirs\n" + NET)
    assert "so have you" in desk.see(".banner").inner_text()
    assert desk.text == "# mine\n" + NET and file.read_text() == "# theirs\n" + NET
    desk.tab.keyboard.press("Control+s")
    dialog = desk.see("dialog")
    assert "changed by another program" in dialog.inner_text()
    assert "# theirs" in dialog.inner_text() and "# mine" in dialog.inner_text()
    assert file.read_text() == "# theirs\n" + NET
    desk.press(answer)
    dialog.wait_for(state="detached")
    if answer == "Keep mine":
        desk.until(lambda: file.read_text() == "# mine\n" + NET)
    else:
        time.sleep(0.3)
        assert file.read_text() == "# theirs\n" + NET
    assert desk.text == {"Take the file's": "# theirs\n"}.get(answer, "# mine\n") + NET
    if answer != "Cancel":
        desk.tab.locator(".banner").wait_for(state="hidden")
        assert desk.tab.locator(".dirty").is_hidden()


def test_a_deleted_file_can_be_written_again(desk, tmp_path):
    desk.expected = ("409 (Conflict)",)
    file = tmp_path / "small.prototxt"
    file.unlink()
    assert "deleted" in desk.see(".banner").inner_text()
    desk.tab.keyboard.press("Control+s")
    desk.see("dialog")
    desk.press("Write it again")
    desk.until(lambda: file.exists() and file.read_text() == NET)
    desk.tab.locator(".banner").wait_for(state="hidden")


def test_open_and_the_question_about_unsaved_changes(open_editor):
    desk = open_editor({"a.prototxt": NET, "deep/b.prototxt": DATA}, only=None).ready()
    assert desk.text == "" and "no layer yet" in desk.see(".empty").inner_text()
    desk.tab.locator(".empty button", has_text="a.prototxt").click()
    desk.until(lambda: desk.shown == ["data", "conv", "pool"])
    desk.type("# mine\n", at=("",))
    for answer, text in (("Cancel", "# mine\n" + NET), ("Discard", DATA)):
        desk.tab.keyboard.press("Control+o")
        desk.see("dialog")
        desk.tab.keyboard.type("b.pro")
        assert desk.tab.locator("dialog .files li").all_inner_texts() == ["deep/b.prototxt"]
        desk.tab.locator("dialog .files button").click()
        desk.see("dialog", "Save the changes to a.prototxt?")
        desk.press(answer)
        desk.until(lambda text=text: desk.text == text)


def test_the_list_of_files_keeps_no_key_waiting(open_editor, tmp_path):
    desk = open_editor({"a.prototxt": NET, "b.prototxt": DATA}, only=None).ready()
    desk.tab.route("**/api/files*", lambda route: None)  # never answered
    desk.tab.keyboard.press("Control+o")
    desk.type("b.pro\n")
    desk.until(lambda: desk.text == DATA)


def test_a_file_that_is_new_in_the_folder_is_listed(open_editor, tmp_path):
    desk = open_editor({"a.prototxt": NET}, only=None).ready()
    (tmp_path / "new.prototxt").write_text(DATA)
    desk.tab.keyboard.press("Control+o")
    desk.see("dialog .files", "new.prototxt")


@pytest.mark.parametrize("width", [1400, 1000, 700, 420])
def test_nothing_sticks_out_of_the_window(open_editor, width):
    """However wide the window: the table of figures, the details and the text scroll inside of their own panes."""
    desk = open_editor(viewport={"width": width, "height": 800}).ready()
    desk.replace('name: "conv"', f'name: "{"long_" * 30}"')
    desk.settled()
    desk.cursor("kernel_size: 2")
    for tab in ("Diagram", "Figures"):
        desk.tab.get_by_role("tab", name=tab).click()
        for _ in range(2):  # with the details and without
            desk.press("Details")
            assert desk.tab.evaluate("document.scrollingElement.scrollLeft") == 0
            boxes = {s: desk.tab.locator(s).bounding_box() for s in (".top", ".left", ".right", ".figures-line")}
            assert all(b["x"] >= 0 and b["x"] + b["width"] <= width for b in boxes.values()), boxes
            assert boxes[".figures-line"]["y"] + boxes[".figures-line"]["height"] <= 800


def test_a_new_file(open_editor, tmp_path):
    desk = open_editor({"a.prototxt": NET}, only=None).ready()
    desk.expected = ("409 (Conflict)",)
    desk.choose("Presets", "ResNet-50-deploy")
    desk.until(lambda: "conv1" in desk.shown)
    desk.tab.keyboard.press("Control+s")
    name = desk.tab.locator("dialog input")
    assert name.input_value() == "ResNet-50-deploy.prototxt"
    name.fill("mine.txt")
    desk.tab.keyboard.press("Enter")
    assert "must end in" in desk.see("dialog .wrong").inner_text()
    name.fill("a.prototxt")
    desk.tab.keyboard.press("Enter")
    assert desk.see("dialog", "exists already")
    desk.press("Save mine as…")
    desk.tab.locator("dialog input").fill("mine.prototxt")
    desk.tab.keyboard.press("Enter")
    desk.until(lambda: (tmp_path / "mine.prototxt").exists())
    desk.until(lambda: desk.tab.title() == "mine.prototxt")
    assert (tmp_path / "mine.prototxt").read_text() == desk.text and (tmp_path / "a.prototxt").read_text() == NET


def test_phases(open_editor):
    desk = open_editor({"small.prototxt": DATA}, state=State(inputs=(("data", (7, 3, 5, 5)),))).ready()
    assert desk.shown == ["d", "fc"]
    desk.tab.get_by_label("TRAIN").check(force=True)
    desk.until(lambda: desk.shown == ["d", "fc", "loss"])


def test_a_shape_is_asked_for_and_given(open_editor):
    desk = open_editor({"small.prototxt": DATA}).ready()
    assert desk.problems == "1 input without a shape"
    field = desk.see(".problems .shape-form input")
    field.fill("7, 3, 5, 5")
    desk.tab.keyboard.press("Enter")
    desk.until(lambda: desk.problems == "No problems")
    assert "760" in desk.figures  # 75 x 10 + 10
    desk.tab.locator(".chip", has_text="data: 7 × 3 × 5 × 5").click()
    desk.until(lambda: desk.problems == "1 input without a shape")


def test_solvers_are_known(open_editor):
    desk = open_editor({"small.prototxt": 'net: "a.prototxt"\nbase_lr: 0.1\n'}).ready()
    assert desk.problems == "No problems" and "solver's settings" in desk.see(".empty").inner_text()
    desk.tab.keyboard.press("Control+End")
    desk.type("lr_")
    desk.take("lr_policy")
    desk.take("step")
    desk.until(lambda: desk.text.endswith('lr_policy: "step"'))


def downloaded(desk, item):
    with desk.tab.expect_download(timeout=1000 * PATIENCE) as waiting:
        desk.choose("Share", item)
    return waiting.value.suggested_filename, open(waiting.value.path(), "rb").read()


def test_shared_as_files(open_editor, chromium, tmp_path):
    old = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 # old\n'
    old += 'layers { name: "r" type: RELU bottom: "data" top: "r" }\n'
    desk = open_editor({"small.prototxt": old}).ready()
    assert downloaded(desk, "Prototxt the text as it is") == ("small.prototxt", old.encode())
    name, text = downloaded(desk, "Prototxt in today's form")
    assert name == "small-upgraded.prototxt" and b'layer {\n  name: "r"\n  type: "ReLU"' in text
    assert downloaded(desk, "Picture, SVG")[1].startswith(b"<svg")
    assert downloaded(desk, "Picture, PNG")[1].startswith(b"\x89PNG")
    assert b"ReLU" in downloaded(desk, "Figures, CSV")[1]
    name, page = downloaded(desk, "Page")
    assert name == "small.html" and old.encode().splitlines()[1] not in page.splitlines()
    (tmp_path / name).write_bytes(page)
    tab = chromium.new_page()
    tab.goto((tmp_path / name).as_uri())
    assert tab.locator("[data-box] .name").all_text_contents() == ["input", "r"]
    tab.close()


def test_a_text_that_cannot_be_shared_says_why(desk):
    desk.expected = ("400 (Bad Request)",)
    desk.replace("num_output", "numoutput")
    desk.until(lambda: "error" in desk.problems)
    desk.choose("Share", "Prototxt in today's form")
    assert "as a whole" in desk.see(".notice.bad").inner_text()


def test_names_are_never_markup(open_editor):
    evil = "</script><img src=x onerror=alert(1)>"
    text = NET.replace('name: "pool"', f"name: '{evil}'").replace("MAX", "'<b>'")
    desk = open_editor({"small.prototxt": text}).ready()
    desk.until(lambda: "error" in desk.problems)
    desk.tab.locator(".count").click()
    desk.cursor("onerror")
    desk.press("Details")
    desk.see(".details", "onerror")
    assert desk.tab.locator("img, .problems b, .details b:has-text('x')").count() == 0


def test_light_and_dark_are_remembered(desk):
    theme = lambda: desk.tab.locator("html").get_attribute("data-theme")  # noqa: E731
    first = theme()
    desk.press("Light or dark")
    other = {"light": "dark", "dark": "light"}[first]
    assert theme() == other
    desk.tab.reload()  # the token is remembered as well
    desk.ready()
    assert theme() == other and desk.text == NET


def test_by_keyboard_alone(desk):
    desk.tab.keyboard.press("F6")
    desk.until(lambda: desk.tab.evaluate("document.activeElement.hasAttribute('data-box')"))
    desk.tab.keyboard.press("ArrowDown")
    desk.until(lambda: desk.tab.locator(".place").inner_text() == "Line 3, column 1")
    assert desk.tab.evaluate("document.activeElement.hasAttribute('data-box')")  # the keyboard stays in the diagram
    desk.tab.keyboard.press("F6")
    assert desk.tab.evaluate("document.activeElement.closest('.cm-editor') !== null")
    desk.tab.keyboard.press("Control+f")
    assert desk.see(".cm-search")
    desk.tab.keyboard.press("Escape")
    desk.tab.keyboard.press("Escape")
    desk.tab.keyboard.press("Tab")
    assert desk.tab.evaluate("document.activeElement.closest('.cm-editor') === null")
    unnamed = desk.tab.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter((e) => e.checkVisibility() &&"
        " !(e.ariaLabel || e.textContent.trim() || e.labels?.length || e.title || e.placeholder)).map((e) => e.outerHTML)"
    )
    assert unnamed == []


def test_the_address_without_its_token(open_editor):
    desk = open_editor(url=lambda editor: editor.address)
    desk.expected = ("401 (Unauthorized)",)
    assert "needs its address" in desk.see("h1").inner_text()


def test_the_address_that_a_browser_is_opened_with(open_editor):
    desk = open_editor(url=lambda editor: editor.visit_url).ready()
    assert desk.text == NET
    desk.expected = ("401 (Unauthorized)",)
    second = desk.tab.context.browser.new_context().new_page()
    second.goto(f"{desk.editor.address}#visit=used")
    second.get_by_text("needs its address").wait_for(timeout=1000 * PATIENCE)
    second.context.close()


def test_the_text_stays_when_the_server_stops(desk):
    desk.expected = ("ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET", "ERR_INCOMPLETE_CHUNKED")
    desk.editor.shutdown()
    desk.editor.close()
    desk.type("# mine\n", at=("",))
    assert "does not answer" in desk.see(".health", "does not answer").inner_text()
    assert downloaded(desk, "Prototxt the text as it is")[1].decode() == "# mine\n" + NET


def test_a_large_net(open_editor):
    desk = open_editor({"a.prototxt": NET}, only=None).ready()
    desk.choose("Presets", "ResNet-152-deploy")
    desk.until(lambda: "60.2 M Parameters" in desk.figures)
    desk.cursor('name: "prob"')
    desk.until(lambda: desk.tab.locator("[data-box].selected .name").all_text_contents() == ["prob"])
    desk.cursor('name: "res4b20_branch2b_relu"')  # in a copy of a folded block
    desk.until(lambda: desk.tab.locator("[data-box].selected .name").all_text_contents() == ["res4b20_branch2b"])
    desk.replace('name: "res4b20_branch2b"', 'name: "other"')
    desk.until(lambda: "other" in desk.shown)
