"""Logs: ours written and read, Caffe's read, and the curves drawn of them."""

import json
import math
import xml.etree.ElementTree as ET

import pytest

from netcompiler import NetError, NetWarning
from netcompiler.cli import main
from netcompiler.cli.plot import panels, short_names, table
from netcompiler.drawing.curves import Chart, Curve, Panel
from netcompiler.train.log import LOSS, RATE, Key, Log, read_log

# What Caffe wrote, in its words: two test nets, an output of three values, a resume at 100, and a line that was cut off.
GLOG = """\
Log file created at: 2016/09/01 15:20:58
I0901 15:21:01.111111  1234 caffe.cpp:217] Using GPUs 0
I0901 15:21:01.111111  1234 solver.cpp:48] Initializing solver from parameters:
test_iter: 10
display: 50
I0901 15:21:02.111111  1234 solver.cpp:279] Solving LeNet: small
I0901 15:21:02.111111  1234 solver.cpp:280] Learning Rate Policy: step
I0901 15:21:03.111111  1234 solver.cpp:337] Iteration 0, Testing net (#0)
I0901 15:21:03.211111  1234 solver.cpp:404]     Test net output #0: acc = 0.1
I0901 15:21:03.211111  1234 solver.cpp:404]     Test net output #1: acc = 0.2
I0901 15:21:03.211111  1234 solver.cpp:404]     Test net output #2: acc = 0.3
I0901 15:21:03.211111  1234 solver.cpp:404]     Test net output #3: loss = 2.5 (* 0.5 = 1.25 loss)
I0901 15:21:03.311111  1234 solver.cpp:337] Iteration 0, Testing net (#1)
I0901 15:21:03.411111  1234 solver.cpp:395] Test loss: 2.25
I0901 15:21:03.411111  1234 solver.cpp:404]     Test net output #0: acc = 0.75
I0901 15:21:04.111111  1234 solver.cpp:228] Iteration 0, loss = 2.5
I0901 15:21:04.111111  1234 solver.cpp:244]     Train net output #0: loss1 = 2.5 (* 1 = 2.5 loss)
I0901 15:21:04.111111  1234 sgd_solver.cpp:106] Iteration 0, lr = 0.01
I0901 15:21:05.111111  1234 solver.cpp:218] Iteration 50 (38.2 iter/s, 1.3s/50 iters), loss = 1.5
I0901 15:21:05.111111  1234 solver.cpp:237]     Train net output #0: loss1 = 1.75 (* 1 = 1.75 loss)
I0901 15:21:05.111111  1234 sgd_solver.cpp:105] Iteration 50, lr = 0.01
I0901 15:21:06.111111  1234 solver.cpp:218] Iteration 100 (38.2 iter/s, 1.3s/50 iters), loss = 0.9
I0901 15:21:06.111111  1234 sgd_solver.cpp:105] Iteration 100, lr = 0.001
I0901 15:21:07.111111  1234 solver.cpp:218] Iteration 150 (38.2 iter/s, 1.3s/50 iters), loss = -nan
I0901 15:22:01.111111  1235 solver.cpp:281] Restoring previous solver status from lenet_iter_100.solverstate
I0901 15:22:02.111111  1235 solver.cpp:218] Iteration 100 (38.2 iter/s, 1.3s/50 iters), loss = 0.8
I0901 15:22:02.111111  1235 sgd_solver.cpp:105] Iteration 100, lr = 1e-3
I0901 15:22:03.111111  1235 solver.cpp:337] Iteration 100, Testing net (#0)
I0901 15:22:03.211111  1235 solver.cpp:404]     Test net output #0: acc = 0.9
I0901 15:22:03.211111  1235 solver.cpp:404]     Test net output #1: acc = 0.8
I0901 15:22:03.211111  1235 solver.cpp:404]     Test net output #2: acc = 0.7
I0901 15:22:03.211111  1235 solver.cpp:404]     Test net output #3: loss = 0.5 (* 0.5 = 0.25 lo"""


def written(path, text):
    path.write_text(text)
    return path


