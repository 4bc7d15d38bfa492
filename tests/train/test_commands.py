"""`netcompile train` and `netcompile test`: what they tell, what they obey, and how they refuse."""

import io
import json
import os
import re
import signal
import sys
import time

import h5py
import numpy as np
import pytest
import torch

from netcompiler import load, read_weights
from netcompiler.binary import write_caffemodel
from netcompiler.cli import main, train as command
from netcompiler.data.feeds import open_feeds
from netcompiler.train.log import LOSS, RATE, Key, read_log

from . import small

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with the files of the small net in it."""
    small.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder, capsys):
    def run_(*arguments):
        code = main([str(a) for a in arguments])
        return (code, *capsys.readouterr())

    return run_


def same(a, b):
    """Two weight files hold the same bits."""
    a, b = read_weights(a), read_weights(b)
    return a.keys() == b.keys() and all(np.array_equal(x, y) for k in a for x, y in zip(a[k], b[k], strict=True))


def test_lines(run, folder):
    """Each display, test and snapshot has its line, in Caffe's order."""
    code, out, err = run("train", "solver.prototxt")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "small: SGD, 66 parameters learned, 1 test net"
    assert re.fullmatch(r"iterations 0 to 40 on cpu \(\d+ threads\), float32", lines[1])
    heads = [re.match(r"iteration \d+(, test)?(: wrote \S+)?|done.*", line)[0] for line in lines[2:]]
    assert heads == [
        "iteration 0, test",
        "iteration 0",
        "iteration 10",
        "iteration 20: wrote small_iter_20.solverstate",
        "iteration 20, test",
        "iteration 20",
        "iteration 30",
        "iteration 40: wrote small_iter_40.solverstate",
        "iteration 40",
        "iteration 40, test",
        "done after 40 iterations",
    ]
    assert re.fullmatch(r"iteration 0, test: acc [\d.]+, loss [\d.]+", lines[2])
    assert re.fullmatch(r"iteration 10, loss [\d.]+, lr 0.1, [\d,.]+ images/s, \d.* left", lines[4])


def test_log_and_plot(run, folder):
    code, out, _ = run("train", "solver.prototxt", "--log", "log.jsonl", "-q")
    assert (code, out) == (0, "")
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [e["kind"] for e in events].count("display") == 5 and events[0]["kind"] == "start"
    log = read_log("log.jsonl")
    assert log.title == "small" and [x for x, _ in log.curves[LOSS]] == [0, 10, 20, 30, 40]
    assert [y for _, y in log.curves[RATE]] == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05])
    assert [x for x, _ in log.curves[Key("test", "acc")]] == [0, 20, 40]
    assert (
        run("train", "solver.prototxt", "--log", "log.jsonl", "-q", "--snapshot", "latest", "--set", "max_iter=50")[0]
        == 0
    )
    again = read_log("log.jsonl")
    assert [x for x, _ in again.curves[LOSS]] == [0, 10, 20, 30, 40, 50]  # one curve, on over the resume
    assert again.curves[LOSS][:4] == log.curves[LOSS][:4]
    assert run("plot", "log.jsonl", "-o", "curves.svg")[0] == 0 and (folder / "curves.svg").exists()


def test_set(run, folder):
    code, out, _ = run("train", "solver.prototxt", "--set", "type=Adam", "--set", "base_lr=0.001", "--set", "max_iter=10",
                       "--set", "snapshot_prefix=other", "--set", "test_iter=1")  # fmt: skip
    assert code == 0 and "small: Adam" in out and "iterations 0 to 10 " in out and "lr 0.001" in out
    assert (folder / "other_iter_10.caffemodel").exists()


def test_a_loss_that_is_no_number(run):
    code, out, err = run("train", "solver.prototxt", "--set", "base_lr=1e30", "--log", "log.jsonl")
    assert code == 0 and "loss nan" in out and err.count("the training has diverged") == 1
    assert run("plot", "log.jsonl", "-o", "curves.svg")[0] == 0


