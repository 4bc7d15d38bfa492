"""A contact sheet: the pictures of a set side by side, with their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic
from .records import Planes
from .source import library

_GAP = 6
_LINE = 13  # height of a line of words, in Pillow's own font
_INK, _PAPER, _FADED = (33, 37, 41), (255, 255, 255), (206, 212, 218)


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture and the words below it; without a picture, the words tell why."""

    planes: Planes | None
    words: Sequence[str]


def draw_sheet(cells: Sequence[Cell], path: str | os.PathLike[str], side: int = 112, columns: int = 0) -> None:
    """Draw cells in rows and write them as a PNG, whole or not at all.

    side: of the square that each picture is fitted into.  columns: 0 makes the sheet about as wide as high.
    """
    image: Any = library("PIL.Image", "drawing a sheet", str(path))
    draws: Any = library("PIL.ImageDraw", "drawing a sheet", str(path))
    columns = columns or max(1, round((len(cells) * 1.3) ** 0.5))
    lines = max((len(cell.words) for cell in cells), default=0)
    width, height = side + _GAP, side + _GAP + lines * _LINE
    rows = -(-len(cells) // columns)
    sheet = image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _PAPER)
    draw = draws.Draw(sheet)
    for i, cell in enumerate(cells):
        x, y = _GAP + i % columns * width, _GAP + i // columns * height
        if cell.planes is None:
            draw.rectangle((x, y, x + side - 1, y + side - 1), outline=_FADED)
            draw.line((x, y, x + side - 1, y + side - 1), fill=_FADED)
        else:
            picture = image.fromarray(viewable(cell.planes))
            scale = min(side / picture.width, side / picture.height)
            scale = (
                max(1, int(scale)) if scale > 1 else scale
            )  # small ones grow by whole numbers, so pixels stay square
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            method = image.Resampling.NEAREST if scale >= 1 else image.Resampling.BOX
            sheet.paste(picture.resize(size, method), (x + (side - size[0]) // 2, y + side - size[1]))
        for k, words in enumerate(cell.words):
            draw.text((x, y + side + k * _LINE), _fitted(draw, words, side), fill=_INK)
    with atomic(Path(path)) as file:
        sheet.save(file, "PNG")


def viewable(planes: Planes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Planes as R, G, B pixels. Floats are stretched over black to white; of odd channel counts the first is shown."""
    if planes.dtype != np.uint8:
        values = np.nan_to_num(planes.astype(np.float64))
        low, high = values.min(), values.max()
        planes = ((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    planes = planes[2::-1] if len(planes) in (3, 4) else np.repeat(planes[:1], 3, 0)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def _fitted(draw: Any, words: str, width: int) -> str:
    """Words cut off where they would run into the next cell. What the font lacks becomes a question mark."""
    words = words.encode("latin-1", "replace").decode("latin-1")
    if draw.textlength(words) <= width:
        return words
    while words and draw.textlength(f"{words}...") > width:
        words = words[:-1]
    return f"{words}..."
