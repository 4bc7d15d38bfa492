"""Learned arrays -> what can be said of their values: statistics, a histogram, and filters as a picture."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Array

BINS = 48
CHUNK = 1 << 18  # values that are looked at together
MOST_FILTERS = 256
LARGE = 1e150  # squares of more are beyond what a float64 holds
SIDE = 300  # pixels that a picture of filters has about


def statistics(array: Array) -> dict[str, Any]:
    """How the values of an array lie: exact, in two walks over it, with no copy of all of it.

    odd: how many values are no finite numbers; they count in nothing else.  bins: counts over equal parts of min .. max.
    """
    count = odd = zeros = 0
    low, high, total = np.inf, -np.inf, 0.0
    for part in _finite(array):
        count += part.size
        low, high = min(low, float(part.min())), max(high, float(part.max()))
        with np.errstate(over="ignore"):
            total += float(part.sum(dtype=np.float64))
        zeros += part.size - int(np.count_nonzero(part))
    odd = array.size - count
    if not count:
        return {"count": 0, "min": 0, "max": 0, "mean": 0, "std": 0, "zeros": 0, "odd": odd, "bins": []}
    most = max(-low, high)
    if most > LARGE:
        told = statistics(array / most)
        return told | {"min": low, "max": high, "mean": told["mean"] * most, "std": told["std"] * most, "zeros": zeros}
    mean, squares = total / count, 0.0
    bins = np.zeros(BINS, np.int64)
    scale = BINS / (high - low) if high > low and np.isfinite(BINS / (high - low)) else 0.0
    for part in _finite(array):
        squares += float(np.square(part - mean, dtype=np.float64).sum())
        places = np.minimum(((part - low) * scale).astype(np.int64), BINS - 1)
        bins += np.bincount(places, minlength=BINS)
    return {
        "count": count,
        "min": low,
        "max": high,
        "mean": mean,
        "std": float(np.sqrt(squares / count)),
        "zeros": zeros,
        "odd": odd,
        "bins": bins.tolist() if scale else [],
    }


def _finite(array: Array) -> Iterator[NDArray[np.float64]]:
    """The finite values of an array, some at a time."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK].astype(np.float64)
        whole = np.isfinite(part)
        part = part if whole.all() else part[whole]
        if part.size:
            yield part


def filter_picture(array: Array) -> dict[str, Any] | None:
    """Filters over one or three channels, each as a small picture, on one scale for all; None for other arrays.

    Three channels are taken for blue, green and red, as Caffe's nets have them.
    """
    if array.ndim != 4 or array.shape[1] not in (1, 3) or min(array.shape[2:]) < 2 or not array.shape[0]:
        return None
    filters = np.nan_to_num(np.asarray(array[:MOST_FILTERS], np.float64), posinf=0, neginf=0)
    number, _, high, wide = filters.shape
    most = np.abs(filters).max() or 1.0
    levels = np.round(127.5 + 127.5 * filters / most).astype(np.uint8)
    levels = levels[:, ::-1].transpose(0, 2, 3, 1)
    columns = int(np.ceil(np.sqrt(number * high / wide)))
    rows = -(-number // columns)
    sheet = np.zeros((rows * (high + 1) - 1, columns * (wide + 1) - 1, 4), np.uint8)
    for k in range(number):
        top, left = k // columns * (high + 1), k % columns * (wide + 1)
        sheet[top : top + high, left : left + wide, :3] = levels[k]
        sheet[top : top + high, left : left + wide, 3] = 255
    zoom = max(1, SIDE // sheet.shape[1])
    note = "read as blue, green and red" if array.shape[1] == 3 else "one channel"
    shown = f"the first {number} of {len(array)} filters" if len(array) > number else f"{number} filters"
    return {
        "png": "data:image/png;base64," + base64.b64encode(png(sheet)).decode(),
        "width": sheet.shape[1] * zoom,
        "height": sheet.shape[0] * zoom,
        "note": f"{shown}, {high} × {wide}, {note}; grey is 0, black and white are ±{most:.3g}",
    }


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture of height x width x 4 (red, green, blue, opacity) as a PNG file."""
    high, wide, _ = pixels.shape
    lines = np.zeros((high, 1 + 4 * wide), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = pixels.reshape(high, -1)
    head = struct.pack(">IIBBBBB", wide, high, 8, 6, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
