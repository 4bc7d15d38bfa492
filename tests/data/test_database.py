"""Data layers: what is read from LMDB and LevelDB, and how it is transformed."""

import shutil
from pathlib import Path

import numpy as np
import plyvel
import pytest

from netcompiler.binary.write import _blob
from netcompiler.data.feeds import open_feeds
from netcompiler.data.stores import Store
from netcompiler.errors import NetError, NetWarning

from .sets import Datum, arrays, batches, layer, make_lmdb, raw

GOLDEN = Path(__file__).parent.parent / "golden" / "data"


def data_layer(path, batch=2, transform="", backend="LMDB", more="", tops='top: "data" top: "label"'):
    return layer("Data", f'source: "{path}" backend: {backend} batch_size: {batch} {more}', transform, tops)


def mean_file(path, array):
    path.write_bytes(b"".join(bytes(p) for p in _blob(array[None].astype(np.float32), None)))
    return path


@pytest.fixture
def five(tmp_path):
    records = arrays(5)
    return make_lmdb(tmp_path / "five", [raw(a, 10 + i) for i, a in enumerate(records)]), records


def test_records_come_in_order_and_wrap_round(five):
    path, records = five
    got = batches(data_layer(path), 4)
    np.testing.assert_array_equal(np.concatenate([b["data"] for b in got]), records[[0, 1, 2, 3, 4, 0, 1, 2]])
    assert [int(v) for b in got for v in b["label"]] == [10, 11, 12, 13, 14, 10, 11, 12]


def test_without_a_top_for_labels(five):
    assert set(batches(data_layer(five[0], tops='top: "x"'), 1)[0]) == {"x"}


def test_a_batch_larger_than_the_set(five):
    np.testing.assert_array_equal(batches(data_layer(five[0], 12), 1)[0]["data"][10:], five[1][:2])


def test_float_data(tmp_path):
    records = arrays(3, kind=np.float32)
    path = make_lmdb(tmp_path / "f", [raw(a) for a in records])
    np.testing.assert_array_equal(batches(data_layer(path, 3), 1)[0]["data"], records)


def test_mean_scale_and_centre_crop(five, tmp_path):
    path, records = five
    mean = arrays(1, kind=np.float32)[0]
    file = mean_file(tmp_path / "mean.binaryproto", mean)
    got = batches(data_layer(path, 5, f'mean_file: "{file}" scale: 0.25 crop_size: 3'), 1)[0]["data"]
    want = ((records.astype(np.float32) - mean) * np.float32(0.25))[:, :, 1:4, 2:5]
    np.testing.assert_array_equal(got, want)


def test_mean_values_are_one_or_one_a_channel(five):
    path, records = five
    x = records.astype(np.float32)
    one = batches(data_layer(path, 5, "mean_value: 7"), 1)[0]["data"]
    three = batches(data_layer(path, 5, "mean_value: 7 mean_value: 8 mean_value: 9 scale: 3"), 1)[0]["data"]
    np.testing.assert_array_equal(one, x - 7)
    np.testing.assert_array_equal(three, (x - np.float32([[[7]], [[8]], [[9]]])) * 3)


def test_random_crops_are_parts_at_all_places(tmp_path):
    marked = np.arange(6 * 8, dtype=np.uint8).reshape(1, 6, 8)
    path = make_lmdb(tmp_path / "one", [raw(marked)])
    seen = set()
    for batch in batches(data_layer(path, 50, "crop_size: 4"), 4, "TRAIN", seed=3):
        for x in batch["data"][:, 0]:
            y, left = divmod(int(x[0, 0]), 8)
            np.testing.assert_array_equal(x, marked[0, y : y + 4, left : left + 4])
            seen.add((y, left))
    assert seen == {(y, x) for y in range(3) for x in range(5)}


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_mirror_flips_about_half_with_the_mean_in_place(tmp_path, phase):
    record = arrays(1)[0]
    path, mean = make_lmdb(tmp_path / "one", [raw(record)]), arrays(1, seed=1)[0].astype(np.float32)
    file = mean_file(tmp_path / "mean.binaryproto", mean)
    x = batches(data_layer(path, 400, f'mirror: true mean_file: "{file}"'), 1, phase, seed=1)[0]["data"]
    plain = record - mean
    flipped = [np.array_equal(a, plain[:, :, ::-1]) for a in x]
    assert all(f or np.array_equal(a, plain) for f, a in zip(flipped, x))
    assert 150 < sum(flipped) < 250


