"""Encoded pictures -> planes, C x H x W in B, G, R order, as OpenCV decodes them. Needs Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ..errors import NetError
from .image import Pixels
from .source import Unreadable, library

# What libpng makes gray of R, G and B with: 32768ths, cut off and never rounded, of the 0.299 and 0.587 that OpenCV gives.
_GRAY = (9797, 19234, 3737)


def decode(source: str | bytes, color: bool | None, at: str) -> Pixels:
    """A picture file, by its path or its bytes.

    color: three planes, or one for False; None: as many as the file has, alpha too.  at: for faults: what is decoded.
    The camera's turning mark (EXIF) is obeyed, unless color is None.
    Raises: NetError (Unreadable) for what is missing or damaged.
    Source: OpenCV, modules/imgcodecs/src/loadsave.cpp, grfmt_png.cpp, grfmt_jpeg.cpp.
    """
    image: Any = library("PIL.Image", "reading pictures", at)
    try:
        with image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            return _planes(picture, color, at)
    except NetError:
        raise
    except image.UnidentifiedImageError:
        raise Unreadable("not a picture that Pillow knows", at=at) from None
    except Exception as e:  # readers of damaged files raise whatever they stumble over
        raise Unreadable(f"cannot be read: {getattr(e, 'strerror', None) or e}", at=at) from None


def _planes(picture: Any, color: bool | None, at: str) -> Pixels:
    if color is False and picture.format == "JPEG":
        picture.draft("L", picture.size)  # libjpeg hands out Y itself
    if color is not None and picture.getexif().get(0x0112, 1) != 1:
        picture = library("PIL.ImageOps", "reading pictures", at).exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):  # gray of 16 bits: the upper 8 count
        if color is None:
            what = "the picture has more than 8 bits a channel"
            raise Unreadable(what, at=at, expected="8 bits", hint="force_color or force_gray reads it")
        values = np.asarray(picture)
        gray = (values >> 8 if values.dtype.kind in "iu" else values).clip(0, 255).astype(np.uint8)
        return np.repeat(gray[None], 3 if color else 1, 0)
    has_alpha = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    is_gray = picture.mode in ("L", "1") or (picture.mode in ("LA", "La") and color is not None)
    if is_gray and not (color is None and has_alpha):
        gray = np.asarray(picture.convert("L"))
        return np.repeat(gray[None], 3 if color else 1, 0)
    if color is None and has_alpha:
        return _stacked(picture.convert("RGBA"), (2, 1, 0, 3))
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if color is not False:
        return _stacked(picture, (2, 1, 0))
    if picture.format == "PNG" or picture.format is None:
        r, g, b = (np.asarray(plane).astype(np.int32) for plane in picture.split())
        return ((r * _GRAY[0] + g * _GRAY[1] + b * _GRAY[2]) >> 15).astype(np.uint8)[None]
    return np.asarray(picture.convert("L"))[None]


def _stacked(picture: Any, order: tuple[int, ...]) -> Pixels:
    bands = picture.split()
    planes = np.empty((len(order), picture.height, picture.width), np.uint8)
    for plane, k in zip(planes, order, strict=True):
        plane[:] = np.asarray(bands[k])
    return planes