def test_caffes_log(tmp_path):
    run = read_log(written(tmp_path / "caffe.INFO", GLOG))
    assert run.title == "LeNet: small"
    assert run.curves[LOSS] == [(0, 2.5), (50, 1.5), (100, 0.8)]  # what was told after 100 was undone by the resume
    assert run.curves[RATE] == [(0, 0.01), (50, 0.01), (100, 0.001)]
    assert run.curves[Key("train", "loss1")] == [(0, 2.5), (50, 1.75)]
    for i, points in enumerate([[(0, 0.1), (100, 0.9)], [(0, 0.2), (100, 0.8)], [(0, 0.3), (100, 0.7)]]):
        assert run.curves[Key("test", "acc", 0, i)] == points
    assert run.curves[Key("test", "loss")] == [(0, 2.5)]
    assert run.curves[Key("test", "acc", 1)] == [(0, 0.75)]
    assert run.curves[Key("test", "loss", 1, output=False)] == [(0, 2.25)]
    assert len(run.curves) == 9


EVENTS = [
    {"kind": "start", "iter": 0, "net": "LeNet"},
    {"kind": "test", "iter": 0, "net": 1, "loss": 2.25, "outputs": {"acc": 0.1, "per class": [0.5, math.nan]}},
    {"kind": "display", "iter": 0, "loss": 2.5, "lr": 0.01, "outputs": {"loss": 2.5}},
    {"kind": "display", "iter": 20, "loss": math.inf, "lr": 0.01, "outputs": {"loss": -math.inf}},
    {"kind": "snapshot", "iter": 20, "paths": ["a", "b"]},
]


def test_our_log(tmp_path):
    path = tmp_path / "log.jsonl"
    log = Log(path)
    for event in EVENTS:
        log(event)
    log.close()
    log(EVENTS[0])  # goes nowhere
    lines = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == [event["kind"] for event in EVENTS]
    assert lines[3]["loss"] == "Infinity" and lines[3]["outputs"] == {"loss": "-Infinity"}
    assert all(line["time"] > 1.7e9 for line in lines)

    run = read_log(path)
    assert run.title == "LeNet"
    assert run.curves[LOSS] == [(0, 2.5), (20, math.inf)]
    assert run.curves[Key("train", "loss")] == [(0, 2.5), (20, -math.inf)]
    assert run.curves[Key("test", "acc", 1)] == [(0, 0.1)]
    assert run.curves[Key("test", "loss", 1, output=False)] == [(0, 2.25)]
    assert run.curves[Key("test", "per class", 1, 0)] == [(0, 0.5)]
    assert math.isnan(run.curves[Key("test", "per class", 1, 1)][0][1])


def test_going_on_after_a_kill(tmp_path):
    """A line that a killed run left half written goes; what it had told beyond the snapshot is no longer of the curve."""
    path = tmp_path / "log.jsonl"
    first = Log(path)
    for i in range(0, 50, 10):
        first({"kind": "display", "iter": i, "loss": float(i), "lr": 0.1})
    first.close()
    with open(path, "ab") as file:
        file.write(b'{"kind": "display", "iter": 50, "lo')
    assert read_log(path).curves[LOSS][-1] == (40, 40.0)  # readable as it is
    again = Log(path)
    again({"kind": "display", "iter": 30, "loss": 0.5, "lr": 0.1})
    again.close()
    assert len(path.read_text().splitlines()) == 6
    assert read_log(path).curves[LOSS] == [(0, 0.0), (10, 10.0), (20, 20.0), (30, 0.5)]


def test_half_a_line_alone(tmp_path):
    path = written(tmp_path / "log.jsonl", '{"kind": "start", ' + "x" * 9000)
    Log(path).close()
    assert path.read_bytes() == b""


def test_other_files_are_left_alone(tmp_path):
    for text in ("one line\nno end of line", "one line\n"):
        path = written(tmp_path / "notes.txt", text)
        with pytest.raises(NetError, match="no log of training"):
            Log(path)
        assert path.read_text() == text


