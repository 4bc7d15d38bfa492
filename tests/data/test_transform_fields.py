"""Each field of TransformationParameter in each data layer that has one, beside the records as they are."""

import io
import warnings

import numpy as np
import pytest

from netcompiler import NetWarning

from .sets import Datum, arrays, batches, layer, make_lmdb, raw, save_picture
from .test_database import mean_file

Image = pytest.importorskip("PIL.Image")
COUNT, SHAPE = 6, (3, 6, 8)


def stored(folder, kind):
    """A layer's type and settings over COUNT records, and these records."""
    records = arrays(COUNT, SHAPE)
    if kind == "ImageData":
        for i, planes in enumerate(records):
            save_picture(folder / f"{i}.png", planes)
        (folder / "list.txt").write_text("".join(f"{folder}/{i}.png {i}\n" for i in range(COUNT)))
        return "ImageData", f'source: "{folder}/list.txt" batch_size: {COUNT}', records
    values = []
    for i, planes in enumerate(records):
        if kind == "Data, raw":
            values.append(raw(planes, i))
            continue
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(planes[::-1].transpose(1, 2, 0))).save(file, "PNG")
        values.append(Datum(data=file.getvalue(), encoded=True, label=i).SerializeToString())
    return "Data", f'source: "{make_lmdb(folder / "lmdb", values)}" backend: LMDB batch_size: {COUNT}', records


def feed(folder, kind, transform, phase="TEST", count=1):
    of, settings, records = stored(folder, kind)
    return [b["data"] for b in batches(layer(of, settings, transform), count, phase, seed=3)], records.astype(
        np.float64
    )


def image(folder):
    mean = arrays(1, SHAPE, seed=9)[0].astype(np.float64)
    return mean, f'mean_file: "{mean_file(folder / "mean.binaryproto", mean)}"'


KINDS = ["Data, raw", "Data, encoded", "ImageData"]
each = np.array([10.0, 20.0, 30.0])[:, None, None]
FIELDS = {  # settings, and what they make of the records and the mean image, in TEST
    "nothing": ("", lambda x, m: x),
    "scale": ("scale: 0.25", lambda x, m: x * 0.25),
    "one mean_value": ("mean_value: 100", lambda x, m: x - 100),
    "three mean_values": ("mean_value: 10 mean_value: 20 mean_value: 30", lambda x, m: x - each),
    "mean and scale": ("mean_value: 100 scale: 0.5", lambda x, m: (x - 100) * 0.5),
    "mean_file": ("MEAN", lambda x, m: x - m),
    "crop_size": ("crop_size: 4", lambda x, m: x[:, :, 1:5, 2:6]),
    "crop of the mean": ("MEAN crop_size: 4 scale: 2", lambda x, m: (x - m)[:, :, 1:5, 2:6] * 2),
    "an odd crop": ("crop_size: 3", lambda x, m: x[:, :, 1:4, 2:5]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", FIELDS)
def test_in_test(tmp_path, kind, field):
    text, want = FIELDS[field]
    mean, words = image(tmp_path)
    (got,), records = feed(tmp_path, kind, text.replace("MEAN", words))
    np.testing.assert_allclose(got, want(records, mean), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("kind", KINDS)
def test_crop_and_mirror_are_drawn(tmp_path, kind, phase):
    """Crops at any place in TRAIN, the centre's in TEST; mirrored or not in both; the mean goes along with them."""
    mean, words = image(tmp_path)
    got, records = feed(tmp_path, kind, f"{words} crop_size: 5 mirror: true", phase, count=30)
    rest = records - mean
    seen = set()
    for batch in got:
        for i, x in enumerate(batch):
            places = [(r, c, f) for r in range(2) for c in range(4) for f in (False, True)
                      if np.allclose(rest[i][:, r : r + 5, c : c + 5][:, :, :: -1 if f else 1], x, atol=1e-4)]  # fmt: skip
            assert len(places) == 1
            seen.add(places[0])
    assert seen == ({(0, 1, False), (0, 1, True)} if phase == "TEST" else {(r, c, f) for r in range(2) for c in range(4)
                                                                            for f in (False, True)})  # fmt: skip


@pytest.mark.parametrize(("field", "planes"), [("force_color", 3), ("force_gray", 1)])
def test_colour_is_forced_upon_encoded_records(tmp_path, field, planes):
    (got,), records = feed(tmp_path, "Data, encoded", f"{field}: true")
    assert got.shape == (COUNT, planes, *SHAPE[1:])
    if planes == 1:  # 0.114 blue, 0.587 green, 0.299 red; libpng leaves out what is behind the point
        grey = np.tensordot(records, [0.114, 0.587, 0.299], (1, 0))[:, None]
        assert np.abs(got - np.floor(grey)).max() <= 1 and (got != np.floor(grey)).mean() < 0.05
    else:
        np.testing.assert_array_equal(got, records)


@pytest.mark.parametrize("kind", ["Data, raw", "ImageData"])
@pytest.mark.parametrize("field", ["force_color", "force_gray"])
def test_where_colour_cannot_be_forced_that_is_told(tmp_path, kind, field):
    with pytest.warns(NetWarning, match="force_.* no effect"):
        (got,), records = feed(tmp_path, kind, f"{field}: true")
    np.testing.assert_array_equal(got, records)


def test_a_default_without_effect_is_not_worth_telling(tmp_path):
    of, settings, records = stored(tmp_path, "ImageData")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (got,) = batches(layer(of, f"{settings} scale: 1 mirror: false", "force_gray: false"), 1)
    np.testing.assert_array_equal(got["data"], records)


@pytest.mark.parametrize("name", ["mean_file", "crop_size", "mirror", "scale"])
def test_the_same_fields_outside_have_no_effect_and_that_is_told(tmp_path, name):
    of, settings, records = stored(tmp_path, "Data, raw")
    value = {"mean_file": '"none"', "crop_size": "3", "mirror": "true", "scale": "3"}[name]
    with pytest.warns(NetWarning, match=f"data_param.{name} has no effect"):
        (got,) = batches(layer(of, f"{settings} {name}: {value}"), 1)
    np.testing.assert_array_equal(got["data"], records)