def test_nothing_is_left(run, folder):
    run("train", "solver.prototxt", "-q")
    code, out, _ = run("train", "solver.prototxt", "--snapshot", "latest", "--set", "max_iter=40")
    assert code == 0 and "nothing is left to train: max_iter is 40" in out and "done after 40 iterations" in out


def test_latest_without_any(run, folder):
    code, out, _ = run("train", "solver.prototxt", "--snapshot", "latest", "--set", "max_iter=5")
    assert code == 0 and "there is no snapshot small_iter_* yet: from the beginning" in out


def test_latest(folder):
    for name in ("a_iter_9", "a_iter_10", "a_iter_11.h5", "a_iter_x", "a_iter_5_iter_99", "b_iter_50"):
        stem, _, end = name.partition(".")
        (folder / f"{stem}.solverstate{'.h5' if end else ''}").touch()
        (folder / f"{stem}.caffemodel{'.h5' if end else ''}").touch()
    (folder / "a_iter_12.solverstate").touch()  # its weights are not there
    (folder / ".a_iter_13.solverstate.1234.part").touch()
    assert command.latest("a") == "a_iter_11.solverstate.h5"
    assert command.latest(str(folder / "a")) == str(folder / "a_iter_11.solverstate.h5")
    assert command.latest("c") is None and command.latest("none/c") is None


def test_resumed_is_uninterrupted(run, folder):
    """Bit for bit, also when the snapshot is named by hand."""
    run("train", "solver.prototxt", "-q")
    (folder / "small_iter_40.caffemodel").rename("whole.caffemodel")
    code, out, _ = run("train", "solver.prototxt", "--snapshot", "small_iter_20.solverstate")
    assert code == 0 and "iterations 20 to 40" in out and "going on from small_iter_20.solverstate" in out
    assert same("whole.caffemodel", "small_iter_40.caffemodel")


def test_checkpoint(run, folder):
    """With or without a number: the same weights, bit for bit."""
    run("train", "solver.prototxt", "-q")
    (folder / "small_iter_40.caffemodel").rename("whole.caffemodel")
    for more in (["--checkpoint"], ["--checkpoint", "2"]):
        (folder / "small_iter_40.caffemodel").unlink(missing_ok=True)
        assert run("train", "solver.prototxt", "-q", *more)[0] == 0
        assert same("whole.caffemodel", "small_iter_40.caffemodel")


CONV = """layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 5 dim: 5 } shape { dim: 2 } data_filler { type: "gaussian" std: 1 } data_filler { value: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 5
  weight_filler { type: "xavier" } } include { stage: "conv" } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "conv" inner_product_param { num_output: 4
  weight_filler { type: "xavier" } } exclude { stage: "conv" } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }
"""


def test_channels_last_and_a_stage(run, folder, monkeypatch):
    seen = []
    monkeypatch.setattr(command, "Teller", lambda solver, *_: seen.append(solver) or Quiet())
    (folder / "conv.prototxt").write_text(CONV)
    arguments = (
        "train",
        "solver.prototxt",
        "--set",
        "net=conv.prototxt",
        "--set",
        "test_iter=[]",
        "--set",
        "max_iter=1",
    )
    for more in ((), ("--set", "train_state.stage=conv"), ("--set", "train_state.stage=conv", "--channels-last")):
        assert run(*arguments, *more)[0] == 0
    assert [n.name for n in seen[0].net.graph.nodes][1] == "fc"
    order = [s.net.conv.weight.is_contiguous(memory_format=torch.channels_last) for s in seen[1:]]
    assert order == [False, True]


class Quiet:
    """A Teller that tells nothing."""

    def __call__(self, event):
        pass

    def clear(self):
        pass


