"""HDF5Data: rows of files, one file after the other."""

import h5py
import numpy as np
import pytest

import netcompiler
from netcompiler.errors import NetError

from .sets import batches

ROWS = (3, 4, 2)


@pytest.fixture
def files(tmp_path):
    start = 0
    for i, n in enumerate(ROWS):
        with h5py.File(tmp_path / f"{i}.h5", "w") as f:
            rows = np.arange(start, start + n)
            f["data"] = rows[:, None, None] + np.zeros((n, 2, 3))
            f["label"] = rows.astype(np.int32)
        start += n
    (tmp_path / "list.txt").write_text("\n".join(f"{tmp_path}/{i}.h5" for i in range(3)) + "\n")
    return tmp_path


def hdf5_layer(folder, batch=4, more=""):
    tops = 'top: "data" top: "label"'
    return netcompiler.parse(
        f'layer {{ name: "in" type: "HDF5Data" {tops} '
        f'hdf5_data_param {{ source: "{folder}/list.txt" batch_size: {batch} {more} }} }}'
    )


def rows(got):
    for b in got:
        assert b["data"].dtype == b["label"].dtype == np.float32 and b["data"].shape[1:] == (2, 3)
        np.testing.assert_array_equal(b["data"][:, 1, 2], b["label"])
    return [int(v) for b in got for v in b["label"]]


@pytest.mark.parametrize("batch", [1, 4, 20])
def test_rows_in_order_over_files(files, batch):
    count = 40 // batch
    assert rows(batches(hdf5_layer(files, batch), count)) == [i % 9 for i in range(batch * count)]


def test_shuffle_takes_files_and_their_rows_in_another_order(files):
    of_file = [0, 0, 0, 1, 1, 1, 1, 2, 2]
    passes = np.array(rows(batches(hdf5_layer(files, 9, "shuffle: true"), 12, seed=1))).reshape(12, 9)
    for p in passes:
        assert sorted(p) == list(range(9))
        order = list(dict.fromkeys(of_file[i] for i in p))
        assert [of_file[i] for i in p] == [f for f in order for _ in range(ROWS[f])]  # one file after the other
    assert len({tuple(p) for p in passes}) > 8
    assert len({tuple(i for i in p if of_file[i] == 1) for p in passes}) > 4
    assert (passes.reshape(-1) == rows(batches(hdf5_layer(files, 4, "shuffle: true"), 27, seed=1))).all()


def test_ranks_share_the_rows(files):
    for rank in range(3):
        got = rows(batches(hdf5_layer(files), 3, "TRAIN", rank=rank, ranks=3))
        assert got == [(3 * i + rank) % 9 for i in range(12)]


def write(path, **datasets):
    with h5py.File(path, "w") as f:
        for name, value in datasets.items():
            f[name] = value


BAD = {
    "no dataset": lambda p: write(p, data=np.zeros((4, 2, 3))),
    "different numbers of rows": lambda p: write(p, data=np.zeros((4, 2, 3)), label=np.zeros(3)),
    "change shape": lambda p: write(p, data=np.zeros((4, 2, 4)), label=np.zeros(4)),
    "no numbers": lambda p: write(p, data=np.zeros((4, 2, 3)), label=[b"x"] * 4),
    "has no rows": lambda p: write(p, data=np.zeros((4, 2, 3)), label=4.0),
    "cannot be read as HDF5": lambda p: p.write_bytes(b"nothing"),
    "1.h5 cannot be read as HDF5": lambda p: p.unlink(),
}


@pytest.mark.parametrize("match", BAD)
def test_bad_files(files, match):
    BAD[match](files / "1.h5")
    with pytest.raises(NetError, match=match) as caught:
        batches(hdf5_layer(files), 1)
    assert "list.txt:2" in str(caught.value) and caught.value.layer == '"in" (HDF5Data)'


def test_bad_lists_and_settings(files):
    (files / "list.txt").write_text("\n")
    with pytest.raises(NetError, match="list is empty"):
        batches(hdf5_layer(files), 1)
    with pytest.raises(NetError, match="batch_size must be positive"):
        batches(hdf5_layer(files, 0), 1)
    msg = hdf5_layer(files)
    msg.layer[0].raw.transform_param.scale = 2
    with pytest.raises(NetError, match="does not transform"):
        batches(msg, 1)
