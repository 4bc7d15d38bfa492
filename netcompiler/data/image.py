"""Picture files -> network input, the way that Caffe's classifier prepares them. Needs Pillow to read files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import NetError
from ..graph import Array

Pixels = NDArray[np.uint8]

MOST_PIXELS = 1 << 14  # of a side that pictures are resized to
IMAGENET_MEAN = (104.0069879, 116.6687676, 122.6789143)  # B, G, R: the mean of ILSVRC 2012's training pictures


def read_image(path: str | os.PathLike[str], channels: int = 3) -> Pixels:
    """A picture as H x W x 3 in B, G, R order, or H x W x 1, values 0..255; turned as its EXIF says.

    Raises: NetError when it cannot be read as a picture.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        hint = "pip install 'netcompiler[image]'"
        raise NetError("reading pictures needs Pillow", at=str(path), hint=hint) from None
    try:
        with Image.open(path) as picture:
            turned = ImageOps.exif_transpose(picture)
            if turned.mode.startswith("I"):  # gray of 16 bits, which Pillow would cut off at 255: the upper 8 count
                turned = Image.fromarray((np.asarray(turned) >> 8).clip(0, 255).astype(np.uint8))
            pixels = np.asarray(turned.convert("L" if channels == 1 else "RGB"))
    except UnidentifiedImageError:
        raise NetError("not a picture that Pillow knows", at=str(path)) from None
    except (OSError, ValueError, Image.DecompressionBombError) as e:
        raise NetError(f"cannot be read: {getattr(e, 'strerror', None) or e}", at=str(path)) from None
    return pixels[:, :, None] if channels == 1 else np.ascontiguousarray(pixels[:, :, ::-1])


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """H x W x C -> height x width x C, bit for bit as OpenCV's INTER_LINEAR does it on 8-bit values."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.ascontiguousarray(np.moveaxis(resize_planes(np.moveaxis(pixels, 2, 0), height, width), 0, 2))


def resize_planes(planes: Pixels, height: int, width: int) -> Pixels:
    """C x H x W -> C x height x width, bit for bit as OpenCV's INTER_LINEAR does it on 8-bit values.

    Fixed point: 11 bits of weight an axis; rows keep 32 bits, drop 4, and the sum of two is rounded at bit 2.
    Source: OpenCV, modules/imgproc/src/resize.cpp.
    """
    if planes.shape[1:] == (height, width):
        return planes
    top, bottom, down = _taps(planes.shape[1], height)
    left, right, across = _taps(planes.shape[2], width)
    rows = planes.take(left, 2) * across[0]
    rows += planes.take(right, 2) * across[1]
    rows >>= 4
    mixed = rows.take(top, 1)
    mixed *= down[0][:, None]
    mixed >>= 16
    below = rows.take(bottom, 1)
    below *= down[1][:, None]
    below >>= 16
    mixed += below
    mixed += 2
    mixed >>= 2
    return mixed.clip(0, 255, out=mixed).astype(np.uint8)


def _taps(size: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.intp], tuple[NDArray[np.int32], ...]]:
    """For each wanted position: its two neighbours, and their weights times 2048. Pixel centres lie at .5."""
    place = ((np.arange(wanted) + 0.5) * (size / wanted) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.intp)
    share = place - first.astype(np.float32)
    weights = tuple(np.rint(w * np.float32(2048)).astype(np.int32) for w in (np.float32(1) - share, share))
    return first.clip(0, size - 1), (first + 1).clip(0, size - 1), weights


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a picture becomes an input.

    size: the picture is warped to this height and width; None leaves it.  crop: then the centre of this size is cut out.
    mean: subtracted; one value per channel, or a C x H x W image, which is cut like the picture where it is larger.
    scale: multiplied at the end.
    """

    size: tuple[int, int] | None
    crop: tuple[int, int]
    mean: Array
    scale: float = 1.0

    def __call__(self, pixels: Pixels) -> Array:
        """H x W x C -> C x H x W, float32. Raises: NetError when the picture is smaller than the crop."""
        if self.size:
            pixels = resize(pixels, *self.size)
        x = centre(np.moveaxis(pixels.astype(np.float32), 2, 0), self.crop)
        mean = self.mean.reshape(-1, 1, 1) if self.mean.ndim == 1 else centre(self.mean, self.crop)
        result: Array = (x - mean.astype(np.float32)) * np.float32(self.scale)
        return result


def centre(image: Array, crop: tuple[int, int]) -> Array:
    """The centre of a C x H x W image. Raises: NetError when it is smaller than the crop."""
    _, h, w = image.shape
    if h < crop[0] or w < crop[1]:
        got, expected = f"{h} x {w}", f"at least {crop[0]} x {crop[1]}"
        raise NetError("the picture or mean image is too small", expected=expected, got=got)
    y, x = (h - crop[0]) // 2, (w - crop[1]) // 2
    return image[:, y : y + crop[0], x : x + crop[1]]


def caffe_preparation(
    input_shape: tuple[int, ...],
    mean: str | None = None,
    size: tuple[int, int] | None = None,
    scale: float = 1.0,
) -> Preparation:
    """What Caffe's own classifier does for a net with an N x C x H x W input.

    mean: `B,G,R` values, or the path of a .binaryproto or .npy mean image; by default ImageNet's mean for 3 channels and
    none for others.  size: by default 256 x 256 for the usual ImageNet crops (224 to 231), else the input's own size.
    Raises: NetError for an input that takes no pictures and for an unusable mean.
    """
    if len(input_shape) != 4 or input_shape[1] not in (1, 3):
        got = " x ".join(map(str, input_shape))
        raise NetError("the net's input takes no pictures", expected="N x 3 x H x W or N x 1 x H x W", got=got)
    _, channels, *crop = input_shape
    usual = all(224 <= side <= 231 for side in crop)
    size = size or ((256, 256) if usual else (crop[0], crop[1]))
    if not all(1 <= side <= MOST_PIXELS for side in size):
        got, expected = f"{size[0]} x {size[1]}", f"1 to {MOST_PIXELS} pixels a side"
        raise NetError("a picture cannot be resized to this", expected=expected, got=got)
    return Preparation(size, (crop[0], crop[1]), _mean(mean, channels), scale)


def _mean(mean: str | None, channels: int) -> Array:
    if mean is None:
        return np.array(IMAGENET_MEAN if channels == 3 else [0.0] * channels, np.float32)
    try:
        values = np.array([float(v) for v in mean.split(",")], np.float32)
    except ValueError:
        values = _mean_image(mean)
    if values.shape[0] == 1 and values.ndim == 1:
        values = np.repeat(values, channels)
    if values.shape[0] != channels:
        raise NetError("the mean has another number of channels", at=mean, expected=channels, got=values.shape[0])
    return values


def _mean_image(path: str) -> Array:
    if Path(path).suffix == ".npy":
        try:
            array = np.load(path).astype(np.float32, casting="same_kind")
        except (OSError, EOFError, ValueError, TypeError) as e:
            raise NetError(f"cannot be read as a mean image: {e}", at=path) from None
    else:
        from ..binary import read_blobproto

        array = read_blobproto(path)
    if array.ndim not in (1, 3):
        raise NetError("a mean image is C x H x W", at=path, got=" x ".join(map(str, array.shape)))
    return np.asarray(array, np.float32)