def test_a_seed_repeats_and_another_does_not(five):
    msg = data_layer(five[0], 5, "crop_size: 3 mirror: true")
    a, b, c, d = (batches(msg, 3, "TRAIN", seed=s)[2]["data"] for s in (1, 1, 2, None))
    assert np.array_equal(a, b) and not np.array_equal(a, c) and not np.array_equal(a, d)


def test_crop_h_and_crop_w(five):
    x = batches(data_layer(five[0], 1, "crop_h: 2 crop_w: 6"), 1)[0]["data"]
    np.testing.assert_array_equal(x, five[1][:1, :, 2:4, 1:7])


def encoded(array, mode="RGB", kind="PNG"):
    import io

    from PIL import Image

    file = io.BytesIO()
    pixels = array.transpose(1, 2, 0) if len(array) > 1 else array[0]
    Image.fromarray(np.ascontiguousarray(pixels)).convert(mode).save(file, kind)
    return file.getvalue()


def test_encoded_records_keep_their_channels_unless_forced(tmp_path):
    rgb, gray = arrays(1)[0], arrays(1, (1, 6, 8))[0]
    color = make_lmdb(tmp_path / "c", [Datum(data=encoded(rgb), encoded=True).SerializeToString()])
    plain = make_lmdb(tmp_path / "g", [Datum(data=encoded(gray, "L"), encoded=True).SerializeToString()])
    np.testing.assert_array_equal(batches(data_layer(color, 1), 1)[0]["data"][0], rgb[::-1])
    np.testing.assert_array_equal(batches(data_layer(plain, 1), 1)[0]["data"][0], gray)
    forced = batches(data_layer(plain, 1, "force_color: true"), 1)[0]["data"][0]
    np.testing.assert_array_equal(forced, np.repeat(gray, 3, 0))
    assert batches(data_layer(plain, 1, more="force_encoded_color: true"), 1)[0]["data"].shape == (1, 3, 6, 8)
    r, g, b = rgb.astype(int)
    forced = batches(data_layer(color, 1, "force_gray: true"), 1)[0]["data"][0]
    np.testing.assert_array_equal(forced, ((r * 9797 + g * 19234 + b * 3737) >> 15)[None])


def test_ranks_share_the_records_in_train_only(five):
    path, records = five
    msg = data_layer(path)
    for rank in range(2):
        x = np.concatenate([b["data"] for b in batches(msg, 3, "TRAIN", rank=rank, ranks=2)])
        np.testing.assert_array_equal(x, records[[(2 * i + rank) % 5 for i in range(6)]])
    np.testing.assert_array_equal(batches(msg, 1, "TEST", rank=1, ranks=2)[0]["data"], records[:2])


def test_two_ranks_draw_what_one_draws(five):
    one, two = (data_layer(five[0], n, "crop_size: 3 mirror: true") for n in (4, 2))
    whole = batches(one, 3, "TRAIN", seed=5)
    parts = [batches(two, 3, "TRAIN", seed=5, rank=r, ranks=2) for r in range(2)]
    for k in range(3):
        np.testing.assert_array_equal(whole[k]["data"][0::2], parts[0][k]["data"])
        np.testing.assert_array_equal(whole[k]["data"][1::2], parts[1][k]["data"])


def test_state_and_restore(five):
    msg = data_layer(five[0], 2, "crop_size: 3 mirror: true")
    with open_feeds(msg, "TRAIN") as feeds, open_feeds(msg, "TRAIN", rank=1, ranks=2) as other:
        for _ in range(4):
            feeds.next()
        state = feeds.state()
        want = [feeds.next()["data"] for _ in range(4)]
        feeds.restore(state)
        for k in range(4):
            np.testing.assert_array_equal(feeds.next()["data"], want[k])
        other.restore(state)  # on another number of ranks: from the same place on
        np.testing.assert_array_equal(other.next()["data"][1], want[1][1])
    with pytest.raises(NetError, match="no state"):
        feeds.restore({"seed": 1})
    with pytest.raises(NetError, match="other data layers"):
        feeds.restore({**state, "positions": {"x": 1}})


def test_one_set_for_two_layers_and_two_feeds(five):
    msg = data_layer(five[0])
    with open_feeds(msg, "TRAIN") as a, open_feeds(msg, "TEST") as b:
        a.next()
        np.testing.assert_array_equal(a.next()["data"], five[1][2:4])
        np.testing.assert_array_equal(b.next()["data"], five[1][:2])
    np.testing.assert_array_equal(batches(msg, 1)[0]["data"], five[1][:2])  # closing let go of all


