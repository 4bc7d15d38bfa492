"""`netcompile data`: sets that are made, measured, described and drawn."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from netcompiler.cli import main
from netcompiler.data import convert as converting
from netcompiler.data.sets import Set, kind_of
from netcompiler.data.stores import Store
from netcompiler.data.transform import read_mean
from netcompiler.errors import NetError

from .sets import Datum, arrays, batches, make_lmdb, raw, save_picture
from .test_database import GOLDEN, data_layer, encoded


def run(*words):
    return main(["data", *map(str, words)])


def records(path):
    store = Store(str(path))
    found = [(key, Datum.FromString(value)) for key, value in store]
    store.close()
    return found


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_convert_writes_what_convert_imageset_writes(tmp_path, backend, workers):
    out = tmp_path / "set"
    words = ("--root", f"{GOLDEN}/images/", "--resize", "24,32", "--backend", backend, "--workers", workers)
    assert run("convert", GOLDEN / "list.txt", out, *words) == 0
    want, got = records(GOLDEN / backend), records(out)
    assert [k for k, _ in got] == [k for k, _ in want] and len(got) == 12
    for (key, a), (_, b) in zip(got, want, strict=True):
        assert (a.channels, a.height, a.width, a.label) == (b.channels, b.height, b.width, b.label)
        far = np.abs(np.frombuffer(a.data, np.uint8).astype(int) - np.frombuffer(b.data, np.uint8)).max()
        assert far <= (2 if key.endswith(b"jpg") else 0)


def test_convert_encoded(tmp_path):
    words = ("--root", f"{GOLDEN}/images/", "--resize", "24,32", "--encode", "png")
    run("convert", GOLDEN / "list.txt", tmp_path / "set", *words)
    assert all(d.encoded and d.data.startswith(b"\x89PNG") for _, d in records(tmp_path / "set"))
    assert len({d.data for _, d in records(tmp_path / "set")}) == 12
    a, b = (batches(data_layer(p, 12), 1)[0]["data"] for p in (tmp_path / "set", GOLDEN / "lmdb_encoded"))
    assert np.abs(a - b).max() <= 2 and np.array_equal(a[[0, 1, 3, 4]], b[[0, 1, 3, 4]])


def test_files_of_the_wanted_kind_are_stored_as_they_are(tmp_path):
    run("convert", GOLDEN / "list.txt", tmp_path / "set", "--root", f"{GOLDEN}/images/", "--encode", "jpg")
    stored = dict(records(tmp_path / "set"))
    assert stored[b"00000002_02.jpg"].data == (GOLDEN / "images" / "02.jpg").read_bytes()
    assert stored[b"00000001_01.png"].data.startswith(b"\xff\xd8\xff")


def make_folder(path):
    for label, name in enumerate(("cats", "dogs")):
        (path / name / "more").mkdir(parents=True)
        for i in range(3):
            save_picture(path / name / f"{i}.png", arrays(1, (3, 5 + i, 6), seed=10 * label + i)[0])
        save_picture(path / name / "more" / "9.png", arrays(1, (3, 5, 6), seed=99)[0])
        (path / name / "notes.txt").write_text("no picture")
    return path


def test_convert_a_folder_of_classes(tmp_path, capsys):
    folder = make_folder(tmp_path / "photos")
    run("convert", folder, tmp_path / "set", "--gray")
    got = records(tmp_path / "set")
    assert [k.decode() for k, _ in got][:5] == [
        "00000000_cats/0.png",
        "00000001_cats/1.png",
        "00000002_cats/2.png",
        "00000003_cats/more/9.png",
        "00000004_dogs/0.png",
    ]
    assert [d.label for _, d in got] == [0] * 4 + [1] * 4 and {d.channels for _, d in got} == {1}
    out = capsys.readouterr().out
    assert "8 records" in out and "0  cats" in out and "1  dogs" in out


@pytest.mark.parametrize(("more", "told"), [((), True), (("--shuffle",), False)])
def test_records_that_lie_class_by_class(tmp_path, capsys, more, told):
    """Nothing can be trained on them in that order."""
    folder = make_folder(tmp_path / "photos")
    assert run("convert", folder, tmp_path / "set", *more) == 0
    assert ("add --shuffle" in capsys.readouterr().err) == told
    assert run("convert", folder / "cats", tmp_path / "one", *more) == 0  # one class alone
    assert "add --shuffle" not in capsys.readouterr().err


def test_shuffle_is_a_seeds_and_whole(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ("--root", f"{GOLDEN}/images/", "--shuffle", "--seed", seed)
        run("convert", GOLDEN / "list.txt", tmp_path / name, *words)
    a, b, c = ([k.decode()[9:] for k, _ in records(tmp_path / n)] for n in "abc")
    assert a == b != c and sorted(a) == sorted(c) and a != sorted(a)


def test_a_database_becomes_another(tmp_path):
    floats = arrays(3, kind=np.float32)
    make_lmdb(tmp_path / "floats", [raw(a, i) for i, a in enumerate(floats)])
    run("convert", tmp_path / "floats", tmp_path / "level", "--backend", "leveldb")
    np.testing.assert_array_equal(batches(data_layer(tmp_path / "level", 3, backend="LEVELDB"), 1)[0]["data"], floats)
    run("convert", GOLDEN / "leveldb_encoded", tmp_path / "small", "--resize", "5,6")
    assert {(d.height, d.width, d.encoded) for _, d in records(tmp_path / "small")} == {(5, 6, False)}


def left(folder):
    return sorted(p.name for p in folder.iterdir())


def test_nothing_is_written_by_halves(tmp_path, capsys):
    (tmp_path / "list.txt").write_text(f"{GOLDEN}/images/00.png 0\nmissing.png 1\n{GOLDEN}/images/01.png 2\n")
    assert run("convert", tmp_path / "list.txt", tmp_path / "set") == 2
    assert "list.txt:2: missing.png" in capsys.readouterr().err and left(tmp_path) == ["list.txt"]
    assert run("convert", tmp_path / "list.txt", tmp_path / "set", "--skip") == 0
    told = capsys.readouterr()
    assert "2 records, 1 left out" in told.out and "list.txt:2: missing.png" in told.err
    assert [k for k, _ in records(tmp_path / "set")][1].startswith(b"00000002_")
    before = records(tmp_path / "set")
    assert run("convert", GOLDEN / "list.txt", tmp_path / "set") == 2  # it is there
    assert "--force" in capsys.readouterr().err and records(tmp_path / "set") == before
    assert run("convert", GOLDEN / "list.txt", tmp_path / "set", "--force") == 2  # no such files without --root
    assert records(tmp_path / "set") == before
    assert run("convert", GOLDEN / "list.txt", tmp_path / "set", "--force", "--root", f"{GOLDEN}/images/") == 0
    assert len(records(tmp_path / "set")) == 12 and left(tmp_path) == ["list.txt", "set"]


def test_size_check_and_other_refusals(tmp_path, capsys):
    words = ("convert", GOLDEN / "list.txt", tmp_path / "set", "--root", f"{GOLDEN}/images/")
    for more, match in [
        (("--check-size",), "differ in size"),
        (("--resize", "5"), "not H,W"),
        (("--encode", "gift"), "unknown kind of file"),
    ]:
        assert run(*words, *more) == 2 and match in capsys.readouterr().err
    assert run("convert", GOLDEN / "mean.binaryproto", tmp_path / "set") == 2
    assert run("convert", GOLDEN / "lmdb", tmp_path / "set", "--shuffle") == 2
    assert left(tmp_path) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converting, "_make", fail)
    with pytest.raises(NetError, match="No space left"):
        converting.convert(str(GOLDEN / "list.txt"), str(tmp_path / "set"), converting.Options(), workers=0)
    assert left(tmp_path) == []


def test_a_set_larger_than_the_first_map(tmp_path):
    import lmdb

    big = arrays(40, (3, 800, 900))  # 86 MB, where the map begins with 64
    with converting._written(str(tmp_path / "set"), "LMDB") as put:
        for i, a in enumerate(big):
            put((f"{i:08d}".encode(), raw(a)))
    with lmdb.open(str(tmp_path / "set"), readonly=True, lock=False) as env:
        assert env.stat()["entries"] == 40


@pytest.mark.skipif(sys.platform != "linux", reason="signals")
def test_ctrl_c_leaves_nothing(tmp_path):
    (tmp_path / "list.txt").write_text(f"{GOLDEN}/images/00.png 0\n" * 20000)
    words = [sys.executable, "-m", "netcompiler", "data", "convert", "list.txt", "set", "--workers", "2"]
    env = os.environ | {"PYTHONPATH": str(Path(converting.__file__).parents[2])}
    child = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True, env=env)
    for _ in range(200):
        if any(p.name.endswith(".part") for p in tmp_path.iterdir()):
            break
        time.sleep(0.05)
    time.sleep(0.3)
    os.killpg(child.pid, signal.SIGINT)
    err = child.communicate(timeout=20)[1]
    assert child.returncode == 130 and "stopped" in err and "Traceback" not in err
    assert left(tmp_path) == ["list.txt"]


def test_mean_is_compute_image_means(tmp_path, capsys):
    assert run("mean", GOLDEN / "lmdb", tmp_path / "mean.binaryproto") == 0
    assert (tmp_path / "mean.binaryproto").read_bytes() == (GOLDEN / "mean.binaryproto").read_bytes()
    assert "3 x 24 x 32, by channel" in capsys.readouterr().out
    run("mean", GOLDEN / "leveldb_encoded", tmp_path / "mean.npy")
    want = batches(data_layer(GOLDEN / "leveldb_encoded", 12, backend="LEVELDB"), 1)[0]["data"].mean(0)
    np.testing.assert_allclose(np.load(tmp_path / "mean.npy"), want, atol=1e-4)
    run("mean", make_folder(tmp_path / "photos"), tmp_path / "m.binaryproto", "--resize", "4,4", "--gray")
    assert read_mean(str(tmp_path / "m.binaryproto")).shape == (1, 4, 4)


def test_mean_refuses(tmp_path, capsys):
    assert run("mean", make_folder(tmp_path / "photos"), tmp_path / "m.npy") == 2
    assert "differ in size" in capsys.readouterr().err
    assert run("mean", GOLDEN / "lmdb", tmp_path / "m.txt") == 2
    make_lmdb(tmp_path / "bad", [raw(arrays(1)[0]), b"\xff"])
    assert run("mean", tmp_path / "bad", tmp_path / "m.npy") == 2
    assert "record 00000001" in capsys.readouterr().err and not (tmp_path / "m.npy").exists()


def info(capsys, *words):
    assert run("info", *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_info_counts(tmp_path, capsys):
    png = Datum(data=encoded(arrays(1)[0]), encoded=True, label=7).SerializeToString()
    floats = raw(arrays(1, kind=np.float32)[0], 3)
    path = make_lmdb(tmp_path / "set", [raw(arrays(1)[0], 3), png, floats, b"\xff"])
    told = info(capsys, path)
    assert told["kind"] == "LMDB" and told["count"] == 4 and told["fault_count"] == 1
    assert told["forms"] == {"raw": 1, "PNG": 1, "float": 1, "damaged": 1}
    assert told["shapes"] == {"3 x 6 x 8": 3} and told["labels"] == {"3": 2, "7": 1}
    assert "record 00000003" in told["faults"][0]
    assert info(capsys, path, "--first", 2)["count"] == 2
    run("info", path)
    text = capsys.readouterr().out
    assert "LMDB, 4 records" in text and "2 different, 1 to 2 records each" in text and "damaged" in text


def test_info_of_other_sets(tmp_path, capsys):
    assert info(capsys, GOLDEN / "leveldb")["count"] == 12
    told = info(capsys, GOLDEN / "list.txt", "--root", f"{GOLDEN}/images/")
    assert told["kind"] == "list" and told["forms"] == {"PNG": 8, "JPEG": 4} and told["fault_count"] == 0
    told = info(capsys, GOLDEN / "list.txt")
    assert told["forms"] == {"missing": 12} and told["fault_count"] == 12 and told["low"] is None
    assert info(capsys, GOLDEN / "mean.binaryproto")["shapes"] == {"3 x 24 x 32": 1}
    assert info(capsys, make_folder(tmp_path / "p"))["labels"] == {"0": 4, "1": 4}
    (tmp_path / "windows.txt").write_text(f"# 0\n{GOLDEN}/images/00.png\n3\n45\n36\n1\n1 0.9 0 0 9 9\n")
    assert info(capsys, tmp_path / "windows.txt")["kind"] == "windows"
    assert run("info", tmp_path / "nothing") == 2


def test_kinds(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["data"], f["label"] = np.zeros((3, 1, 4, 4)), [1, 2, 3]
    assert kind_of(str(tmp_path / "a.h5")) == "HDF5"
    assert [(i.key, i.label, i.read().shape) for i in Set(str(tmp_path / "a.h5"))][2] == ("2", 3.0, (1, 4, 4))
    assert kind_of(str(GOLDEN / "lmdb" / "data.mdb")) == "LMDB"
    assert len(Set(str(GOLDEN / "lmdb" / "data.mdb"))) == 12


def sheet(path):
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_show_draws_the_pictures(tmp_path):
    red = np.zeros((3, 8, 8), np.uint8)
    red[2] = 255
    path = make_lmdb(tmp_path / "set", [raw(red, 1), raw(red[::-1].copy(), 0), b"\xff"])
    (tmp_path / "names.txt").write_text("blue\nred\n")
    assert run("show", path, "-o", tmp_path / "s.png", "--labels", tmp_path / "names.txt", "--side", 16) == 0
    pixels = sheet(tmp_path / "s.png")
    for colour in ((255, 0, 0), (0, 0, 255)):
        assert (pixels == colour).all(2).sum() == 16 * 16
    assert run("show", path, "-o", tmp_path / "t.png", "--from", 1, "--count", 1) == 0
    assert not (sheet(tmp_path / "t.png") == (255, 0, 0)).all(2).any()


def test_show_draws_what_a_net_is_fed(tmp_path):
    msg = data_layer(GOLDEN / "lmdb", 5, f'crop_size: 20 mirror: true mean_file: "{GOLDEN}/mean.binaryproto"')
    (tmp_path / "net.prototxt").write_text(str(msg))
    assert run("show", tmp_path / "net.prototxt", "-o", tmp_path / "a.png", "--count", 7) == 0
    assert run("show", tmp_path / "net.prototxt", "-o", tmp_path / "b.png", "--count", 7, "--phase", "TEST") == 0
    assert sheet(tmp_path / "a.png").shape == sheet(tmp_path / "b.png").shape
    assert (sheet(tmp_path / "a.png") != sheet(tmp_path / "b.png")).any()


@pytest.mark.parametrize("words", [("-o", "s.jpg"), ("-o", "s.png", "--from", 99), ("-o", "s.png", "--count", 0)])
def test_show_refuses(tmp_path, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("show", GOLDEN / "lmdb", *words) == 2 and left(tmp_path) == []


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    assert "netcompile data convert photos/ train_lmdb" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("convert", "SET", "out", "--workers", -1), "--workers is too small"),
        (("info", "SET", "--first", 0), "--first is too small"),
        (("show", "SET", "-o", "s.png", "--from", -1), "--from is too small"),
        (("mean", "SET", "none/m.npy"), "the folder does not exist"),
        (("show", "SET", "-o", "none/s.png"), "the folder does not exist"),
    ],
)
def test_refused_before_any_work(tmp_path, monkeypatch, capsys, words, match):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Set, "__iter__", None)  # would fail if a record were looked at
    assert run(*(GOLDEN / "lmdb" if word == "SET" else word for word in words)) == 2
    assert match in capsys.readouterr().err and left(tmp_path) == []


def test_hdf5_without_pictures(tmp_path, capsys):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["data"] = np.arange(6.0).reshape(3, 2)
    told = info(capsys, tmp_path / "a.h5")
    assert told["shapes"] == {"2": 3} and (told["low"], told["high"]) == (0, 5)
    assert run("show", tmp_path / "a.h5", "-o", tmp_path / "s.png") == 2
    assert "no pictures" in capsys.readouterr().err
    with h5py.File(tmp_path / "b.h5", "w") as f:
        f["x"] = [1]
    assert run("info", tmp_path / "b.h5") == 2 and "x: 1" in capsys.readouterr().err
