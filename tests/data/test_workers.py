"""Processes that decode ahead: they change nothing, end with their user, and their faults are told."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from netcompiler.data.feeds import open_feeds
from netcompiler.errors import NetError, Span

from .sets import arrays, batches, make_lmdb, raw
from .test_database import GOLDEN, data_layer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers start anew, which takes seconds")


@pytest.fixture
def msg(tmp_path):
    path = make_lmdb(tmp_path / "set", [raw(a, i) for i, a in enumerate(arrays(7))])
    return data_layer(path, 3, "crop_size: 4 mirror: true")


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_same_batches(msg, workers):
    alone = batches(msg, 20, "TRAIN", seed=1)
    ahead = batches(msg, 20, "TRAIN", seed=1, workers=workers)
    for a, b in zip(alone, ahead, strict=True):
        assert all(np.array_equal(a[top], b[top]) for top in ("data", "label"))


def test_leveldb_is_read_by_several():
    msg = data_layer(GOLDEN / "leveldb", 5, backend="LEVELDB")
    for a, b in zip(batches(msg, 8), batches(msg, 8, workers=3), strict=True):
        np.testing.assert_array_equal(a["data"], b["data"])


def test_batches_that_are_kept_are_not_written_over(msg):
    want = batches(msg, 30, "TRAIN", seed=1)
    with open_feeds(msg, "TRAIN", seed=1, workers=2) as feeds:
        kept = [feeds.next()["data"][1:] for _ in range(30)]  # views, and more of them than there are slots
    for a, b in zip(want, kept, strict=True):
        np.testing.assert_array_equal(a["data"][1:], b)
    with open_feeds(msg, "TRAIN", seed=1, workers=2) as feeds:
        for _ in range(30):
            feeds.next()
            gc.collect()
        assert len(feeds.ahead.free) + feeds.ahead.depth >= len(feeds.ahead.slots)  # those let go of are used again


def test_batches_too_large_for_the_first_ones_place(tmp_path):
    records = [arrays(1, (3, 6 + i, 8))[0] for i in range(4)]
    msg = data_layer(make_lmdb(tmp_path / "set", map(raw, records)), 1)
    for k, b in enumerate(batches(msg, 8, workers=2)):
        np.testing.assert_array_equal(b["data"][0], records[k % 4])


def processes(feeds):
    return [p.pid for p in feeds.ahead.processes]


def gone(pid):
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_closing_ends_them(msg):
    with open_feeds(msg, "TRAIN", workers=3) as feeds:
        feeds.next()
        pids = processes(feeds)
    assert len(pids) == 3 and all(map(gone, pids))
    with pytest.raises(NetError, match="closed"):
        feeds.next()


def test_a_killed_worker_is_told_and_the_feeds_go_on(msg):
    want = batches(msg, 20, "TRAIN", seed=1)
    with open_feeds(msg, "TRAIN", seed=1, workers=2) as feeds:
        feeds.next()
        os.kill(processes(feeds)[1], signal.SIGKILL)
        done = 1
        with pytest.raises(NetError, match="a process that reads data ended") as caught:
            while done < 20:
                np.testing.assert_array_equal(feeds.next()["data"], want[done]["data"])
                done += 1
        assert "SIGKILL" in str(caught.value)
        while done < 20:  # started anew, at the same place
            np.testing.assert_array_equal(feeds.next()["data"], want[done]["data"])
            done += 1


def test_faults_travel_whole():
    fault = NetError("what", at=Span("f", 1, 2, "x"), layer="l", expected=3, got=4, hint="h", more=[NetError("again")])
    assert str(pickle.loads(pickle.dumps(fault))) == str(fault)


SCRIPT = """
import sys, time
import netcompiler
from netcompiler.data.feeds import open_feeds
feeds = open_feeds(netcompiler.parse(sys.argv[1]), "TRAIN", workers=2)
feeds.next()
print(*[p.pid for p in feeds.ahead.processes], flush=True)
try:
    while True:
        feeds.next()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    if sys.argv[2] == "close":
        feeds.close()
"""


@pytest.mark.parametrize("ending", ["close", "leave", "kill"])
def test_ctrl_c_and_kill_leave_nothing_behind(msg, ending):
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(msg), ending],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = [int(p) for p in child.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.2)
    if ending == "kill":
        child.kill()
    else:
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does it: to all of them
    out, err = child.communicate(timeout=20)
    assert err == "" and (ending == "kill" or out == "interrupted\n")
    assert all(map(gone, pids))


def test_a_fault_beside_the_workers_keeps_all_in_step(tmp_path, msg):
    """Layers in memory and layers of workers go on together after a fault of either."""
    import h5py

    import netcompiler

    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["x"] = np.arange(100.0)[:, None]
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.h5")
    more = f'layer {{ name: "h" type: "HDF5Data" top: "x" hdf5_data_param {{ source: "{tmp_path}/list.txt" batch_size: 3 }} }}'
    both = netcompiler.parse(str(msg) + more)
    with open_feeds(both, "TEST", seed=1, workers=0) as feeds:
        want = [feeds.next() for _ in range(6)]
    with open_feeds(both, "TEST", seed=1, workers=2) as feeds:
        feeds.next()
        source = feeds.sources[1]
        take = source.take

        def fail(positions):
            source.take = take
            raise NetError("once")

        source.take = fail
        with pytest.raises(NetError, match="once"):
            feeds.next()
        for k in range(1, 6):
            got = feeds.next()
            assert all(np.array_equal(got[top], want[k][top]) for top in ("data", "label", "x"))


def test_leveldb_links_are_removed_without_closing(tmp_path):
    code = f"""
import netcompiler
from netcompiler.data.feeds import open_feeds
text = 'layer {{ type: "Data" name: "in" top: "x" data_param {{ source: "{GOLDEN}/leveldb" batch_size: 2 }} }}'
feeds = open_feeds(netcompiler.parse(text), "TEST", workers=2)
feeds.next(), feeds.next()
"""
    env = os.environ | {"TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_workers_outlive_a_signal_that_the_user_handles(msg, name):
    code = f"""
import os, signal, sys, time, netcompiler
from netcompiler.data.feeds import open_feeds
feeds = open_feeds(netcompiler.parse(sys.argv[1]), "TRAIN", workers=2)
feeds.next()
signal.signal(signal.{name}, lambda *_: print("heard", flush=True))
os.killpg(0, signal.{name})
time.sleep(0.3)
for _ in range(30):
    feeds.next()
print("went on")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(msg)], capture_output=True, text=True, timeout=30, start_new_session=True
    )
    assert (done.stdout, done.stderr) == ("heard\nwent on\n", "")
