"""WindowData: windows of pictures for R-CNN, a share of them on objects, warped to one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import NetError
from ..graph import Array, Shape, dims
from ..text import Msg
from .draws import below, numbers
from .image import Pixels, resize_planes
from .pictures import decode
from .records import MOVED, Planes, RecordSource
from .source import Batch, Setting, Unreadable, batch_size, settings, source_path, warn_idle
from .transform import FORCED

_OWN = ("fg_threshold", "bg_threshold", "fg_fraction", "context_pad", "crop_mode", "cache_images", "root_folder")
_HEAD = 7  # words in front of a picture's windows: # INDEX FILE CHANNELS HEIGHT WIDTH COUNT
_WORDS = 6  # of a window: LABEL OVERLAP X1 Y1 X2 Y2
_DRAWS = 2  # numbers for each window: which one it is, and whether it is mirrored
_AGAIN = np.uint64(1 << 60)  # leads to other numbers once a window proved unreadable


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part of a picture goes in the square of a crop.

    columns, rows: the part, first and last pixel.  size: height and width that it is warped to.  corner: its upper left
    pixel in the crop.
    """

    columns: tuple[int, int]
    rows: tuple[int, int]
    size: tuple[int, int]
    corner: tuple[int, int]


class WindowSource(RecordSource):
    """A batch is first windows of the background, then fg_fraction of it windows on objects, all drawn at random.

    Of transform_param the scale has no effect, as in Caffe: window_data_param has one.
    Source: Caffe, src/caffe/layers/window_data_layer.cpp.
    """

    costly = True

    def __init__(self, msg: Msg, index: int, setting: Setting) -> None:
        p = settings(msg, "window_data_param", ("source", "batch_size", *MOVED, *_OWN), ())
        warn_idle(msg, "window_data_param", ("mean_file", "crop_size", "mirror"))
        warn_idle(msg, "transform_param", ("scale",), "window_data_param.scale has")
        warn_idle(msg, "transform_param", FORCED, "pictures are read in colour")
        super().__init__(msg, index, setting, batch_size(p))
        t, self.scale = self.transform, np.float32(p.scale)
        if not t.crop[0] or t.crop[0] != t.crop[1]:
            got = dims(t.crop) if t.crop[0] else "none"
            raise NetError("windows need a crop_size", at=msg.transform_param.at(), expected="crop_size", got=got)
        self.crop, self.pad, self.square = t.crop[0], int(p.context_pad), p.crop_mode == "square"
        if p.crop_mode not in ("warp", "square"):
            raise NetError("unknown crop_mode", at=p.at("crop_mode"), expected="warp or square", got=p.crop_mode)
        if 2 * self.pad >= self.crop:
            expected = f"below {self.crop / 2:g}, half of the crop_size"
            raise NetError("context_pad leaves nothing", at=p.at("context_pad"), expected=expected, got=self.pad)
        if not 0 <= p.fg_fraction <= 1:
            raise NetError("fg_fraction is a share", at=p.at("fg_fraction"), expected="0 to 1", got=p.fg_fraction)
        if t.mean_values is not None and len(t.mean_values) not in (1, 3):
            raise NetError("the wrong number of mean_values", at=t.at_mean, expected="1 or 3", got=len(t.mean_values))
        if t.mean is not None:
            side = (t.mean.shape[2] - self.crop) // 2 + self.crop
            if t.mean.shape[0] != 3 or t.mean.shape[2] < self.crop or t.mean.shape[1] < side:
                expected, got = f"3 x {side} x {side} at least", f"{dims(t.mean.shape)} in {t.mean_file}"
                raise NetError("the mean does not cover the crop", at=t.at_mean, expected=expected, got=got)
        self.n_objects = int(np.float32(self.batch) * np.float32(p.fg_fraction))
        self.list = source_path(p, setting)
        self.files, self.backgrounds, self.objects = read_windows(self.list, p.fg_threshold, p.bg_threshold)
        self.folder = str(p.root_folder)
        self.cache: dict[str, bytes] | None = {} if p.cache_images else None
        for windows, count, name in ((self.objects, self.n_objects, "fg"), (self.backgrounds, self.batch, "bg")):
            if count > (self.n_objects if name == "bg" else 0) and not len(windows):
                what = f"no window is {'an object' if name == 'fg' else 'background'} by {name}_threshold"
                raise NetError(what, at=self.list, expected=f"some, as fg_fraction is {p.fg_fraction:g}")

    def shapes(self) -> dict[str, Shape]:
        return dict(zip(self.tops, ((self.batch, 3, self.crop, self.crop), (self.batch,)), strict=False))

    def take(self, positions: Sequence[int]) -> Batch:
        faults: list[NetError] = []
        data = np.zeros((self.batch, 3, self.crop, self.crop), np.float32)
        labels = np.empty(self.batch, np.float32)
        for slot, position in enumerate(positions):
            data[slot], labels[slot], _ = self._readable(position, slot, faults)
        return Batch(dict(zip(self.tops, (data, labels), strict=False)), faults)

    def record(self, position: int, slot: int, attempt: int) -> tuple[Planes, float, str]:
        place = np.uint64(position) * np.uint64(_DRAWS) + np.arange(_DRAWS, dtype=np.uint64)
        drawn = numbers(self.key, place + np.uint64(attempt) * _AGAIN)
        windows = self.backgrounds if slot < self.batch - self.n_objects else self.objects
        file, label, x1, y1, x2, y2, line = (int(v) for v in windows[below(int(drawn[0]), len(windows))])
        mirrored = self.transform.mirror and below(int(drawn[1]), 2) == 1
        path = self.folder + self.files[file]
        name = f"{self.list}:{line}: a window of {path}"
        return self._cut(self._picture(path, name), (x1, y1, x2, y2), mirrored, name), label, name

    def _picture(self, path: str, name: str) -> Pixels:
        found = self.setting.find(path)
        if self.cache is None:
            return decode(found, True, name)
        if path not in self.cache:
            try:
                self.cache[path] = Path(found).read_bytes()
            except OSError as e:
                raise Unreadable(f"cannot be read: {e.strerror or e}", at=name) from None
        return decode(self.cache[path], True, name)

    def _cut(self, picture: Pixels, box: tuple[int, int, int, int], mirrored: bool, name: str) -> Array:
        """The crop of a window, mean and scale applied; 0 where the window reaches beyond the picture."""
        place = placed(box, (picture.shape[1], picture.shape[2]), self.crop, self.pad, self.square, mirrored)
        (x1, x2), (y1, y2) = place.columns, place.rows
        if not (0 <= x1 <= x2 < picture.shape[2] and 0 <= y1 <= y2 < picture.shape[1]):
            got, expected = f"{box[0]}, {box[1]} to {box[2]}, {box[3]}", f"within {dims(picture.shape[:0:-1])} pixels"
            raise Unreadable("the window lies outside its picture", at=name, expected=expected, got=got)
        crop = np.zeros((3, self.crop, self.crop), np.float32)
        if min(place.size) < 1:  # less than half a pixel of it lies in the picture
            return crop
        part = resize_planes(picture[:, y1 : y2 + 1, x1 : x2 + 1], *place.size)
        if mirrored:
            part = part[:, :, ::-1]
        rows, columns = (slice(c, c + s) for c, s in zip(place.corner, place.size, strict=True))
        values = part.astype(np.float32)
        mean = self.transform.mean
        if mean is not None:
            off = (mean.shape[2] - self.crop) // 2
            values -= mean[:, off : off + self.crop, off : off + self.crop][:, rows, columns]
        elif self.transform.mean_values is not None:
            values -= self.transform.mean_values
        crop[:, rows, columns] = values * self.scale
        return crop


