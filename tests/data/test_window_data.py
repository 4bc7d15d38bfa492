"""WindowData: windows of pictures, against a plain reading of the rules."""

from math import floor

import numpy as np
import pytest

from netcompiler.data.feeds import open_feeds
from netcompiler.data.image import resize
from netcompiler.data.windows import read_windows
from netcompiler.errors import NetError, NetWarning

from .sets import arrays, batches, layer, save_picture
from .test_database import mean_file

SIZES = [(40, 30), (25, 50)]  # height, width
WINDOWS = [
    [(3, 0.9, 2, 3, 20, 30), (1, 0.6, 0, 0, 29, 39), (2, 0.3, 5, 5, 9, 30), (2, 0.45, 10, 10, 12, 12)],
    [(2, 0.5, 30, 1, 49, 24), (4, 0.1, 0, 20, 49, 24), (1, 0.0, 7, 3, 7, 3)],
]


@pytest.fixture
def windows(tmp_path):
    pictures = [arrays(1, (3, *size), seed=i)[0] for i, size in enumerate(SIZES)]
    text = ""
    for i, (h, w) in enumerate(SIZES):
        save_picture(tmp_path / f"{i}.png", pictures[i])
        text += f"# {i}\n{tmp_path}/{i}.png\n3\n{h}\n{w}\n{len(WINDOWS[i])}\n"
        text += "".join(" ".join(map(str, row)) + "\n" for row in WINDOWS[i])
    (tmp_path / "windows.txt").write_text(text)
    return tmp_path, pictures


def window_layer(folder, more="", transform="crop_size: 12", batch=8):
    return layer("WindowData", f'source: "{folder}/windows.txt" batch_size: {batch} {more}', transform)


def crop_of(picture, box, crop, pad, square, mirror):
    """A window as the rules say: grown, warped, and set into an empty crop."""
    x1, y1, x2, y2 = box
    out = np.zeros((3, crop, crop))
    inside = np.zeros((crop, crop), bool)
    near = lambda v: floor(v + 0.5) if v >= 0 else -floor(-v + 0.5)  # noqa: E731
    top = left = 0
    height = width = crop
    if pad or square:
        grow = crop / (crop - 2 * pad)
        half_w, half_h = (x2 - x1 + 1) / 2, (y2 - y1 + 1) / 2
        mid_x, mid_y = x1 + half_w, y1 + half_h
        if square:
            half_w = half_h = max(half_w, half_h)
        x1, x2 = near(mid_x - half_w * grow), near(mid_x + half_w * grow)
        y1, y2 = near(mid_y - half_h * grow), near(mid_y + half_h * grow)
        sx, sy = crop / (x2 - x1 + 1), crop / (y2 - y1 + 1)
        over_left, over_top = max(0, -x1), max(0, -y1)
        over_right, over_bottom = max(0, x2 - picture.shape[2] + 1), max(0, y2 - picture.shape[1] + 1)
        x1, y1, x2, y2 = x1 + over_left, y1 + over_top, x2 - over_right, y2 - over_bottom
        width, height = near((x2 - x1 + 1) * sx), near((y2 - y1 + 1) * sy)
        top, left = near(over_top * sy), near((over_right if mirror else over_left) * sx)
        width, height = min(width, crop - left), min(height, crop - top)
    part = resize(np.ascontiguousarray(picture[:, y1 : y2 + 1, x1 : x2 + 1].transpose(1, 2, 0)), height, width)
    part = part[:, ::-1] if mirror else part
    out[:, top : top + height, left : left + width] = part.transpose(2, 0, 1)
    inside[top : top + height, left : left + width] = True
    return out, inside


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("mean", ["", "file", "value"])
@pytest.mark.parametrize(
    "more, pad, square",
    [
        ("", 0, False),
        ("context_pad: 3", 3, False),
        ('crop_mode: "square"', 0, True),
        ('context_pad: 2 crop_mode: "square" cache_images: true', 2, True),
    ],
)
def test_windows_are_cut_warped_and_placed(windows, more, pad, square, mean, mirror):
    folder, pictures = windows
    image = arrays(1, (3, 15, 16), seed=9)[0].astype(np.float64)
    transform = "crop_size: 12" + (" mirror: true" if mirror else "")
    off = 2  # (16 - 12) / 2, for the rows too
    mean_part = image[:, off : off + 12, off : off + 12] if mean == "file" else np.zeros((3, 12, 12))
    if mean == "file":
        transform += f' mean_file: "{mean_file(folder / "mean.binaryproto", image)}"'
    if mean == "value":
        transform += " mean_value: 100 mean_value: 110 mean_value: 120"
        mean_part = np.zeros((3, 12, 12)) + np.array([100, 110, 120])[:, None, None]
    wanted = {True: [], False: []}
    for i, of_picture in enumerate(WINDOWS):
        for label, overlap, *box in of_picture:
            for flip in (False, True) if mirror else (False,):
                crop, inside = crop_of(pictures[i], box, 12, pad, square, flip)
                value = np.where(inside, (crop - mean_part) * 0.5, 0)
                wanted[overlap >= 0.5].append((label if overlap >= 0.5 else 0, value))
    found = {True: set(), False: set()}
    for batch in batches(window_layer(folder, f"scale: 0.5 {more}", transform), 12, "TRAIN", seed=1):
        for i, (x, label) in enumerate(zip(batch["data"], batch["label"], strict=True)):
            on_object = i >= 6  # a quarter of the eight, behind the others
            same = [
                k
                for k, (want, value) in enumerate(wanted[on_object])
                if want == label and np.abs(value - x).max() < 1e-4
            ]
            assert same, f"window {i} is none of the list's"
            found[on_object].update(same)
    assert all(len(found[k]) == len(wanted[k]) for k in found)  # and all of them came up


