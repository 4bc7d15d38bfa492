"""ImageData: picture files of a list."""

import numpy as np
import pytest

from netcompiler.data.feeds import open_feeds
from netcompiler.data.image import resize
from netcompiler.errors import NetError, NetWarning

from .sets import arrays, batches, layer, save_picture

SIZES = [(6, 8), (7, 5), (9, 9), (6, 8), (12, 4)]


@pytest.fixture
def listed(tmp_path):
    pictures = [arrays(1, (3, *size), seed=i)[0] for i, size in enumerate(SIZES)]
    for i, p in enumerate(pictures):
        save_picture(tmp_path / f"a b {i}.png", p)
    (tmp_path / "list.txt").write_text("".join(f"a b {i}.png {10 + i}\n" for i in range(5)))
    return tmp_path, pictures


def image_layer(folder, batch=2, more="new_height: 6 new_width: 6", transform=""):
    settings = f'source: "{folder}/list.txt" root_folder: "{folder}/" batch_size: {batch} {more}'
    return layer("ImageData", settings, transform)


def resized(planes, h=6, w=6):
    return resize(np.ascontiguousarray(planes.transpose(1, 2, 0)), h, w).transpose(2, 0, 1)


def test_pictures_come_in_order_resized(listed):
    folder, pictures = listed
    got = batches(image_layer(folder, 5), 2)
    for i in range(5):
        np.testing.assert_array_equal(got[1]["data"][i], resized(pictures[i]))
    np.testing.assert_array_equal(got[0]["label"], [10, 11, 12, 13, 14])


def test_without_resizing_a_batch_has_one_size(listed):
    folder, pictures = listed
    shapes = [b["data"].shape[2:] for b in batches(image_layer(folder, 1, ""), 5)]
    assert shapes == SIZES
    with pytest.raises(NetError, match="differ in shape") as caught:
        batches(image_layer(folder, 2, ""), 1)
    assert "list.txt:2: " in str(caught.value) and "new_height" in str(caught.value)


def test_paths_are_looked_for_below_the_root_too(listed, monkeypatch):
    folder, _ = listed
    msg = layer("ImageData", 'source: "list.txt" batch_size: 1')
    assert batches(msg, 1, root=folder)[0]["label"] == [10]
    with pytest.raises(NetError, match=r"list\.txt is not there"):
        batches(msg, 1)
    monkeypatch.chdir(folder)
    assert batches(msg, 1)[0]["label"] == [10]


def test_shuffle_takes_each_picture_once_a_pass_in_another_order(listed):
    msg = image_layer(listed[0], 5, "new_height: 6 new_width: 6 shuffle: true")
    passes = [tuple(b["label"]) for b in batches(msg, 8, seed=1)]
    assert all(sorted(p) == [10, 11, 12, 13, 14] for p in passes) and len(set(passes)) > 4
    assert passes == [tuple(b["label"]) for b in batches(msg, 8, seed=1)]
    assert passes != [tuple(b["label"]) for b in batches(msg, 8, seed=2)]


def test_shuffled_ranks_share_one_order(listed):
    more = "new_height: 6 new_width: 6 shuffle: true"
    whole = np.concatenate([b["label"] for b in batches(image_layer(listed[0], 4, more), 5, "TRAIN", seed=1)])
    for rank in range(2):
        part = batches(image_layer(listed[0], 2, more), 5, "TRAIN", seed=1, rank=rank, ranks=2)
        np.testing.assert_array_equal(np.concatenate([b["label"] for b in part]), whole[rank::2])


def test_rand_skip_starts_within_its_bound(listed):
    msg = image_layer(listed[0], 1, "new_height: 6 new_width: 6 rand_skip: 3")
    firsts = {int(batches(msg, 1, seed=s)[0]["label"][0]) for s in range(40)}
    assert firsts == {10, 11, 12}
    with pytest.raises(NetError, match="rand_skip may pass over all"):
        batches(image_layer(listed[0], 1, "rand_skip: 6"), 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_state_is_where_the_user_is_not_the_workers(listed, workers):
    msg = image_layer(listed[0], 2, "new_height: 6 new_width: 6 shuffle: true", "crop_size: 4 mirror: true")
    with open_feeds(msg, "TRAIN", seed=4, workers=workers) as feeds:
        whole = [feeds.next() for _ in range(9)]
    with open_feeds(msg, "TRAIN", seed=4, workers=2 - workers) as feeds:
        for k in range(4):
            np.testing.assert_array_equal(feeds.next()["data"], whole[k]["data"])
        state = feeds.state()
    with open_feeds(msg, "TRAIN", workers=workers) as feeds:
        feeds.next()
        feeds.restore(state)
        for k in range(4, 9):
            np.testing.assert_array_equal(feeds.next()["data"], whole[k]["data"])


def ruin(folder, i, kind):
    file = folder / f"a b {i}.png"
    if kind == "missing":
        file.unlink()
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:-40])
    else:
        file.write_bytes(b"no picture")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["missing", "cut", "other"])
def test_a_missing_or_damaged_picture(listed, kind, workers):
    folder, pictures = listed
    ruin(folder, 3, kind)
    with open_feeds(image_layer(folder), "TEST", workers=workers) as feeds:
        feeds.next()
        for _ in range(2):  # it stays where it is
            with pytest.raises(NetError, match="cannot be read|not a picture") as caught:
                feeds.next()
            assert "list.txt:4: " in str(caught.value) and "a b 3.png" in str(caught.value)
            assert caught.value.layer == '"in" (ImageData)'
    with open_feeds(image_layer(folder), "TEST", workers=workers, on_fault="skip") as feeds:
        feeds.next()
        with pytest.warns(NetWarning, match=r"passed over, 1 so far: .*list\.txt:4"):
            got = feeds.next()
        np.testing.assert_array_equal(got["label"], [12, 14])
        np.testing.assert_array_equal(got["data"][1], resized(pictures[4]))
        np.testing.assert_array_equal(feeds.next()["label"], [14, 10])
        assert feeds.skipped == 1


@pytest.mark.parametrize(
    "text, match",
    [("", "list is empty"), ("\n \n", "list is empty"), ("a.png\n", "no label"), ("a.png 1\nb.png x\n", "no label")],
)
def test_bad_lists(tmp_path, text, match):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(NetError, match=match) as caught:
        batches(image_layer(tmp_path), 1)
    assert "list.txt" in str(caught.value)


def test_refused_settings(listed):
    for more, match in [("new_height: 3", "go together"), ("short_side: 5", "a fork's setting")]:
        with pytest.raises(NetError, match=match):
            batches(image_layer(listed[0], 2, more), 1)
    with pytest.raises(NetError, match="stop or skip"):
        open_feeds(image_layer(listed[0]), "TEST", on_fault="ignore")
    with pytest.raises(NetError, match="negative number of workers"):
        open_feeds(image_layer(listed[0]), "TEST", workers=-1)
    with pytest.raises(NetError, match="no such rank"):
        open_feeds(image_layer(listed[0]), "TEST", rank=2, ranks=2)


def test_layers_of_other_states_are_not_opened(listed):
    import netcompiler

    text = str(image_layer(listed[0])).replace("image_data_param", "include { phase: TEST } image_data_param")
    msg = netcompiler.parse(text)
    with open_feeds(msg, "TRAIN") as feeds:
        assert feeds.shapes == {} and feeds.next() == {} and feeds.state()["positions"] == {}
    with open_feeds(msg, "TEST") as feeds:
        assert feeds.shapes == {"data": (2, 3, 6, 6), "label": (2,)}