def placed(
    box: tuple[int, int, int, int], image: tuple[int, int], crop: int, pad: int, square: bool, mirrored: bool
) -> Place:
    """Where a window (x1, y1, x2, y2) goes in its crop.

    With context the window grows about its centre, so that `pad` pixels of the crop are context on each side; a square
    one first grows to the longer of its sides. What then lies outside the picture stays empty in the crop.
    """
    x1, y1, x2, y2 = box
    if not pad and not square:
        return Place((x1, x2), (y1, y2), (crop, crop), (0, 0))
    f = np.float32
    grown = f(crop) / f(crop - 2 * pad)
    half_h, half_w = f(f(y2 - y1 + 1) / 2), f(f(x2 - x1 + 1) / 2)
    x, y = f(x1) + half_w, f(y1) + half_h
    if square:
        half_h = half_w = max(half_h, half_w)
    x1, x2 = _round(x - half_w * grown), _round(x + half_w * grown)
    y1, y2 = _round(y - half_h * grown), _round(y + half_h * grown)
    scale_x, scale_y = f(crop) / f(x2 - x1 + 1), f(crop) / f(y2 - y1 + 1)
    left, top = max(0, -x1), max(0, -y1)
    right, bottom = max(0, x2 - image[1] + 1), max(0, y2 - image[0] + 1)
    x1, x2, y1, y2 = x1 + left, x2 - right, y1 + top, y2 - bottom
    width, height = _round(f(x2 - x1 + 1) * scale_x), _round(f(y2 - y1 + 1) * scale_y)
    column, row = _round(f(right if mirrored else left) * scale_x), _round(f(top) * scale_y)
    return Place((x1, x2), (y1, y2), (min(height, crop - row), min(width, crop - column)), (row, column))


