"""Several ranks: the same steps as one process with all their batches, and a clear end when one of them is lost."""

import json
import os
import signal
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist

from netcompiler import NetError, read_weights
from netcompiler.cli import main
from netcompiler.train import ranks as ranks_
from netcompiler.train.ranks import Exchange, Ranks, joined, launched

from . import small

UNTESTED = ("--set", "test_interval=100000000", "--set", "test_initialization=false")
LONG = (*UNTESTED, "--set", "max_iter=100000000")
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


def alike(a, b, tolerance=1e-5):
    """Two weight files hold the same, to so much of the largest value."""
    a, b = read_weights(a), read_weights(b)
    assert a.keys() == b.keys()
    for name in a:
        for x, y in zip(a[name], b[name], strict=True):
            assert np.abs(x - y).max() <= tolerance * max(1.0, np.abs(y).max()), name


def train(folder, *arguments, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["train", "solver.prototxt", "-q", *map(str, arguments)]) == 0


@pytest.mark.parametrize("more", [(), ("--set", "iter_size=2", "--set", "clip_gradients=0.5", "--set", "type=Adam")])
def test_two_ranks_are_one_with_the_doubled_batch(tmp_path, monkeypatch, more):
    """Snapshots along the way are the same; the data is the same as well, each rank's share of it."""
    both, one = tmp_path / "both", tmp_path / "one"
    for folder, batch in ((both, 4), (one, 8)):
        folder.mkdir()
        small.write(folder, batch)
    if more:
        more = (*more, "--set", "momentum=0.9", "--set", "base_lr=0.01")
    started = small.start_ranks(both, 2, "train", "solver.prototxt", *more)
    train(one, *more, monkeypatch=monkeypatch)
    found = [small.finish(p) for p in started]
    assert [code for code, _ in found] == [0, 0], found
    assert "2 ranks of this batch" in found[0][1] and found[1][1] == ""  # rank 0 alone tells
    for i in (20, 40):
        alike(both / f"small_iter_{i}.caffemodel", one / f"small_iter_{i}.caffemodel")
    sidecars = [json.loads((f / "small_iter_40.netstate.json").read_text()) for f in (both, one)]
    assert sidecars[0]["feeds"] == sidecars[1]["feeds"] and [len(s["random"]) for s in sidecars] == [2, 1]


NORM = """layer { name: "bn" type: "BatchNorm" bottom: "fc1" top: "fc1" batch_norm_param { moving_average_fraction: 0.9 } }
"""
SCALE = """layer { name: "scale" type: "Scale" bottom: "fc1" top: "fc1" scale_param { bias_term: true } }
"""
# A branch that leads to no loss, one array for two layers, and a frozen one.
ODD = """layer { name: "idle" type: "InnerProduct" bottom: "fc1" top: "idle" inner_product_param { num_output: 2 } }
layer { name: "twin1" type: "InnerProduct" bottom: "fc1" top: "twin1" param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "twin2" type: "InnerProduct" bottom: "twin1" top: "twin2" param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 7 } }
layer { name: "still" type: "InnerProduct" bottom: "twin2" top: "still" param { lr_mult: 0 } param { lr_mult: 0 }
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
"""
NETS = {  # layers in front of the ReLU, and behind it; options
    "BatchNorm": (NORM, "", ("--sync-batchnorm",)),
    "all at once": (NORM + SCALE, ODD, ("--sync-batchnorm", "--checkpoint", "4", "--set", "iter_size=2")),
}


