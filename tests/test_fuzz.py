"""The fuzz script, run briefly over seeds of our own; `python tests/fuzz/fuzz.py FOLDER` runs it at length."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("fuzz", HERE / "fuzz" / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    for case in ("Convolution/group2", "BatchNorm/train", "graph/siamese_shared"):
        golden = np.load(HERE / "golden" / "layers" / f"{case}.npz")
        name = case.replace("/", "-")
        (folder / f"{name}.prototxt").write_text(str(golden["prototxt"]))
        (folder / f"{name}.caffemodel").write_bytes(golden["caffemodel"].tobytes())
    (folder / "v0.prototxt").write_text(
        'input: "x" input_dim: [1, 2, 3, 4] layers { layer { type: "relu" } bottom: "x" top: "y" }'
    )
    (folder / "solver.prototxt").write_text('net: "n.prototxt" solver_type: ADAM base_lr: 0.1 solver_mode: GPU')
    return folder


def test_mutants_are_read_or_refused(script, seeds):
    outcomes = script.fuzz(seeds, 1500)
    assert set(outcomes) == {f".{kind}: {how}" for kind in ("prototxt", "caffemodel") for how in ("read", "refused")}, (
        outcomes
    )
    assert min(outcomes.values()) > 50
    assert script.fuzz(seeds, 100) == script.fuzz(seeds, 100)


def test_failures_are_told_and_kept(script, seeds, tmp_path, monkeypatch, capsys):
    def broken(path):
        return len(path.read_bytes()) // 0

    monkeypatch.setitem(script.READERS, ".prototxt", (broken,))
    outcomes = script.fuzz(seeds, 50, keep=tmp_path)
    (failure,) = [name for name in outcomes if name.startswith("FAILED")]
    assert failure.startswith("FAILED ZeroDivisionError at test_fuzz.py:")
    assert failure in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1


def test_slow_readers_are_stopped(script, seeds, monkeypatch):
    def endless(path):
        while True:
            pass

    monkeypatch.setattr(script, "SECONDS", 0.05)
    monkeypatch.setitem(script.READERS, ".prototxt", (endless,))
    outcomes = script.fuzz(seeds, 3, seed=1)
    assert any(name.startswith("FAILED TooSlow") for name in outcomes)