def test_fine_tuning(run, folder):
    """Layers of the same name take the file's weights; a renamed one is trained afresh, and that is said."""
    run("train", "solver.prototxt", "-q")
    (folder / "small_iter_40.caffemodel").rename("base.caffemodel")
    net = (folder / "net.prototxt").read_text().replace('"fc2"', '"fc2_new"').replace("num_output: 3", "num_output: 4")
    net = net.replace('name: "fc1" type: "InnerProduct"', 'name: "fc1" param { lr_mult: 0 } param { lr_mult: 0 }'
                      ' type: "InnerProduct"')  # fmt: skip
    (folder / "net.prototxt").write_text(net)
    code, out, err = run("train", "solver.prototxt", "-w", "base.caffemodel", "--set", "max_iter=20")
    assert code == 0
    assert "layers without weights in the file start from their fillers: fc2_new" in err
    assert "the file has weights for layers that the net does not have: fc2" in err
    assert "32 parameters learned, 42 fixed" in out
    base, tuned = read_weights("base.caffemodel"), read_weights("small_iter_20.caffemodel")
    assert np.array_equal(base["fc1"][0], tuned["fc1"][0]) and tuned["fc2_new"][0].shape == (4, 7)


def test_several_weights(run, folder):
    """The last file that has a layer counts."""
    run("train", "solver.prototxt", "-q")
    files = [{"fc1": 0.0, "fc2": 0.0}, {"fc2": 1.0}]
    shapes = {name: [a.shape for a in arrays] for name, arrays in read_weights("small_iter_40.caffemodel").items()}
    for i, layers in enumerate(files):
        arrays = {name: [np.full(s, v, np.float32) for s in shapes[name]] for name, v in layers.items()}
        write_caffemodel(f"w{i}.caffemodel", load("net.prototxt"), arrays)
    frozen = ("--set", "base_lr=0", "--set", "max_iter=1", "--set", "weight_decay=0", "-q")
    assert run("train", "solver.prototxt", "-w", "w0.caffemodel,w1.caffemodel", *frozen)[0] == 0
    found = read_weights("small_iter_1.caffemodel")
    assert not found["fc1"][0].any() and (found["fc2"][0] == 1).all()


REFUSED = [
    (["--set", "base_lr"], "--set is not FIELD=VALUE"),
    (["--set", "bas_lr=1"], "did you mean base_lr?"),
    (["--set", "base_lr=fast"], "expected: a number"),
    (["--set", "max_iter=1", "--set", "max_iter=2"], "--set gives max_iter twice"),
    (["--set", "net_param=x"], "net_param cannot be set in this way"),
    (["--set", "type=Best"], "no such type"),
    (["--set", "snapshot_prefix=none/x"], "mkdir -p none"),
    (["--set", "snapshot_prefix=none/"], "mkdir -p none"),
    (["--set", "snapshot_prefix=net.prototxt/x"], "snapshots cannot be written: Not a directory"),
    (["--set", "type=AdaGrad"], "remove the field, or set it to 0"),
    (["--snapshot", "none.solverstate"], "none.solverstate: there is no such file"),
    (["-w", "none.caffemodel"], "none.caffemodel: there is no such file"),
    (["-w", "net.prototxt", "--snapshot", "solver.prototxt"], "--snapshot and --weights are both given"),
    (["--snapshot", "net.prototxt"], "net.prototxt"),
    (["--device", "abacus"], "device abacus cannot be used"),
    (["--dtype", "float16"], "float32, tf32, float64 or bfloat16"),
    (["--seed", "-1"], "a seed cannot be negative"),
    (["--checkpoint", "-1"], "a negative number of segments"),
    (["--log", "none/log.jsonl"], "none/log.jsonl: cannot be written"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[" ".join(r[0]) for r in REFUSED])
def test_refusals(run, arguments, message):
    code, _, err = run("train", "solver.prototxt", *arguments)
    assert code == 2 and message in err and "Traceback" not in err


@pytest.mark.parametrize("arguments", [["--sigint-effect", "later"], ["--sighup_effect=often"], []])
def test_wrong_words(run, arguments, capsys):
    with pytest.raises(SystemExit) as e:
        run("train", *(["solver.prototxt"] if arguments else []), *arguments)
    assert e.value.code == 2 and "usage: netcompile train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("Input", "a train_val net has data layers"), ("MemoryData", "given in Python"), ("ImageSegData", "feeds=")],
)
def test_nothing_feeds_an_input(run, folder, kind, hint):
    """Told at the start, with the layer's place."""
    param = "memory_data_param { batch_size: 2 channels: 5 height: 1 width: 1 }"
    if kind == "Input":
        param = "input_param { shape { dim: 2 dim: 5 } shape { dim: 2 } }"
    elif kind == "ImageSegData":
        param = "image_data_param { batch_size: 2 } transform_param { crop_size: 1 }"
    body = small.NET[small.NET.index('layer { name: "fc1"') :]
    (folder / "fed.prototxt").write_text(
        f'layer {{ name: "in" type: "{kind}" top: "data" top: "label" {param} }}\n{body}'
    )
    code, out, err = run("train", "solver.prototxt", "--set", "net=fed.prototxt")
    assert code == 2 and "iterations" not in out
    assert f'fed.prototxt:1:1: layer "in" ({kind}): nothing feeds this input' in err and hint in err