def test_a_full_disk(tmp_path):
    """Training goes on when its log cannot be written."""

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    log = Log(tmp_path / "log.jsonl")
    log.close()
    log._file = Full()
    with pytest.warns(NetWarning, match="no more is logged: No space left on device"):
        log(EVENTS[0])
    log(EVENTS[0])  # and is not told of again


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("some text\n", "is no log of training"),
        ("", "is no log of training"),
        ("I0901 15:21:01.111111  1234 caffe.cpp:217] Using GPUs 0\n", "tells of no iteration"),
        ('{"kind": "start", "iter": 0}\n', "tells of no iteration"),
        ('{"kind": "start", "iter": 0}\nnonsense\n{"kind": "done"}\n', "log:2:1: this line is no event"),
        ('{"kind": "start", "iter": 0}\n[1]\n', "log:2:1: this line is no event"),
    ],
)
def test_no_log(tmp_path, text, message):
    with pytest.raises(NetError) as e:
        read_log(written(tmp_path / "log", text))
    assert message in str(e.value)


def test_missing_log(tmp_path):
    with pytest.raises(NetError, match="cannot be read"):
        read_log(tmp_path / "none")
    with pytest.raises(NetError, match="cannot be written"):
        Log(tmp_path / "none" / "log.jsonl")


# --- netcompile plot ---