def _round(x: np.float32) -> int:
    """To the nearest whole number, halves away from 0."""
    return int(np.trunc(x + np.copysign(np.float32(0.5), x)))


Windows = NDArray[np.int32]  # a row for each: picture, label, x1, y1, x2, y2, and the line of the list


def read_windows(path: str, objects_from: float, background_below: float) -> tuple[list[str], Windows, Windows]:
    """The pictures of a window file, and its windows: those of the background, whose label is 0, and those on objects.

    Raises: NetError with the line at fault.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except (OSError, ValueError) as e:
        raise NetError(f"cannot be read: {getattr(e, 'strerror', None) or e}", at=path) from None
    files: list[str] = []
    kinds: tuple[list[Windows], list[Windows]] = ([], [])
    for number, file, count, start in _heads(path, lines):
        if number != len(files):
            what = "pictures are numbered from 0 on, in their order"
            raise NetError(what, at=f"{path}:{start}", expected=len(files), got=number)
        values = _numbers(path, lines, start, count)
        overlaps, labels = values[:, 1].astype(np.float32), values[:, 0]
        on_object = overlaps >= np.float32(objects_from)
        below_it = ~on_object & (overlaps < np.float32(background_below))
        wrong = np.flatnonzero(on_object & (labels <= 0))
        if len(wrong):
            what, got = "a window on an object has no class", f"{labels[wrong[0]]:g}"
            raise NetError(what, at=f"{path}:{start + 1 + wrong[0]}", expected="a label above 0", got=got)
        rows = np.empty((count, 7), np.int32)
        rows[:, 0], rows[:, 1], rows[:, 2:6], rows[:, 6] = number, labels, values[:, 2:], start + 1 + np.arange(count)
        kinds[1].append(rows[on_object])
        rows[:, 1] = 0
        kinds[0].append(rows[below_it])
        files.append(file)
    if not files:
        raise NetError("the window file is empty", at=path, expected="# INDEX, FILE, CHANNELS HEIGHT WIDTH, COUNT, ...")
    return files, np.concatenate(kinds[0]), np.concatenate(kinds[1])


def _heads(path: str, lines: Sequence[str]) -> Iterator[tuple[int, str, int, int]]:
    """For each picture its number, its file, how many windows follow, and how many lines lie before them."""
    at = 0
    while at < len(lines):
        words: list[str] = []
        begun = at
        while at < len(lines) and len(words) < _HEAD:
            words += lines[at].split()
            at += 1
            if not words:
                begun = at
        if not words:
            return
        try:
            mark, number, file, channels, _, _, count = words
            found = int(number), int(count), int(channels)
        except ValueError:
            found = -1, -1, 0
        if found[1] < 0 or words[0] != "#":
            what, expected = "no picture begins here", "# INDEX FILE CHANNELS HEIGHT WIDTH COUNT"
            raise NetError(what, at=f"{path}:{begun + 1}", expected=expected, got=" ".join(words)[:80])
        if found[2] != 3:
            raise NetError("pictures are read in colour", at=f"{path}:{begun + 1}", expected="3 channels", got=found[2])
        yield found[0], file, found[1], at
        at += found[1]


def _numbers(path: str, lines: Sequence[str], start: int, count: int) -> NDArray[np.float64]:
    """The windows that follow line `start`, a row each."""
    if not count:
        return np.empty((0, _WORDS))
    try:
        return np.loadtxt(lines[start : start + count], np.float64, comments=None, ndmin=2).reshape(count, _WORDS)
    except ValueError:
        pass
    for number, line in enumerate((*lines, "")[start : start + count], start + 1):
        try:
            fits = len([float(word) for word in line.split()]) == _WORDS
        except ValueError:
            fits = False
        if not fits:
            got = line or "the end of the file" if number >= len(lines) else line or "nothing"
            raise NetError("this is no window", at=f"{path}:{number}", expected="LABEL OVERLAP X1 Y1 X2 Y2", got=got)
    raise NetError("the windows end too soon", at=f"{path}:{start}", expected=count, got=len(lines) - start)
