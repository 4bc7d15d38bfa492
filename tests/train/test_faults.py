"""What goes wrong outside: a full disk, a writer that is killed, a damaged record, a picture that is gone. A clear end, or
a clear skip as chosen; never half a file."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

from netcompiler import NetError, read_weights
from netcompiler.cli import main
from netcompiler.train.solver import Solver

from . import small

resource = pytest.importorskip("resource")
Image = pytest.importorskip("PIL.Image")

PICTURES = """layer {{ name: "data" type: "ImageData" top: "data" top: "label" include {{ phase: {phase} }}
  image_data_param {{ source: "{file}" batch_size: 4 }} transform_param {{ scale: 0.01 }} }}
"""
NET = """layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" display: 2 max_iter: 6 snapshot_prefix: "s" random_seed: 1
test_iter: 2 test_interval: 6 test_initialization: false solver_mode: CPU
"""


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Eight pictures to train on, of which one is no picture and one is not there; four to test on, one of them cut short."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(draw.integers(0, 256, (6, 6, 3), np.uint8)).save(f"{i}.png")
    Path("3.png").write_bytes(b"no picture")
    Path("5.png").unlink()
    Path("9.png").write_bytes(Path("9.png").read_bytes()[:60])
    Path("train.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in range(8)))
    Path("test.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in range(8, 12)))
    heads = [PICTURES.format(phase=phase, file=f"{phase.lower()}.txt") for phase in ("TRAIN", "TEST")]
    Path("net.prototxt").write_text("".join(heads) + NET)
    Path("solver.prototxt").write_text(SOLVER)
    return tmp_path


def test_training_stops_at_a_damaged_picture(pictures, capsys):
    assert main(["train", "solver.prototxt"]) == 2
    err = capsys.readouterr().err
    assert "train.txt:4" in err and "3.png" in err and "Traceback" not in err
    assert not list(pictures.glob("s_iter_*"))


def test_training_passes_over_what_cannot_be_read(pictures, capsys):
    """Each time it comes round; the end tells how many."""
    assert main(["train", "solver.prototxt", "--on-fault", "skip"]) == 0
    out, err = capsys.readouterr()
    told = int(re.search(r"^([\d,]+) unreadable records were passed over$", out, re.M)[1])
    assert told == len(re.findall("passed over, ", err)) >= 6  # 24 records of 8, of which 2 are bad; and tests
    assert "done after 6 iterations" in out and Path("s_iter_6.caffemodel").exists()


def test_a_sound_run_tells_of_none(tmp_path, monkeypatch, capsys):
    small.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "solver.prototxt", "--on-fault", "skip", "--set", "max_iter=2"]) == 0
    assert "passed over" not in capsys.readouterr().out


def test_testing(pictures, capsys):
    main(["train", "solver.prototxt", "--on-fault", "skip", "-q", "--set", "max_iter=1"])
    capsys.readouterr()
    arguments = ["test", "net.prototxt", "-w", "s_iter_1.caffemodel", "--iterations", "3", "--device", "cpu"]
    assert main(arguments) == 2
    assert "test.txt:2" in capsys.readouterr().err
    assert main([*arguments, "--on-fault", "skip"]) == 0
    assert re.search(r"^\d unreadable records were passed over$", capsys.readouterr().out, re.M)
    assert main([*arguments, "--on-fault", "skip", "--json"]) == 0
    assert '"skipped": 3' in capsys.readouterr().out  # one in each round of 4, whose place the next one takes


def test_workers_change_nothing(pictures, capsys):
    """Of training and of testing: with none, as by default, and with two."""
    words = [[], ["--workers", "0"], ["--workers", "2"]]
    for i, more in enumerate(words):
        arguments = ["train", "solver.prototxt", "-q", "--on-fault", "skip", "--set", f"snapshot_prefix=w{i}"]
        assert main([*arguments, *more]) == 0
    files = [Path(f"w{i}_iter_6.caffemodel").read_bytes() for i in range(3)]
    assert files[0] == files[1] == files[2]
    capsys.readouterr()
    told = []
    for more in words:
        assert (
            main(["test", "net.prototxt", "-w", "w0_iter_6.caffemodel", "--on-fault", "skip", "--device", "cpu", *more])
            == 0
        )
        told.append(capsys.readouterr().out.splitlines()[1:])
    assert told[0] == told[1] == told[2]
    assert main(["train", "solver.prototxt", "--workers", "-1"]) == 2
    assert "a negative number of workers" in capsys.readouterr().err


def test_from_python(pictures):
    with Solver("solver.prototxt", on_fault="skip", workers=2) as s:
        assert [built.feed.workers for built in (s._train, *s._tests)] == [2, 2]

    with pytest.raises(NetError, match="unknown on_fault"):
        Solver("solver.prototxt", on_fault="ignore")
    with pytest.warns(UserWarning, match="passed over"), Solver("solver.prototxt", on_fault="skip") as s:
        s.step(3)
        assert s.skipped() >= 2


# --- disks ---


def limited(code, size, folder):
    """Run Python code in a process whose files cannot grow above a size, as on a disk that is full."""
    whole = f"""
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(whole) + textwrap.dedent(code)],
        cwd=folder, env=small.environment(), capture_output=True, text=True,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("format", "size"), [("BINARYPROTO", 100), ("BINARYPROTO", 9000), ("HDF5", 3000), ("HDF5", 9000)]
)
def test_the_disk_is_full(tmp_path, format, size):
    """In the middle of a snapshot: exit code 2 and the reason, the one before is whole, nothing half-written lies about."""
    small.write(tmp_path)
    net = (tmp_path / "net.prototxt").read_text().replace("num_output: 7", "num_output: 300")
    (tmp_path / "net.prototxt").write_text(net)
    code, out = small.finish(small.start(tmp_path, "train", "solver.prototxt", "-q", "--set", "max_iter=20",
                                         "--set", f"snapshot_format={format}"))  # fmt: skip
    assert code == 0, out
    before = {p.name: p.read_bytes() for p in tmp_path.glob("small_iter_20.*")}
    assert len(before) == 3
    arguments = ["train", "solver.prototxt", "--snapshot", "latest", "--set", f"snapshot_format={format}"]
    code, out = limited(f"from netcompiler.cli import main\nraise SystemExit(main({arguments!r}))", size, tmp_path)
    assert code == 2 and "small_iter_40.caffemodel" in out and "cannot be written: File too large" in out, out
    assert "Traceback" not in out
    assert {p.name: p.read_bytes() for p in tmp_path.glob("small_iter_20.*")} == before
    left = {p.name for p in tmp_path.iterdir() if p.name.startswith((".", "small_iter_40"))}
    assert not any(name.startswith(".") or name.endswith((".solverstate", ".solverstate.h5")) for name in left), left
    start = ("train", "solver.prototxt", "-q", "--snapshot", "latest", "--set", "max_iter=21")
    assert small.finish(small.start(tmp_path, *start))[0] == 0