@pytest.mark.parametrize("name", NETS)
def test_two_ranks_with_one_batchnorm(tmp_path, monkeypatch, name):
    """With --sync-batchnorm the ranks' batches are one for BatchNorm: gradients and stored statistics, too."""
    before, behind, more = NETS[name]
    both, one = tmp_path / "both", tmp_path / "one"
    for folder, batch in ((both, 4), (one, 8)):
        folder.mkdir()
        small.write(folder, batch)
        text = (folder / "net.prototxt").read_text()
        text = text.replace('layer { name: "relu"', before + 'layer { name: "relu"')
        text = text.replace('layer { name: "fc2" type: "InnerProduct" bottom: "fc1"', behind + (
            'layer { name: "fc2" type: "InnerProduct" bottom: "%s"' % ("still" if behind else "fc1")))  # fmt: skip
        (folder / "net.prototxt").write_text(text)
    started = small.start_ranks(both, 2, "train", "solver.prototxt", *more)
    plain = [word for word in more if word not in ("--sync-batchnorm", "--checkpoint", "4")]
    train(one, *plain, monkeypatch=monkeypatch)
    found = [small.finish(p) for p in started]
    assert [code for code, _ in found] == [0, 0] and found[1][1] == "", found
    for i in (20, 40):
        alike(both / f"small_iter_{i}.caffemodel", one / f"small_iter_{i}.caffemodel")
    if not behind:  # and without it they are not
        started = small.start_ranks(both, 2, "train", "solver.prototxt")
        assert [small.finish(p)[0] for p in started] == [0, 0]
        with pytest.raises(AssertionError):
            alike(both / "small_iter_40.caffemodel", one / "small_iter_40.caffemodel")


def test_going_on_with_another_number_of_ranks(tmp_path, monkeypatch):
    """One process with a batch of 8 up to 20; then two ranks of 4: as one process would have gone on."""
    one, both = tmp_path / "one", tmp_path / "both"
    for folder, batch in ((one, 8), (both, 4)):
        folder.mkdir()
        small.write(folder, batch)
    train(one, monkeypatch=monkeypatch)
    for path in one.glob("small_iter_20.*"):
        (both / path.name).write_bytes(path.read_bytes())
    started = small.start_ranks(both, 2, "train", "solver.prototxt", "--snapshot", "latest")
    found = [small.finish(p) for p in started]
    assert [code for code, _ in found] == [0, 0], found
    assert "going on from small_iter_20.solverstate" in found[0][1]
    alike(both / "small_iter_40.caffemodel", one / "small_iter_40.caffemodel")
    (both / "net.prototxt").write_text((one / "net.prototxt").read_text())  # and back to one process
    train(both, "--snapshot", "latest", "--set", "max_iter=60", monkeypatch=monkeypatch)
    train(one, "--snapshot", "latest", "--set", "max_iter=60", monkeypatch=monkeypatch)
    alike(both / "small_iter_60.caffemodel", one / "small_iter_60.caffemodel")


@posix
@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_is_killed(tmp_path, monkeypatch, lost):
    """The other one ends by itself and says why; the last snapshot is whole, and training goes on from it."""
    small.write(tmp_path)
    started = small.start_ranks(tmp_path, 2, "train", "solver.prototxt", *LONG)
    small.until(started[0], "wrote small_iter_40.solverstate")
    started[lost].send_signal(signal.SIGKILL)
    assert small.finish(started[lost])[0] == -signal.SIGKILL
    code, out = small.finish(started[1 - lost])
    assert code == 2 and f"rank {1 - lost} of 2: another rank is gone" in out and "Traceback" not in out, out
    newest = max(int(p.name.split("_")[-1].split(".")[0]) for p in tmp_path.glob("small_iter_*.netstate.json"))
    assert newest >= 40
    for path in tmp_path.glob("small_iter_*.caffemodel"):
        read_weights(path)
    train(tmp_path, "--snapshot", f"small_iter_{newest}.solverstate", *UNTESTED, "--set", f"max_iter={newest + 20}",
          monkeypatch=monkeypatch)  # fmt: skip
    assert (tmp_path / f"small_iter_{newest + 20}.caffemodel").exists()


def children(process):
    """The processes that a process started, as Linux tells them."""
    with open(f"/proc/{process}/task/{process}/children") as file:
        return [int(number) for number in file.read().split()]


def rank_of(process):
    with open(f"/proc/{process}/environ", "rb") as file:
        found = dict(pair.split(b"=", 1) for pair in file.read().split(b"\0") if b"=" in pair)
    return int(found.get(b"RANK", b"-1"))


