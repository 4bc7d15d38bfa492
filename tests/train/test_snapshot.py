"""Snapshots: bit-equal resuming, both formats both ways, and what happens when writing or reading goes wrong."""

import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

from netcompiler import NetError, NetWarning, read_weights, schema
from netcompiler.binary.state import SolverState, read_state, write_state
from netcompiler.train import snapshot as snapshots
from netcompiler.train.solver import Solver

GOLDEN = Path(__file__).parents[1] / "golden" / "solvers"
RULES = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "",
    "AdaDelta": "momentum: 0.9",
    "Adam": "momentum: 0.9",
}
TEXT = """net: "net.prototxt" base_lr: 0.05 lr_policy: "step" gamma: 0.5 stepsize: 4 weight_decay: 0.01
          random_seed: 3 max_iter: 12 snapshot_prefix: "s" average_loss: 4 """


@pytest.fixture
def folder(golden_folder):
    """The goldens' net with shuffled data, dropout, and a test net."""
    net = (golden_folder / "net.prototxt").read_text()
    net = net.replace("batch_size: 8", "batch_size: 8 shuffle: true")
    dropout = 'layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }\n'
    (golden_folder / "net.prototxt").write_text(net.replace('layer { name: "ip2"', dropout + 'layer { name: "ip2"'))
    return golden_folder


def solver(text="", **overrides):
    Path("solver.prototxt").write_text(TEXT + text)
    return Solver("solver.prototxt", device="cpu", overrides=overrides)


def params(s):
    return {f"{name} {i}": a for name, blobs in s.net.caffe_params().items() for i, a in enumerate(blobs)}


def check_equal(a, b):
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("format", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("rule", RULES)
def test_resuming_is_bit_equal(rule, format, folder):
    text = f'type: "{rule}" {RULES[rule]} snapshot_format: {format} test_iter: 2 test_interval: 3'
    whole = solver(text)
    losses = [whole.step() for _ in range(12)]
    scores = whole.test()
    first = solver(text)
    first.step(5)
    _, state = first.snapshot()
    second = solver(text)
    second.step(2)  # so that it stands elsewhere
    second.restore(state)
    assert second.iter == 5
    assert [second.step() for _ in range(7)] == losses[5:]
    check_equal(params(second), params(whole))
    assert second.test() == scores


@pytest.mark.parametrize("most", [2, 3, 5, 9])
def test_smoothed_losses_go_on(most, folder):
    """The mean is that of the last ones also where the snapshot was of another average_loss."""
    plain = solver("", average_loss="1")
    losses = [plain.step() for _ in range(16)]
    first = solver("", average_loss="5")
    first.step(7)
    _, state = first.snapshot()
    second = solver("", average_loss=str(most))
    second.restore(state)
    for i in range(7, 16):
        known = losses[max(0, i + 1 - most, 2 if i < 2 + most else 0) : i + 1]  # of those before 2 nothing is known
        assert second.step() == pytest.approx(np.mean(known), rel=1e-5), i


def test_resuming_on_another_seed_keeps_the_data(folder):
    whole = solver("")
    whole.step(8)
    first = solver("")
    first.step(4)
    _, state = first.snapshot()
    second = solver("", random_seed="77")
    second.restore(state)
    second.step(4)
    check_equal(params(second), params(whole))


def test_without_sidecar_the_data_goes_on(golden_folder):
    """As from Caffe's own snapshots; the goldens' data are in order, and nothing is random."""
    whole = solver("test_iter: 2 test_interval: 3")
    whole.step(8)
    for initial in ("true", "false"):
        first = solver(f"test_iter: 2 test_interval: 3 test_initialization: {initial}")
        first.step(5)
        _, state = first.snapshot()
        Path("s_iter_5.netstate.json").unlink()
        second = solver(f"test_iter: 2 test_interval: 3 test_initialization: {initial}")
        second.restore(state)
        assert second._tests[0].feed.state() == first._tests[0].feed.state()
        second.step(3)
        check_equal(params(second), params(whole))


@pytest.mark.parametrize("format", ["BINARYPROTO", "HDF5"])
def test_files_read_back(format, folder):
    s = solver(f"type: 'Adam' momentum: 0.9 snapshot_format: {format}")
    s.step(6)
    model, state = s.snapshot()
    end = ".h5" if format == "HDF5" else ""
    assert (str(model), str(state)) == (f"s_iter_6.caffemodel{end}", f"s_iter_6.solverstate{end}")
    held = read_state(state)
    assert (held.iteration, held.learned_net, held.current_step) == (6, str(model), 1)
    assert len(held.history) == 2 * len(s.learned)
    for tensor, array in zip(s.optimizer.history(s.learned), held.history, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)
    weights = read_weights(model)
    for name, blobs in s.net.caffe_params().items():
        for a, b in zip(blobs, weights[name], strict=True):
            np.testing.assert_array_equal(a, b)


def test_hdf5_state_is_laid_out_as_caffes(tmp_path):
    """What Caffe's hdf5_save_int, hdf5_save_string and hdf5_save_nd_dataset make."""
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(1, np.float32)]
    write_state(tmp_path / "s.h5", SolverState(7, "dir/n_iter_7.caffemodel.h5", 2, arrays), hdf5=True)
    with h5py.File(tmp_path / "s.h5") as f:
        assert set(f) == {"iter", "learned_net", "current_step", "history"}
        assert f["iter"].shape == (1,) and f["iter"].dtype == np.int32 and f["iter"][0] == 7
        assert f["current_step"][0] == 2
        learned = f["learned_net"]
        assert learned.shape == () and learned.id.get_type().get_strpad() == h5py.h5t.STR_NULLTERM
        assert learned.id.get_type().get_size() == len("dir/n_iter_7.caffemodel.h5") + 1
        assert set(f["history"]) == {"0", "1"} and f["history/0"].dtype == np.float32
    held = read_state(tmp_path / "s.h5")
    assert held.learned_net == "dir/n_iter_7.caffemodel.h5" and (held.history[0] == arrays[0]).all()