def test_leveldb_is_left_as_it_was_and_read_twice_at_once(tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(GOLDEN / "leveldb", folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    folder.chmod(0o500)
    a, b = Store(str(folder)), Store(str(folder))
    assert a.at(12) == b.at(0) and len(a) == len(b) == 12
    shadow = Path(a.shadow)
    assert shadow.is_dir()
    a.close(), b.close()
    assert not shadow.exists()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_leveldb_of_our_own_with_records_still_in_its_log(tmp_path):
    records = arrays(3)
    db = plyvel.DB(str(tmp_path / "set"), create_if_missing=True)
    for i, a in enumerate(records):
        db.put(f"{i:08d}".encode(), raw(a))
    db.close()
    x = batches(data_layer(tmp_path / "set", 3, backend="LEVELDB"), 1)[0]["data"]
    np.testing.assert_array_equal(x, records)


def refused(msg, match, phase="TEST", **options):
    with pytest.raises(NetError, match=match) as caught:
        batches(msg, 3, phase, **options)
    assert caught.value.layer == '"in" (Data)' and caught.value.at
    return str(caught.value)


def test_a_truncated_lmdb(five):
    file = five[0] / "data.mdb"
    whole = file.read_bytes()
    for size in (len(whole) - 4096, 8192, 100, 0):
        file.write_bytes(whole[:size])
        refused(data_layer(five[0]), "cut short|cannot be read as LMDB|0 bytes")


@pytest.mark.parametrize("start, bad", [(0, b"no database" * 400), (3 * 4096, b"\xff" * 4096)])
def test_a_damaged_lmdb(tmp_path, start, bad):
    """Its first page, or one in the middle."""
    path = make_lmdb(tmp_path / "set", [raw(a) for a in arrays(200)])
    file = path / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[:start] + bad + whole[start + len(bad) :])
    with pytest.raises(NetError, match="cannot be read as LMDB") as caught:
        batches(data_layer(path, 50), 4)
    assert "make it anew" in caught.value.hint and caught.value.layer == '"in" (Data)'


def test_a_damaged_leveldb(tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(GOLDEN / "leveldb", folder)
    table = folder / "000005.ldb"
    data = bytearray(table.read_bytes())
    data[5000:5100] = bytes(100)
    table.write_bytes(data)
    refused(data_layer(folder, 12, backend="LEVELDB"), "cannot be read as LevelDB")
    table.unlink()
    assert str(folder) in refused(data_layer(folder, backend="LEVELDB"), "cannot be read as LevelDB")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "bad", [b"\xff\xff\xff", Datum(channels=3, height=6, width=8, data=b"x" * 9).SerializeToString()]
)
def test_a_damaged_record(tmp_path, bad, workers):
    records = arrays(4)
    path = make_lmdb(tmp_path / "set", [*(raw(a) for a in records[:3]), bad, raw(records[3])])
    told = refused(data_layer(path), "the record is damaged", workers=workers)
    assert "record 00000003" in told
    with pytest.warns(NetWarning, match="passed over, 1 so far"):
        got = batches(data_layer(path, 5), 1, on_fault="skip", workers=workers)[0]["data"]
    np.testing.assert_array_equal(got, records[[0, 1, 2, 3, 3]])  # the next one stands in for it


def test_skipping_counts_and_gives_up_on_a_set_of_ruins(tmp_path):
    path = make_lmdb(tmp_path / "set", [b"\xff"] * 3)
    refused(data_layer(path), "100 records in a row cannot be read", on_fault="skip")
    good = make_lmdb(tmp_path / "good", [raw(arrays(1)[0]), b"\xff"])
    with open_feeds(data_layer(good), "TEST", on_fault="skip") as feeds, pytest.warns(NetWarning):
        feeds.next(), feeds.next()
        assert feeds.skipped == 2


def test_records_of_different_shapes(tmp_path):
    path = make_lmdb(tmp_path / "set", [raw(arrays(1, (3, 6, 8 + i))[0]) for i in range(3)])
    told = refused(data_layer(path), "differ in shape")
    assert "record 00000001" in told and "3 x 6 x 9" in told
    assert [b["data"].shape[3] for b in batches(data_layer(path, 1), 3)] == [8, 9, 10]  # as in Caffe
    assert batches(data_layer(path, 3, "crop_size: 4"), 1)[0]["data"].shape == (3, 3, 4, 4)


BAD = [
    ("source: 'nowhere' batch_size: 1", "", "nowhere is not there"),
    ("batch_size: 1", "", "source is missing"),
    ("source: '{five}' backend: LMDB", "", "batch_size must be positive"),
    ("source: '{five}' batch_size: 1", "", "of another kind"),
    ("source: '{five}/..' batch_size: 1", "", "this is no database"),
    ("source: '{five}' backend: LMDB batch_size: 1 shuffle: true", "", "shuffle is a fork's setting"),
    ("source: '{five}' backend: LMDB batch_size: 1", "crop_size: 7", "the crop is larger than the picture"),
    ("source: '{five}' backend: LMDB batch_size: 1", "mean_value: 1 mean_value: 2", "wrong number of mean_values"),
    ("source: '{five}' backend: LMDB batch_size: 1", "mean_value: 1 mean_file: 'm'", "are both given"),
    ("source: '{five}' backend: LMDB batch_size: 1", "mean_file: 'm'", "cannot be read"),
    ("source: '{five}' backend: LMDB batch_size: 1", "mean_file: '{mean}'", "mean has another shape"),
    ("source: '{five}' backend: LMDB batch_size: 1", "force_color: true force_gray: true", "are both given"),
    ("source: '{five}' backend: LMDB batch_size: 1", "crop_h: 3", "go together"),
    ("source: '{five}' backend: LMDB batch_size: 1", "img_rand_resize_lower: 3", "a fork's setting"),
]


@pytest.mark.parametrize("settings, transform, match", BAD)
def test_refused(five, tmp_path, settings, transform, match):
    mean = mean_file(tmp_path / "mean.binaryproto", arrays(1, (3, 6, 7))[0])
    fill = {"{five}": str(five[0]), "{mean}": str(mean)}
    for word, value in fill.items():
        settings, transform = settings.replace(word, value), transform.replace(word, value)
    refused(layer("Data", settings, transform), match)


def test_settings_without_effect_are_told(five):
    with pytest.warns(NetWarning, match="data_param.scale has no effect"):
        batches(data_layer(five[0], more="scale: 2"), 1)
    with pytest.warns(NetWarning, match="data_param.rand_skip has no effect"):
        batches(data_layer(five[0], more="rand_skip: 2"), 1)


def test_an_empty_database(tmp_path):
    refused(data_layer(make_lmdb(tmp_path / "none", [])), "has no records")


@pytest.mark.parametrize("kind", ["lmdb", "leveldb"])
def test_going_back_a_little_does_not_begin_anew(kind):
    store = Store(str(GOLDEN / kind))
    keys = [store.at(i)[0] for i in range(12)]
    store._rewind = None  # would fail if it were called
    for i in (9, 7, 8, 7, 11, 3):
        assert store.at(i)[0] == keys[i]
    del store._rewind
    assert store.at(14)[0] == keys[2]
    store.close()


def test_a_record_smaller_than_the_crop_is_named(tmp_path):
    path = make_lmdb(tmp_path / "set", [raw(arrays(1)[0]), raw(arrays(1, (3, 4, 9))[0])])
    assert "4 x 9 in" in refused(data_layer(path, 2, "crop_size: 5"), "the crop is larger than the picture")


@pytest.mark.parametrize("name, kind", [("lmdb", "lmdb"), ("plyvel", "leveldb"), ("PIL.Image", "lmdb_encoded")])
def test_a_missing_library_is_told(monkeypatch, name, kind):
    import sys

    monkeypatch.setitem(sys.modules, name, None)
    backend = "LEVELDB" if kind == "leveldb" else "LMDB"
    told = refused(data_layer(GOLDEN / kind, backend=backend), f"needs the library {name}")
    assert "pip install 'netcompiler[data]'" in told


def test_reading_needs_no_torch():
    import subprocess
    import sys

    code = f"""
import sys, netcompiler
from netcompiler.data.feeds import open_feeds
import netcompiler.cli.data
open_feeds(netcompiler.parse({str(data_layer(GOLDEN / "lmdb"))!r}), "TRAIN", workers=1).next()
print("torch" in sys.modules)
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_forks_settings_at_their_defaults_are_no_fault(five):
    msg = data_layer(five[0], more="shuffle: false cache: true", transform="img_rand_resize_lower: 0")
    np.testing.assert_array_equal(batches(msg, 1)[0]["data"], five[1][:2])