@pytest.mark.skipif(
    not os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"), reason="needs Linux's /proc"
)
def test_torchrun_starts_again(tmp_path):
    """torchrun replaces the ranks when one is killed; with --snapshot latest they go on to the end."""
    small.write(tmp_path)
    run = small.start(
        tmp_path, "-m", "netcompiler", "train", "solver.prototxt", *UNTESTED, "--set", "max_iter=1500", "--set",
        "display=1000", "--set", "snapshot=100", "--snapshot", "latest",
        prefix=(*small.TORCHRUN, "--max-restarts=1"),
    )  # fmt: skip
    small.until(run, "wrote small_iter_100.solverstate")
    (victim,) = (child for child in children(run.pid) if rank_of(child) == 1)
    os.kill(victim, signal.SIGKILL)
    code, out = small.finish(run, 500)
    assert code == 0, out
    assert "going on from small_iter_" in out and "done after 1,500 iterations" in out
    assert (tmp_path / "small_iter_1500.caffemodel").exists()


@posix
def test_a_signal_to_one_rank_stops_all(tmp_path):
    """Both stop after the same iteration, with one snapshot that holds the random numbers of both."""
    small.write(tmp_path)
    started = small.start_ranks(tmp_path, 2, "train", "solver.prototxt", *LONG)
    small.until(started[0], "iteration 10,")
    started[1].send_signal(signal.SIGINT)
    found = [small.finish(p) for p in started]
    assert [code for code, _ in found] == [0, 0], found
    (last,) = (line for line in found[0][1].splitlines() if "stopped by a signal" in line)
    stopped = int(last.split(" after ")[1].split()[0].replace(",", ""))
    sidecar = json.loads((tmp_path / f"small_iter_{stopped}.netstate.json").read_text())
    assert sidecar["iter"] == stopped and len(sidecar["random"]) == 2


# --- in this process ---


def test_alone():
    with joined("cpu") as ranks:
        assert ranks == Ranks(0, 1, "cpu")
        assert (ranks.same("x"), ranks.gather(3), ranks.agree("stop")) == ("x", [3], "stop")
        weights = torch.nn.Linear(2, 2)
        ranks.share(weights)
    asked = iter(["snapshot", None])
    exchange = Exchange(Ranks(), lambda: next(asked))
    exchange.join(None)  # nothing to join
    assert [exchange.request(), exchange.request()] == ["snapshot", None]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer"), NetError),
        (dist.DistNetworkError("the other end"), NetError),
        (RuntimeError("a layer's own fault"), RuntimeError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (ValueError("x"), ValueError),
    ],
)
def test_whose_fault(fault, told):
    """In a pass, only what torch says of a lost rank is told so."""
    with pytest.raises(told) as e, Ranks(1, 2).together():
        raise fault
    assert (e.value is fault) == (told is not NetError) and ("rank 1 of 2" in str(e.value)) == (told is NetError)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"RANK": "0", "WORLD_SIZE": "x"}, "make no sense"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "make no sense"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "make no sense"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "not of where they meet"),
    ],
)
def test_a_strange_environment(monkeypatch, told, message):
    for name in ranks_.RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NetError, match=message):
        launched()


@pytest.mark.parametrize(("device", "kind"), [("cuda", "cpu:gloo,cuda:nccl"), ("cpu", "gloo")])
def test_what_travels_how(monkeypatch, device, kind):
    """On GPUs, words between ranks go beside the gradients, so that none of them waits for a GPU."""
    seen = {}
    monkeypatch.setattr(ranks_, "launched", lambda: (1, 2, 1))
    monkeypatch.setattr(ranks_, "_meet", lambda rank, count: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda where: seen.update(where=where))
    monkeypatch.setattr(dist, "init_process_group", lambda kind, **_: seen.update(kind=kind))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, _: seen.update(tensor=tensor.device.type))
    with joined(device) as ranks:
        assert ranks.agree("stop") == "stop"
    assert seen == {"kind": kind, "tensor": "cpu"} | ({"where": "cuda:1"} if device == "cuda" else {})


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert [ranks_._own_device(d, 1) for d in (None, "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    with pytest.raises(NetError, match="share one GPU"):
        ranks_._own_device("cuda:0", 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert ranks_._own_device(None, 1) == "cpu"
    with pytest.raises(NetError, match="not enough GPUs"):
        ranks_._own_device("cuda", 1)