def test_weights_are_found_beside_a_moved_state(folder):
    s = solver("")
    s.step(2)
    s.snapshot()
    os.mkdir("moved")
    for path in folder.glob("s_iter_2.*"):
        path.rename(folder / "moved" / path.name)
    fresh = solver("")
    fresh.restore("moved/s_iter_2.solverstate")
    check_equal(params(fresh), params(s))
    (folder / "moved" / "s_iter_2.caffemodel").unlink()
    with pytest.raises(NetError, match="weights of this snapshot are not there"):
        fresh.restore("moved/s_iter_2.solverstate")


def test_sidecar_of_another_run_is_not_used(folder):
    s = solver("")
    s.step(2)
    _, state = s.snapshot()
    old = Path("s_iter_2.netstate.json").read_bytes()
    other = solver("", base_lr="0.5")
    other.step(2)
    other.snapshot()
    Path("s_iter_2.netstate.json").write_bytes(old)
    with pytest.warns(NetWarning, match="of another snapshot"):
        other.restore(state)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 0}', "\xff"])
def test_damaged_sidecar(content, folder):
    s = solver("")
    _, state = s.snapshot()
    Path("s_iter_0.netstate.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(NetError) as e:
        s.restore(state)
    assert "s_iter_0.netstate.json" in str(e.value)


@pytest.mark.parametrize("field", ["feeds", "random", "test_feeds", "losses", "smoothed_loss"])
def test_sidecar_with_something_wrong(field, folder):
    s = solver("test_iter: 1 test_interval: 5")
    _, state = s.snapshot()
    held = json.loads(Path("s_iter_0.netstate.json").read_text())
    for wrong in (None, ["!"], {"a": 1}, [[""]], [["AAAA"]]):
        Path("s_iter_0.netstate.json").write_text(json.dumps({**held, field: wrong}))
        with pytest.raises(NetError):
            s.restore(state)


def test_state_of_another_rule_or_net(folder):
    s = solver("")
    _, state = s.snapshot()
    with pytest.raises(NetError, match="another net or type of solver") as e:
        solver("type: 'Adam' momentum: 0.9").restore(state)
    assert "22" in str(e.value.expected) and "11" in str(e.value.got)
    net = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(net.replace("num_output: 8", "num_output: 9"))
    with pytest.raises(NetError, match=r"of another net: weight of .* \(InnerProduct\) has another shape"):
        solver("").restore(state)


def test_files_that_are_no_states(folder):
    s = solver("snapshot_format: HDF5")
    model, _ = s.snapshot()
    binary = solver("").snapshot()[0]
    for path, hint in ((model, "caffemodel.h5"), (binary, "this is a .caffemodel"), ("net.prototxt", "this is text")):
        with pytest.raises(NetError, match=hint):
            s.restore(path)
    with pytest.raises(NetError, match="cannot be read"):
        s.restore("nothing.solverstate")


@pytest.mark.parametrize("name", ["sgd_step", "adam"])
def test_cut_short_anywhere(name, tmp_path):
    """Never a traceback, and never a state with less in it."""
    data = np.load(GOLDEN / f"{name}.npz")["solverstate10"].tobytes()
    (tmp_path / "whole").write_bytes(data)
    whole = read_state(tmp_path / "whole")
    for length in range(0, len(data) - 1, 7):
        (tmp_path / "cut").write_bytes(data[:length])
        try:
            state = read_state(tmp_path / "cut")
        except NetError:
            continue
        assert len(state.history) < len(whole.history) or state.current_step == 0  # cut between two fields


def test_negative_counts(tmp_path):
    (tmp_path / "s").write_bytes(b"\x08" + b"\xff" * 9 + b"\x01" + b"\x12\x01a")
    with pytest.raises(NetError, match="negative"):
        read_state(tmp_path / "s")


def test_learned_net_is_no_utf8(tmp_path):
    path = "é.caffemodel"
    write_state(tmp_path / "s", SolverState(1, path, 0, [np.zeros(2, np.float32)]))
    assert read_state(tmp_path / "s").learned_net == path
    write_state(tmp_path / "s.h5", SolverState(1, path, 0, [np.zeros(2, np.float32)]), hdf5=True)
    assert read_state(tmp_path / "s.h5").learned_net == path


def test_values_lie_in_the_file_as_in_memory(tmp_path):
    write_state(tmp_path / "s", SolverState(300, "m", 2, [np.array([1.5], np.float32)]))
    blob = b"\x2a\x04" + struct.pack("<f", 1.5) + b"\x3a\x03\x0a\x01\x01"
    want = b"\x08\xac\x02" + b"\x12\x01m" + b"\x1a" + bytes([len(blob)]) + blob + b"\x20\x02"
    assert (tmp_path / "s").read_bytes() == want


@pytest.mark.parametrize("format", ["BINARYPROTO", "HDF5"])
def test_failure_while_writing_leaves_the_old_one(format, folder, monkeypatch):
    s = solver(f"snapshot_format: {format}")
    s.step(3)
    model, state = s.snapshot()
    old = model.read_bytes(), state.read_bytes()
    s.step(2)
    s.iter = 3  # so that the same files are written

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(NetError, match="No space left"):
        s.snapshot()
    monkeypatch.undo()
    os.chdir(folder)
    assert (model.read_bytes(), state.read_bytes()) == old
    assert not list(folder.glob(".*.part"))
    fresh = solver(f"snapshot_format: {format}")
    fresh.restore(state)
    assert fresh.iter == 3


def test_killed_while_writing(folder):
    """SIGKILL in the middle of writing iteration 4: the snapshot of iteration 2 is whole, and resuming from it works."""
    code = """
        import os, signal
        from netcompiler import files
        from netcompiler.train import snapshot
        from netcompiler.train.solver import Solver

        s = Solver("solver.prototxt", device="cpu")
        s.step(2)
        s.snapshot()
        s.step(2)
        def die(*_, **__):
            open("reached", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        os.replace = die
        s.snapshot()
    """
    reference = solver("")
    reference.step(6)
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, "PYTHONPATH": _root()})
    assert run.returncode == -signal.SIGKILL and Path("reached").exists()
    assert not list(folder.glob("s_iter_4.*"))
    s = solver("")
    s.restore("s_iter_2.solverstate")
    s.step(4)
    check_equal(params(s), params(reference))