def test_a_net_is_no_solver(run):
    code, _, err = run("train", "net.prototxt")
    assert code == 2 and '"name" is a field of a net: is this the right file?' in err


def test_a_terminal(run, folder, monkeypatch):
    """There, one line follows each iteration, and displays have none of their own."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run("train", "solver.prototxt")
    assert code == 0 and "iteration 10, loss" not in out and "iteration 20, test: acc" in out
    assert re.search(
        r"\r\033\[K\[#*\.*\] \d+/40  loss [\d.]+  lr 0.1  [\d,.]+ images/s  \d.* left", terminal.getvalue()
    )
    assert terminal.getvalue().endswith("\r\033[K")
    monkeypatch.setenv("COLUMNS", "70")  # the bar shrinks, all words are there
    terminal.seek(0)
    terminal.truncate()
    assert run("train", "solver.prototxt")[0] == 0
    shown = terminal.getvalue().split("\r\033[K")
    assert any(
        re.fullmatch(r"\[#*\.*\] \d+/40  loss [\d.]+  lr 0.1  [\d,.]+ images/s  \d.* left", line) for line in shown
    )
    assert 60 < max(map(len, shown)) < 70
    monkeypatch.setenv("COLUMNS", "50")  # where lines wrap, they could not be taken back
    terminal.seek(0)
    terminal.truncate()
    assert run("train", "solver.prototxt")[0] == 0
    assert 40 < max(map(len, terminal.getvalue().split("\r\033[K"))) < 50


def test_tensorboard(run, folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert run("train", "solver.prototxt", "-q", "--log", "log.jsonl", "--tensorboard", "board")[0] == 0
    held = EventAccumulator("board")
    held.Reload()
    log = read_log("log.jsonl")
    for name, key in {"train/loss": LOSS, "train/lr": RATE, "test/acc": Key("test", "acc")}.items():
        steps, values = zip(*log.curves[key], strict=True)
        assert tuple(s.step for s in held.Scalars(name)) == steps
        assert [s.value for s in held.Scalars(name)] == pytest.approx(values)


def test_tensorboard_is_missing(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, _, err = run("train", "solver.prototxt", "--tensorboard", "board")
    assert code == 2 and "pip install 'netcompiler[tensorboard]'" in err


# --- signals ---


@posix
def test_sigint_stops_and_training_goes_on(run, folder):
    """A process that is told to stop writes a snapshot; what goes on from it ends as if nothing had been."""
    long = ("--set", "test_interval=100000000", "--set", "snapshot=0")
    process = small.start(folder, "train", "solver.prototxt", *long, "--set", "max_iter=100000000")
    small.until(process, "iteration 10,")
    process.send_signal(signal.SIGINT)
    code, out = small.finish(process)
    stopped = int(re.search(r"stopped by a signal after ([\d,]+) iterations", out)[1].replace(",", ""))
    assert code == 0 and (folder / f"small_iter_{stopped}.netstate.json").exists() and "test: " not in out
    end = f"max_iter={stopped + 15}"
    for more in (("--snapshot", "latest"), ("--set", "snapshot_prefix=whole")):
        again = small.start(folder, "train", "solver.prototxt", *long, "--set", end, *more)
        assert small.finish(again)[0] == 0
    assert same(f"small_iter_{stopped + 15}.caffemodel", f"whole_iter_{stopped + 15}.caffemodel")


@posix
def test_sighup_takes_a_snapshot(folder):
    """And training goes on; as it does after a SIGINT that is to have no effect."""
    process = small.start(
        folder, "train", "solver.prototxt", "--set", "snapshot=0", "--set", "max_iter=100000000", "--set",
        "test_interval=100000000", "--sigint_effect", "none", "--set", "snapshot_after_train=false",
    )  # fmt: skip
    small.until(process, "iteration 10,")
    process.send_signal(signal.SIGINT)
    small.until(process, "iteration ")
    process.send_signal(signal.SIGHUP)
    said = small.until(process, "wrote small_iter_")
    small.until(process, "iteration ")
    assert process.poll() is None and "stopped" not in said
    process.kill()
    process.communicate()


@posix
def test_signals(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    before = signal.getsignal(signal.SIGINT)
    with command.Signals("stop", "snapshot") as signals:
        assert signals.take() is None
        os.kill(os.getpid(), signal.SIGHUP)
        assert [signals.take(), signals.take()] == ["snapshot", None]
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        assert [signals.take(), signals.take()] == ["stop", None]
        os.kill(os.getpid(), signal.SIGINT)  # at once after the first: as a terminal may send it twice
        signals.since = time.monotonic() - 5
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
    assert signal.getsignal(signal.SIGINT) is before


@posix
def test_a_stop_without_a_snapshot(run, folder, monkeypatch):
    """As in Caffe, snapshot_after_train: false holds here, too."""
    monkeypatch.setattr(command.Signals, "take", lambda self: "stop")
    code, out, _ = run(
        "train", "solver.prototxt", "--set", "snapshot_after_train=false", "--set", "test_initialization=false"
    )
    assert code == 0 and "stopped by a signal after 1 iterations" in out
    assert not list(folder.glob("small_iter_*"))


# --- netcompile test ---


@pytest.fixture
def trained(run, folder):
    run("train", "solver.prototxt", "-q")
    return folder / "small_iter_40.caffemodel"


def numpy_scores(weights, batches):
    """Accuracy and loss of the small net by numpy, over its test data."""
    w = read_weights(weights)
    scores = []
    with open_feeds(load("net.prototxt"), "TEST") as feeds:
        for _ in range(batches):
            batch = feeds.next()
            x = np.maximum(batch["data"] @ w["fc1"][0].reshape(7, 5).T + w["fc1"][1].ravel(), 0)
            x = x @ w["fc2"][0].reshape(3, 7).T + w["fc2"][1].ravel()
            label = batch["label"].astype(int).ravel()
            p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
            scores.append(((x.argmax(1) == label).mean(), -np.log(p[np.arange(len(label)), label]).mean()))
    return np.mean(scores, 0)


def test_test(run, trained):
    code, out, _ = run("test", "net.prototxt", "-w", trained, "--iterations", "3", "--device", "cpu")
    assert code == 0
    accuracy, loss = numpy_scores(trained, 3)
    lines = out.splitlines()
    assert re.fullmatch(r"small: 3 batches, 24 images in [\d.]+ s, [\d,.]+ images/s", lines[0])
    told = [float(re.search(r"[ :=] ([\d.]+)", line)[1]) for line in lines[1:]]
    assert told == pytest.approx([loss, accuracy, loss], rel=1e-5)
    assert re.fullmatch(r"loss = ([\d.]+) \(\* 1 = \1 loss\)", lines[3])


def test_test_says_what_training_says(run, trained):
    run("train", "solver.prototxt", "-q", "--log", "log.jsonl", "--snapshot", "small_iter_40.solverstate")
    (_, accuracy), (_, loss) = (read_log("log.jsonl").curves[Key("test", name)][-1] for name in ("acc", "loss"))
    report = json.loads(run("test", "net.prototxt", "-w", trained, "--iterations", "2", "--json")[1])
    assert report["outputs"]["acc"] == pytest.approx(accuracy) and report["loss"] == pytest.approx(loss, rel=1e-5)


def test_a_label_out_of_range_names_the_layer(run, trained, folder):
    with h5py.File(folder / "test.h5", "a") as file:
        file["label"][3] = 5
    code, _, err = run("test", "net.prototxt", "-w", trained, "--device", "cpu")
    assert code == 2 and 'net.prototxt:11:1: layer "acc" (Accuracy): a label or index is out of range' in err


def test_outputs_of_several_values(run, trained, folder):
    """Each value has its mean, and its line; a loss weight its share."""
    net = (folder / "net.prototxt").read_text()
    net += 'layer { name: "p" type: "Softmax" bottom: "fc2" top: "p" loss_weight: 0.5 }'
    (folder / "net.prototxt").write_text(net)
    code, out, _ = run("test", "net.prototxt", "-w", trained, "--iterations", "2", "--no-optimize", "--device", "cpu")
    lines = [line for line in out.splitlines() if line.startswith("p = ")]
    assert code == 0 and len(lines) == 24 and all(re.search(r"\(\* 0.5 = [\d.e-]+ loss\)$", line) for line in lines)
    report = json.loads(run("test", "net.prototxt", "-w", trained, "--iterations", "2", "--json")[1])
    assert np.sum(report["outputs"]["p"]) == pytest.approx(8)
    assert report["loss"] == pytest.approx(report["outputs"]["loss"] + 0.5 * 8, rel=1e-5)


def test_very_many_values(run, trained, folder):
    net = (folder / "net.prototxt").read_text()
    net += 'layer { name: "t" type: "Tile" bottom: "fc2" top: "t" tile_param { tiles: 100 } }'
    (folder / "net.prototxt").write_text(net)
    _, out, _ = run("test", "net.prototxt", "-w", trained, "--iterations", "1", "--device", "cpu")
    assert "t = 2,400 values, " in out and "(--json has them all)" in out


TEST_REFUSED = [
    (["net.prototxt", "-w", "small_iter_40.caffemodel", "--iterations", "0"], "too few batches"),
    (["none.prototxt", "-w", "small_iter_40.caffemodel"], "none.prototxt: cannot be read"),
    (["net.prototxt", "-w", "none.caffemodel"], "none.caffemodel: cannot be read"),
    (["deploy.prototxt", "-w", "small_iter_40.caffemodel"], "nothing feeds this input"),
    (["solver.prototxt", "-w", "small_iter_40.caffemodel"], "is this the right file?"),
]


@pytest.mark.parametrize(("arguments", "message"), TEST_REFUSED, ids=[" ".join(r[0]) for r in TEST_REFUSED])
def test_test_refusals(run, trained, folder, arguments, message):
    (folder / "deploy.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 5 } } }'
        'layer { name: "fc1" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 7 } }'
    )
    code, _, err = run("test", *arguments)
    assert code == 2 and message in err


def test_warnings_are_rank_0s(run, folder, monkeypatch):
    """Other ranks keep warnings to themselves, so that they are told once."""
    (folder / "solver.prototxt").write_text(small.SOLVER + "power: 2\n")
    assert "power has no effect" in run("train", "solver.prototxt", "-q", "--set", "max_iter=1")[2]
    monkeypatch.setattr(command, "is_first", lambda: False)
    assert run("train", "solver.prototxt", "-q", "--set", "max_iter=1")[2] == ""