def test_the_disk_is_full_for_hdf5output(tmp_path):
    """The file of before stays, the process ends by an error of ours, not by HDF5's own."""
    (tmp_path / "out.h5").write_bytes(b"before")
    code, out = limited(
        """
        import numpy as np, netcompiler
        from netcompiler import rows
        text = '''layer { name: "x" type: "Input" top: "x" top: "y"
          input_param { shape { dim: 50 dim: 100 } shape { dim: 50 } } }
        layer { name: "o" type: "HDF5Output" bottom: "x" bottom: "y" hdf5_output_param { file_name: "out.h5" } }'''
        net = netcompiler.compile(netcompiler.parse(text), device="cpu")
        x = np.ones((50, 100), np.float32)
        done = 0
        for block in (rows.gathered, rows.gathered):
            try:
                with block():
                    for done in range(100):
                        net(x, np.ones(50, np.float32))
            except netcompiler.NetError as e:
                print(done, e.what)
        """,
        90_000,
        tmp_path,
    )
    assert code == 0 and out.count("cannot be written: File too large") == 2, out
    assert all(int(line.split()[0]) < 10 for line in out.splitlines()), out  # noticed when it happens
    assert (tmp_path / "out.h5").read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("format", ["BINARYPROTO", "HDF5"])
def test_killed_at_any_write(tmp_path, format):
    """SIGKILL when each file of the second snapshot is half-way there: every file under its own name is whole."""
    small.write(tmp_path)
    code = """
        import os, signal, sys
        from netcompiler import files
        from netcompiler.train.solver import Solver
        count, real = 0, os.replace
        def die(source, target):
            global count
            count += 1
            if count == 3 + int(sys.argv[1]):
                os.truncate(source, os.path.getsize(source) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)
        s = Solver("solver.prototxt", device="cpu", overrides={"snapshot_format": sys.argv[2]})
        os.replace = die
        s.step(2); s.snapshot(); s.step(2); s.snapshot()
    """
    end = ".h5" if format == "HDF5" else ""
    for which in (1, 2, 3):
        for old in tmp_path.glob("small_iter_*"):
            old.unlink()
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(which), format], cwd=tmp_path, env=small.environment()
        )
        assert run.returncode == -signal.SIGKILL
        ends = (f".caffemodel{end}", f".solverstate{end}", ".netstate.json")
        second = [tmp_path / f"small_iter_4{suffix}" for suffix in ends]
        assert [path.exists() for path in second] == [i + 1 < which for i in range(3)]
        newest = 4 if which == 3 else 2
        read_weights(tmp_path / f"small_iter_{newest}.caffemodel{end}")
        os.chdir(tmp_path)
        fresh = Solver("solver.prototxt", device="cpu")
        fresh.restore(f"small_iter_{newest}.solverstate{end}")
        assert fresh.iter == newest
        fresh.step()


def test_a_feature_file_of_a_stopped_test(tmp_path, monkeypatch):
    """A test that a signal stops leaves the file of the whole test before it."""
    small.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    out = """layer { name: "out" type: "HDF5Output" bottom: "fc2" bottom: "label" include { phase: TEST }
             hdf5_output_param { file_name: "out.h5" } }"""
    Path("net.prototxt").write_text(Path("net.prototxt").read_text() + out)
    wishes = iter([None, None, None, "stop"])
    s = Solver("solver.prototxt", overrides={"test_interval": "1", "max_iter": "3"})
    s.solve(stop=lambda: next(wishes))
    with h5py.File("out.h5") as f:
        assert f["data"].shape == (16, 3, 1, 1) and f["label"].shape == (16, 1, 1, 1)  # of both batches of 8
        first = f["data"][()]
    assert s.test() and not np.array_equal(h5py.File("out.h5")["data"][()], first)