def test_thresholds_and_fraction(windows):
    more = "fg_threshold: 0.4 bg_threshold: 0.2 fg_fraction: 0.6"
    got = batches(window_layer(windows[0], more, batch=10), 20, seed=3)
    for b in got:
        assert (b["label"][:4] == 0).all() and (b["label"][4:] > 0).all()
    files, background, objects = read_windows(f"{windows[0]}/windows.txt", 0.4, 0.2)
    assert [f[-5:] for f in files] == ["0.png", "1.png"] and len(background) == 2 and len(objects) == 4
    assert list(objects[-1]) == [1, 2, 30, 1, 49, 24, 17]


def test_workers_and_state_change_nothing(windows):
    msg = window_layer(windows[0], transform="crop_size: 12 mirror: true")
    whole = batches(msg, 6, "TRAIN", seed=1)
    with open_feeds(msg, "TRAIN", seed=1, workers=2) as feeds:
        for k in range(3):
            np.testing.assert_array_equal(feeds.next()["data"], whole[k]["data"])
        state = feeds.state()
    with open_feeds(msg, "TRAIN", workers=0) as feeds:
        feeds.restore(state)
        np.testing.assert_array_equal(feeds.next()["data"], whole[3]["data"])


def test_a_missing_picture(windows):
    folder, _ = windows
    (folder / "1.png").unlink()
    with pytest.raises(NetError, match="cannot be read") as caught:
        batches(window_layer(folder), 9)
    assert "windows.txt:1" in str(caught.value)
    with pytest.warns(NetWarning, match="passed over"):
        for b in batches(window_layer(folder), 3, on_fault="skip"):
            assert (b["label"][:6] == 0).all() and set(b["label"][6:]) <= {1, 3}


def changed(folder, old, new):
    file = folder / "windows.txt"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "old, new, match, line",
    [
        ("# 1", "# 2", "numbered from 0", 16),
        ("\n3\n40", "\n1\n40", "read in colour", 1),
        ("3 0.9", "0 0.9", "has no class", 7),
        ("1 0.0 7 3 7 3", "1 0.0 7 3 7", "this is no window", 19),
        ("1 0.0 7 3 7 3", "1 0.0 7 3 7 x", "this is no window", 19),
        ("1 0.0 7 3 7 3\n", "", "windows end too soon|this is no window", 1),
        ("# 0", "0", "no picture begins here", 1),
    ],
)
def test_bad_files(windows, old, new, match, line):
    changed(windows[0], old, new)
    with pytest.raises(NetError, match=match) as caught:
        batches(window_layer(windows[0]), 1)
    assert f"windows.txt:{line}" in str(caught.value)


def test_a_window_beside_its_picture(windows):
    changed(windows[0], "3 0.9 2 3 20 30", "3 0.9 2 3 200 30")
    with pytest.raises(NetError, match="outside its picture") as caught:
        batches(window_layer(windows[0]), 20)
    assert "windows.txt:7" in str(caught.value)


@pytest.mark.parametrize(
    "more, transform, match",
    [
        ("", "", "need a crop_size"),
        ('crop_mode: "round"', "crop_size: 12", "unknown crop_mode"),
        ("context_pad: 6", "crop_size: 12", "leaves nothing"),
        ("fg_fraction: 1.5", "crop_size: 12", "is a share"),
        ("fg_threshold: 2", "crop_size: 12", "no window is an object"),
        ("bg_threshold: 0", "crop_size: 12", "no window is background"),
        ("", "crop_size: 12 mean_value: 1 mean_value: 2", "number of mean_values"),
    ],
)
def test_refused_settings(windows, more, transform, match):
    with pytest.raises(NetError, match=match):
        batches(window_layer(windows[0], more, transform), 1)


def test_an_empty_file_and_an_idle_scale(windows):
    with pytest.warns(NetWarning, match=r"transform_param\.scale has no effect"):
        batches(window_layer(windows[0], transform="crop_size: 12 scale: 2"), 1)
    with pytest.warns(NetWarning, match=r"transform_param\.force_gray has no effect"):
        batches(window_layer(windows[0], transform="crop_size: 12 force_gray: true"), 1)
    (windows[0] / "windows.txt").write_text("\n")
    with pytest.raises(NetError, match="window file is empty"):
        batches(window_layer(windows[0]), 1)
