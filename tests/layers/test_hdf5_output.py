import contextlib

import h5py
import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError, rows, timing
from netcompiler.cli import main

from .table import Bad, prototxt, suite

OUTPUT = 'type: "HDF5Output" hdf5_output_param { file_name: "out.h5" }'
BAD = [
    Bad("no name", 'type: "HDF5Output"', [(2, 3), (2,)], "file_name is missing", tops=0),
    Bad("one bottom", OUTPUT, [(2, 3)], "the wrong number of bottoms", tops=0),
    Bad("a top", OUTPUT, [(2, 3), (2,)], "the wrong number of tops"),
    Bad("other batches", OUTPUT, [(2, 3), (3,)], "the same first axis", tops=0),
    Bad("a scalar", OUTPUT, [(2, 3), ()], "too few axes", tops=0),
    Bad("five axes", OUTPUT, [(2, 3, 1, 1, 1), (2,)], "bottom 0 has too many axes", tops=0),
]
_, _, test_bad = suite([], BAD)
SHAPES = [(2, 3), (2,)]


def compiled(shapes=SHAPES, **given):
    return netcompiler.compile(netcompiler.parse(prototxt(OUTPUT, shapes, 0)), device="cpu", **given)


def batch(seed, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def held():
    with h5py.File("out.h5") as f:
        assert set(f) == {"data", "label"}
        return f["data"][()], f["label"][()]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.glob(".*")), "something half-written is left"


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("shapes", [SHAPES, [(2, 3, 4, 5), (2, 1)], [(0, 3), (0,)]])
def test_a_forward_writes_its_batch_as_caffe_does(shapes, optimize):
    """Four axes each, float32; a second forward takes the place of the first."""
    net = compiled(shapes, optimize=optimize)
    for seed in range(2):
        fed = batch(seed, shapes)
        assert net(*fed) == {}
        for got, want in zip(held(), fed, strict=True):
            assert got.dtype == np.float32 and got.ndim == 4
            np.testing.assert_array_equal(got, want.reshape(*want.shape, *(1,) * (4 - want.ndim)))


def test_types():
    compiled(dtype="float64")(*batch(0))
    assert held()[0].dtype == np.float64
    compiled(dtype="bfloat16")(*batch(0))
    assert held()[0].dtype == np.float32


def test_batches_of_a_block_are_gathered(folder):
    """The file appears when the block ends; batches may differ in size."""
    net, fed = compiled(), [batch(i, [(n, 3), (n,)]) for i, n in enumerate((2, 5, 1))]
    with rows.gathered():
        for b in fed:
            net(*b)
            assert not (folder / "out.h5").exists()
    data, label = held()
    np.testing.assert_array_equal(data[..., 0, 0], np.concatenate([b[0] for b in fed]))
    np.testing.assert_array_equal(label.ravel(), np.concatenate([b[1] for b in fed]))


class Ended(Exception):
    pass


@pytest.mark.parametrize("how", ["raises", "drops", "other rows"])
def test_a_block_that_ends_badly_leaves_what_was(how):
    net = compiled()
    net(*batch(7))
    before = held()
    expected = {"raises": pytest.raises(Ended), "other rows": pytest.raises(NetError, match="change their shape")}
    with expected.get(how, contextlib.nullcontext()), rows.gathered() as block:
        net(*batch(0))
        if how == "raises":
            raise Ended
        if how == "drops":
            block.drop()
        else:
            net(*batch(0, [(2, 4), (2,)]))
    for got, want in zip(held(), before, strict=True):
        np.testing.assert_array_equal(got, want)


def test_nothing_is_written_by_looking_and_measuring(folder):
    text = prototxt(OUTPUT, SHAPES, 0)
    (folder / "net.prototxt").write_text(text)
    net = compiled(optimize=False)
    timing.layer_times(net, runs=1)
    timing.net_times(net, runs=1)
    torch.export.export(net, tuple(torch.from_numpy(b) for b in batch(0)))
    for arguments in (["net.prototxt"], ["check", "net.prototxt"], ["time", "net.prototxt", "--iters", "1"]):
        assert main(arguments) == 0
    assert [p.name for p in folder.iterdir()] == ["net.prototxt"]


def test_no_folder_for_it():
    net = netcompiler.compile(netcompiler.parse(prototxt(OUTPUT.replace("out.h5", "none/out.h5"), SHAPES, 0)))
    with pytest.raises(NetError, match=r"none/out.h5: cannot be written"):
        net(*batch(0))


def test_netcompile_test_gathers_all_batches(folder, capsys):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 3)).astype(np.float32), np.arange(10, dtype=np.float32)
    with h5py.File("in.h5", "w") as f:
        f["x"], f["y"] = x, y
    (folder / "in.txt").write_text("in.h5\n")
    (folder / "net.prototxt").write_text(
        'layer { name: "x" type: "HDF5Data" top: "x" top: "y" hdf5_data_param { source: "in.txt" batch_size: 4 } }'
        'layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 2'
        f' weight_filler {{ type: "xavier" }} }} }} layer {{ name: "out" bottom: "a" bottom: "y" {OUTPUT} }}'
    )
    netcompiler.compile("net.prototxt", inputs={"x": (4, 3), "y": (4,)}).caffe_params()
    weights = {"a": [np.ones((2, 3), np.float32), np.zeros(2, np.float32)]}
    netcompiler.binary.write_caffemodel("w.caffemodel", netcompiler.load("net.prototxt"), weights)
    assert main(["test", "net.prototxt", "-w", "w.caffemodel", "--iterations", "5", "--device", "cpu"]) == 0
    data, label = held()
    np.testing.assert_array_equal(label.ravel(), np.arange(20) % 10)
    np.testing.assert_allclose(data[:10, 0, 0, 0], x.sum(1), rtol=1e-5, atol=1e-6)