def _root():
    import netcompiler

    return str(Path(netcompiler.__file__).parents[1])


def test_snapshot_in_the_middle_of_a_test(folder):
    """The test is made again from its start, so that resuming goes the same way."""
    text = "test_iter: 3 test_interval: 2"
    whole = solver(text)
    whole.step(8)
    wishes = iter([None] * 9 + ["snapshot"] + ["stop"] * 3)
    first = solver(text)
    first.solve(stop=lambda: next(wishes))
    assert first.iter == 4
    second = solver(text)
    second.restore("s_iter_4.solverstate")
    second.step(4)
    check_equal(params(second), params(whole))
    assert second.test() == whole.test()


def test_ranks(folder):
    """Each rank's random numbers are kept; on another number of ranks they start anew, and the data goes on."""
    s = solver("")
    s.gather = lambda own: [own, own]
    s.step(2)
    _, state = s.snapshot()
    held = json.loads(Path("s_iter_2.netstate.json").read_text())
    assert len(held["random"]) == 2
    fresh = solver("")
    fresh.restore(state)
    assert fresh._train.feed.state() == s._train.feed.state()
    other = Solver("solver.prototxt", device="cpu", rank=1, ranks=2)
    assert other.snapshot() and other.test_nets == []
    other.restore(state)
    assert other.iter == 2


