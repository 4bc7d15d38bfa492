"""Trajectories that real Caffe computed, each by its own solver settings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from netcompiler import schema
from netcompiler.binary import read_caffemodel
from netcompiler.binary.state import read_state
from netcompiler.train.solver import Solver

HERE = Path(__file__).parents[1] / "golden" / "solvers"
SETTINGS = sorted(p.stem for p in HERE.glob("*.npz"))
ADAPTIVE = ("AdaGrad", "RMSProp", "Adam")
TOLERANCE = {1: 1e-4, 5: 1e-4, 20: 1e-3}
LAYERS = ("conv1", "bn1", "scale1", "ip1", "ip2")
# BatchNorm takes the mean away again, so the gradient of the bias before it is 0 but for rounding. Rules that divide by
# the gradient's size make a step of that noise, which the stored mean follows; the net computes the same.
NOISE = (("conv1", 1), ("bn1", 0))


def largest(golden, at, layer):
    """The largest value of a layer's blobs."""
    return max(float(np.abs(golden[n]).max()) for n in golden.files if n.startswith(f"{at}.{layer}."))


def check_weights(net, golden, iteration, rule):
    params = net.caffe_params()
    assert set(params) == set(LAYERS)
    for layer, blobs in params.items():
        for i, got in enumerate(blobs):
            if rule in ADAPTIVE and (layer, i) in NOISE:
                continue
            atol = TOLERANCE[iteration] * largest(golden, f"w{iteration}", layer)
            what = f"{layer} blob {i} at iteration {iteration}"
            np.testing.assert_allclose(got, golden[f"w{iteration}.{layer}.{i}"], rtol=0, atol=atol, err_msg=what)


def start(folder, golden):
    """The solver's file and the first weights."""
    (folder / "solver.prototxt").write_text(str(golden["solver"]))
    (folder / "init.caffemodel").write_bytes(golden["init"].tobytes())
    return Solver("solver.prototxt", weights="init.caffemodel", device="cpu")


@pytest.mark.parametrize("name", ["sgd_fixed", "adam"])
def test_channels_last(name, golden_folder):
    """The same numbers in another order of memory, from Caffe's snapshot and in one of ours."""
    golden = np.load(HERE / f"{name}.npz")
    start(golden_folder, golden)
    solver = Solver("solver.prototxt", weights="init.caffemodel", device="cpu", channels_last=True)
    assert solver.net.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    (golden_folder / "snap_iter_10.solverstate").write_bytes(golden["solverstate10"].tobytes())
    (golden_folder / "snap_iter_10.caffemodel").write_bytes(golden["caffemodel10"].tobytes())
    solver.restore("snap_iter_10.solverstate")
    solver.step(5)
    _, state = solver.snapshot()
    solver.step(2)
    solver.restore(state)
    solver.step(5)
    check_weights(solver.net, golden, 20, solver.settings.type)


def test_all_settings_are_there():
    assert len(SETTINGS) >= 13


@pytest.mark.parametrize("name", SETTINGS)
def test_trajectory(name, golden_folder):
    golden = np.load(HERE / f"{name}.npz")
    solver = start(golden_folder, golden)
    for i, want in enumerate(golden["loss"]):
        solver.step()
        loss = float(solver.outputs["loss"])  # of the last batch, where iter_size has several
        assert loss == pytest.approx(want, rel=1e-4 if i < 5 else 1e-3), f"loss of iteration {i}"
        if solver.iter in TOLERANCE:
            check_weights(solver.net, golden, solver.iter, solver.settings.type)


@pytest.mark.parametrize("name", SETTINGS)
def test_resumes_from_caffe(name, golden_folder):
    golden = np.load(HERE / f"{name}.npz")
    solver = start(golden_folder, golden)
    (golden_folder / "snap_iter_10.solverstate").write_bytes(golden["solverstate10"].tobytes())
    (golden_folder / "snap_iter_10.caffemodel").write_bytes(golden["caffemodel10"].tobytes())
    solver.restore("snap_iter_10.solverstate")
    assert solver.iter == 10
    for want in golden["loss"][10:]:
        solver.step()
        assert float(solver.outputs["loss"]) == pytest.approx(want, rel=1e-3)
    check_weights(solver.net, golden, 20, solver.settings.type)


@pytest.mark.parametrize("name", SETTINGS)
def test_snapshot_as_caffes(name, golden_folder):
    """What we write at iteration 10 holds what Caffe wrote, field by field."""
    golden = np.load(HERE / f"{name}.npz")
    solver = start(golden_folder, golden)
    (golden_folder / "caffe.solverstate").write_bytes(golden["solverstate10"].tobytes())
    (golden_folder / "caffe.caffemodel").write_bytes(golden["caffemodel10"].tobytes())
    solver.step(10)
    model, state = solver.snapshot()
    ours, theirs = read_state(state), read_state("caffe.solverstate")
    assert (ours.iteration, ours.learned_net, ours.current_step) == (10, "snap_iter_10.caffemodel", theirs.current_step)
    assert theirs.iteration == 10 and theirs.learned_net == ours.learned_net
    adaptive, count = solver.settings.type in ADAPTIVE, len(solver.learned)
    assert len(ours.history) == len(theirs.history)
    for i, (got, want) in enumerate(zip(ours.history, theirs.history, strict=True)):
        assert got.shape == want.shape
        if i % count == 1 or (adaptive and i % count == 2):  # conv1's bias and bn1's mean: see NOISE
            continue
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-3 * float(np.abs(want).max()), err_msg=f"history {i}")
    assert list(read_caffemodel(model)) == list(read_caffemodel("caffe.caffemodel")) == list(LAYERS)
    assert without_values("NetParameter", model) == without_values("NetParameter", "caffe.caffemodel")
    assert without_values("SolverState", state) == without_values("SolverState", "caffe.solverstate")


def without_values(kind, path):
    """A file as protobuf reads it, the values of its arrays set to 0."""
    message = schema.message(kind).FromString(Path(path).read_bytes())
    for blob in message.history if kind == "SolverState" else [b for layer in message.layer for b in layer.blobs]:
        blob.data[:] = [0.0] * len(blob.data)
    return message