@pytest.fixture
def logs(tmp_path):
    events = [{"kind": "start", "iter": 0, "net": "ours"}]
    for i in range(0, 1000, 10):
        loss = "NaN" if i >= 900 else 2 * 0.99**i
        events.append({"kind": "display", "iter": i, "loss": loss, "lr": 0.1 ** (1 + i // 400), "outputs": {"loss": 1}})
        if i % 100 == 0:
            events.append({"kind": "test", "iter": i, "net": 0, "outputs": {"acc": i / 1000, "loss": 2.0}})
    lines = "".join(json.dumps(e) + "\n" for e in events)
    return [written(tmp_path / "caffe.INFO", GLOG), written(tmp_path / "ours.jsonl", lines)]


def test_panels(logs):
    caffe, ours = map(read_log, logs)
    found = {p.title: [c.name for c in p.curves] for p in panels([ours], ["ours.jsonl"])}
    assert found == {"loss": ["train loss", "test loss"], "acc": ["test acc"], "learning rate": ["rate"]}
    both = panels([caffe, ours], ["caffe.INFO", "ours.jsonl"])
    assert [p.title for p in both] == ["loss", "acc", "learning rate"]
    loss, acc, rate = both
    assert [c.name for c in loss.curves] == [
        "train loss · caffe.INFO",
        "test loss · caffe.INFO",
        "test1 total loss · caffe.INFO",
        "train loss · ours.jsonl",
        "test loss · ours.jsonl",
    ]
    assert [c.colour for c in loss.curves] == [0, 0, 0, 1, 1]  # a colour for each log, dashes for what it is
    assert [c.dash for c in loss.curves] == [0, 1, 2, 0, 1]
    assert [c.name for c in acc.curves][:2] == ["test acc[0] · caffe.INFO", "test acc[1] · caffe.INFO"]
    assert [c.name for c in rate.curves] == ["caffe.INFO", "ours.jsonl"] and rate.scale == "log"
    assert (loss.best, acc.best) == ("least", "most")


def test_an_output_of_many_values(tmp_path):
    event = {"kind": "test", "iter": 5, "outputs": {"per class": [float(i) for i in range(11)]}}
    run = read_log(written(tmp_path / "log", json.dumps(event) + "\n"))
    (panel,) = panels([run], ["log"])
    (curve,) = panel.curves
    assert (curve.name, curve.points) == ("test per class, mean of 11", ((5.0, 5.0),))


def test_pictures(logs, tmp_path, capsys):
    outs = [tmp_path / f"curves.{suffix}" for suffix in ("svg", "png", "pdf", "csv")]
    assert main(["plot", *map(str, logs), *(a for o in outs for a in ("-o", str(o)))]) == 0
    told = capsys.readouterr().out
    assert all(f"wrote {o}" in told for o in outs)
    svg = outs[0].read_text()
    root = ET.fromstring(svg)
    texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"LeNet: small, ours", "loss", "acc", "learning rate", "iteration", "caffe.INFO"} <= set(texts)
    titles = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "train loss · ours.jsonl is nan at iteration 900" in titles
    assert any("best 0.9 at 900" in t for t in titles)
    assert "prefers-color-scheme: dark" in svg
    assert outs[1].read_bytes().startswith(b"\x89PNG") and outs[2].read_bytes().startswith(b"%PDF")
    assert main(["plot", *map(str, logs), "-o", str(outs[0])]) == 0 and outs[0].read_text() == svg  # the same bytes


def test_nothing_leaves_the_picture(logs, tmp_path):
    """Every point of every line is on the paper, and no number is lost on the way."""
    chart = Chart("t", panels([read_log(log) for log in logs], ["a", "b"]))
    root = ET.fromstring(chart.svg)
    wide, high = float(root.get("width")), float(root.get("height"))
    lines = [p for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("class").startswith("curve")]
    points = 0
    for line in lines:
        for pair in line.get("d").replace("h18", "").replace("M", " M").replace("L", " L").replace("M", "").split("L"):
            for x, y in [tuple(map(float, p.split())) for p in pair.split("  ") if p.strip()]:
                assert 0 <= x <= wide and 0 <= y <= high
                points += 1
    assert points > 200


def drawn_ys(curve, scale="linear"):
    root = ET.fromstring(Chart("t", [Panel("p", (curve,), scale)]).svg)
    path = [p for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("class", "").startswith("curve")][-1]
    return [float(pair.split()[1]) for pair in path.get("d").replace("M", "").split("L")]


def test_places():
    """What is twice as much is twice as high; on a log scale, equal factors are equal steps."""
    low, middle, high = drawn_ys(Curve("c", ((0, 0.0), (1, 5.0), (2, 10.0))))
    assert low - middle == pytest.approx(middle - high, abs=0.11) and low - high == pytest.approx(190)
    low, middle, high = drawn_ys(Curve("c", ((0, 0.01), (1, 1.0), (2, 100.0))), "log")
    assert low - middle == pytest.approx(middle - high, abs=0.11) and low - high == pytest.approx(190)


def test_many_points_are_thinned():
    points = tuple((float(i), math.sin(i) * (10 if i == 54321 else 1)) for i in range(100_000))
    ys = drawn_ys(Curve("c", points))
    assert 1000 < len(ys) < 8000
    assert max(ys) - min(ys) == pytest.approx(max(drawn_ys(Curve("c", points[54000:54400]))) - min(ys), abs=20)


@pytest.mark.parametrize(
    "points",
    [((0, math.nan),), ((0, 0.0),), ((5, -3.0), (6, -3.0)), ((0, 1e-30), (1, 1e30)), ((0, 1e9), (10**7, 2e9))],
)
@pytest.mark.parametrize("scale", ["auto", "linear", "log"])
def test_strange_values(points, scale):
    ET.fromstring(Chart("<&>", [Panel("p", (Curve("c", points),), scale)]).svg)


def test_table(logs):
    runs = [read_log(log) for log in logs]
    rows = [line.split(",") for line in table(runs, ["a", "b"]).splitlines()]
    assert rows[0][:2] == ["log", "iteration"] and "train loss" in rows[0] and "test1 acc" in rows[0]
    at = rows[0].index("train loss")
    assert [(r[1], r[at]) for r in rows if r[0] == "a"] == [("0", "2.5"), ("50", "1.5"), ("100", "0.8")]
    assert len(rows) == 1 + 3 + 100


def test_summary(logs, capsys):
    assert main(["plot", str(logs[0])]) == 0
    out = capsys.readouterr().out
    assert "LeNet: small" in out and "train loss" in out and "0.8 at iteration 100; best 0.8 at 100" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{0}", "-o", "curves.jpg"], "curves are not written in this format"),
        (["{0}", "-o", "none/curves.svg"], "the folder does not exist"),
        (["{0}.missing"], "cannot be read"),
    ],
)
def test_refusals(logs, capsys, arguments, message):
    assert main(["plot", *(a.format(*logs) for a in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_short_names():
    assert short_names(["log.jsonl"]) == ["log.jsonl"]
    assert short_names(["/x/a/log", "/x/b/c/log"]) == ["a/log", "b/c/log"]
    assert short_names(["/x/log", "log"]) == ["/x/log", "log"]