def test_names():
    names = snapshots.Names.at("dir.x/net", 50, True)
    assert [str(p) for p in (names.model, names.state, names.sidecar)] == [
        "dir.x/net_iter_50.caffemodel.h5",
        "dir.x/net_iter_50.solverstate.h5",
        "dir.x/net_iter_50.netstate.json",
    ]


def test_an_lstm_goes_on_with_its_state(folder):
    """It carries a state from batch to batch, which Caffe's files do not hold."""
    lstm = """layer { name: "steps" type: "Reshape" bottom: "ip1" top: "steps"
      reshape_param { shape { dim: 8 dim: 1 dim: -1 } } }
    layer { name: "cont" type: "DummyData" top: "cont" dummy_data_param { shape { dim: 8 dim: 1 }
      data_filler { type: "constant" value: 1 } } }
    layer { name: "lstm" type: "LSTM" bottom: "steps" bottom: "cont" top: "h" recurrent_param { num_output: 8
      weight_filler { type: "xavier" } } }
    layer { name: "flat" type: "Reshape" bottom: "h" top: "flat" reshape_param { shape { dim: 8 dim: 8 } } }
    layer { name: "ip2" type: "InnerProduct" bottom: "flat" """
    net = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(net.replace('layer { name: "ip2" type: "InnerProduct" bottom: "ip1"', lstm))
    whole = solver("")
    whole.step(6)
    first = solver("")
    first.step(3)
    _, state = first.snapshot()
    second = solver("")
    second.step(1)
    second.restore(state)
    assert [t.tolist() for t in second.net.lstm.state] == [t.tolist() for t in first.net.lstm.state]
    second.step(3)
    check_equal(params(second), params(whole))
    held = json.loads(Path("s_iter_3.netstate.json").read_text())
    for wrong in ([{"lstm": {"state": ["!"]}}], [{"lstm": {"state": [{"type": "Tensor"}]}}], [3]):
        Path("s_iter_3.netstate.json").write_text(json.dumps({**held, "remembered": wrong}))
        with pytest.raises(NetError, match="damaged"):
            second.restore(state)
    Path("s_iter_3.netstate.json").unlink()
    second.restore(state)
    assert "state" not in second.net.lstm.__dict__  # as in Caffe, it begins anew


@pytest.mark.parametrize("format", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("rule", RULES)
def test_snapshot_diff(rule, format, golden_folder):
    """Beside each blob what the last update took off it, as Caffe's diffs hold it then; 0 for statistics."""
    s = solver(f"type: '{rule}' {RULES[rule]} snapshot_format: {format} snapshot_diff: true")
    s.step(2)
    before = params(s)
    s.step()
    after = params(s)
    model, _ = s.snapshot()
    diffs = {}
    if format == "HDF5":
        with h5py.File(model) as f:
            assert set(f) == {"data", "diff"} and set(f["data"]) == set(f["diff"])
            diffs = {f"{name} {i}": g[i][()] for name, g in f["diff"].items() for i in g}
    else:
        for layer in schema.NetParameter.FromString(model.read_bytes()).layer:
            for i, blob in enumerate(layer.blobs):
                diffs[f"{layer.name} {i}"] = np.array(blob.diff, np.float32).reshape(list(blob.shape.dim))
    assert diffs.keys() == before.keys()
    for name, diff in diffs.items():
        if name.startswith("bn"):
            assert not diff.any()
        else:
            assert diff.any() == (name != "ip2 1")  # which has lr_mult 0
            np.testing.assert_allclose(before[name] - diff, after[name], rtol=0, atol=1e-6, err_msg=name)
    check_equal({k: read_weights(model)[k.split()[0]][int(k.split()[1])] for k in after}, after)
    fresh = solver(f"type: '{rule}' {RULES[rule]} snapshot_diff: true")
    fresh.restore(f"s_iter_3.solverstate{'.h5' if format == 'HDF5' else ''}")
    check_equal(params(fresh), after)


def test_no_diffs_unless_asked_for(folder):
    s = solver("")
    s.step(1)
    model, _ = s.snapshot()
    assert not any(b.diff for layer in schema.NetParameter.FromString(model.read_bytes()).layer for b in layer.blobs)
