"""Pictures: resizing as OpenCV does (its own results are kept in golden/resize.npz), and Caffe's preparation."""

from pathlib import Path

import numpy as np
import pytest

from netcompiler.data.image import IMAGENET_MEAN, caffe_preparation, centre, read_image, resize
from netcompiler.errors import NetError

GOLDEN = np.load(Path(__file__).parent / "golden" / "resize.npz")
CASES = sorted({name.split(".")[0] for name in GOLDEN.files}, key=int)


@pytest.mark.parametrize("case", CASES)
def test_resize_is_opencvs(case):
    want = GOLDEN[f"{case}.out"]
    assert np.array_equal(resize(GOLDEN[f"{case}.in"], *want.shape[:2]), want)


def picture(folder, array, name="p.png"):
    from PIL import Image

    Image.fromarray(array).save(folder / name)
    return folder / name


def test_reading_gives_bgr(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(read_image(picture(tmp_path, rgb)), rgb[:, :, ::-1])
    assert read_image(picture(tmp_path, rgb), channels=1).shape == (5, 7, 1)
    assert np.array_equal(read_image(picture(tmp_path, rgb[:, :, 0])), np.repeat(rgb[:, :, :1], 3, 2))


def test_preparation_subtracts_the_mean_from_the_centre():
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    x = caffe_preparation((1, 3, 224, 224))(pixels)
    assert x.shape == (3, 224, 224) and x.dtype == np.float32
    want = pixels[16:240, 16:240].astype(np.float64) - IMAGENET_MEAN
    np.testing.assert_allclose(x, want.transpose(2, 0, 1), atol=1e-4)


def test_preparation_of_a_small_gray_net():
    pixels = np.random.default_rng(0).integers(0, 256, (56, 56, 1), dtype=np.uint8)
    x = caffe_preparation((1, 1, 28, 28), scale=1 / 256)(pixels)
    np.testing.assert_allclose(x[0], resize(pixels, 28, 28)[:, :, 0] / 256, atol=1e-6)


def test_mean_image_is_cut_like_the_picture(tmp_path):
    mean = np.random.default_rng(1).random((3, 256, 256)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    prepare = caffe_preparation((1, 3, 224, 224), mean=str(tmp_path / "mean.npy"))
    x = prepare(np.zeros((256, 256, 3), np.uint8))
    np.testing.assert_allclose(x, -centre(mean, (224, 224)))


def mean_file(folder, array):
    path = folder / "mean.npy"
    path.touch() if array is None else np.save(path, array)
    return caffe_preparation((1, 3, 9, 9), mean=str(path))


FAULTS = [
    ("no picture input", lambda d: caffe_preparation((1, 10)), "takes no pictures"),
    ("mean count", lambda d: caffe_preparation((1, 3, 9, 9), mean="1,2"), "another number of channels"),
    (
        "mean file",
        lambda d: caffe_preparation((1, 3, 9, 9), mean=str(d / "none.npy")),
        "cannot be read as a mean image",
    ),
    ("mean of words", lambda d: mean_file(d, np.array(["a"])), "cannot be read as a mean image"),
    ("mean of one number", lambda d: mean_file(d, np.array(3.0)), "a mean image is C x H x W"),
    ("an empty mean file", lambda d: mean_file(d, None), "cannot be read as a mean image"),
    ("no size", lambda d: caffe_preparation((1, 3, 9, 9), size=(0, 5)), "cannot be resized to this"),
    ("a huge size", lambda d: caffe_preparation((1, 3, 9, 9), size=(9, 10**8)), "cannot be resized to this"),
    ("no pixels", lambda d: caffe_preparation((1, 3, 0, 0)), "cannot be resized to this"),
    ("missing", lambda d: read_image(d / "none.png"), "No such file"),
    ("a folder", lambda d: read_image(d), "Is a directory"),
    ("small mean image", lambda d: centre(np.zeros((3, 5, 5), np.float32), (7, 7)), "too small"),
]


@pytest.mark.parametrize(("call", "message"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_fault(call, message, tmp_path):
    with pytest.raises(NetError) as caught:
        call(tmp_path)
    assert message in str(caught.value)


def test_of_16_bits_the_upper_8_count(tmp_path):
    from PIL import Image

    deep = np.array([[0, 255, 256], [4660, 32767, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for channels in (1, 3):
        pixels = read_image(tmp_path / "deep.png", channels)
        assert np.array_equal(pixels, np.repeat(deep[:, :, None] >> 8, channels, axis=2))


def test_not_a_picture(tmp_path):
    (tmp_path / "p.png").write_text("layer {}")
    with pytest.raises(NetError, match="not a picture"):
        read_image(tmp_path / "p.png")
