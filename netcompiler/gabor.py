"""Intel Caffe's gabor filler: fixed first filters for images of three channels, for the four sizes that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi

import numpy as np

from .graph import Array

Colour = tuple[float, float, float]
GREY: Colour = (1, 1, 1)
BANDS = pi * 12 / 32


@dataclass(frozen=True, slots=True)
class Wave:
    """One filter: colour x height x exp(-(x^2 + y^2) / (2 width^2)) x cos(frequency (x cos turn - y sin turn) + phase),
    x and y running from -1 to 1. The frequency is pi (size - 1) / (2 slowness), or `frequency` where that is given.
    """

    height: float = 1.0
    width: float = 0.6
    slowness: float = 1.0
    turn: float = 0.0
    phase: float = 0.0
    colour: Colour = GREY
    frequency: float | None = None

    def draw(self, size: int) -> Array:
        """The filter as 3 x size x size."""
        x = np.linspace(-1, 1, size)
        y = x[:, None]
        frequency = pi * (size - 1) / 2 / self.slowness if self.frequency is None else self.frequency
        bump = np.exp(-(x * x + y * y) / (2 * self.width * self.width))
        wave = np.cos((x * np.cos(self.turn) - y * np.sin(self.turn)) * frequency + self.phase)
        shade: Array = np.reshape(self.colour, (3, 1, 1)) * (self.height * bump * wave)
        return shade


Rule = Callable[[int], Wave]  # the wave of the k-th filter
Table = tuple[tuple[int, Rule], ...]  # each rule holds for k below the number


def _octaves(scale: float, width: float, turns: int) -> Rule:
    """Eight frequencies for each of `turns` directions, light and dark ones in turn."""

    def rule(k: int) -> Wave:
        step = k % 8
        return Wave(
            scale / (1 + step / 8),
            width + 0.2 * step / 8,
            1 + step / 2,
            k // 8 * pi / turns,
            k % 2 * pi + BANDS,
        )

    return rule


def _blobs(scale: float, row: Callable[[int], tuple[int, int]]) -> Rule:
    """Round spots of magenta and green; `row` gives the phase, in half turns, and the size of the k-th."""

    def rule(k: int) -> Wave:
        half, size = row(k)
        return Wave(scale / (1 + size / 2), 1 / (2.5 - size / 2), 1, 0, half * pi, (0.25, -1, 1), pi / 4)

    return rule


def _edges(
    height: float, width: float, slowness: float, every: float, start: float, colour: Colour, count: int = 8
) -> Rule:
    """Edges in `count` directions, the first at `start`, `every` apart."""
    return lambda k: Wave(height, width, slowness, k % count * every + start, pi / 2, colour)


def _small(k: int) -> Wave:
    """The filters of 5 x 5."""
    slanted = pi / 4 + pi / 8
    if k < 8:
        return Wave(0.5, turn=k * pi / 8)
    if k < 14:
        return Wave(0.5, slowness=2, turn=(k - 8) * pi / 6 + pi / 12)
    if k < 16:
        return Wave(0.5, 0.75, 8, phase=k % 2 * pi, colour=(1, -1, 1))
    if k < 28:
        colour = GREY if k < 20 else (1, 0, -1) if k < 24 else (-1, 1, 1)
        return Wave(0.5, slowness=4, turn=k % 4 * pi / 2 + slanted, phase=pi / 2, colour=colour)
    turn, colours = (pi / 8, (-1.0, 1.0, -1.0)) if k < 30 else (slanted, (1.0, 1.0, 0.0))
    return Wave(0.5, slowness=4, turn=k % 2 * pi / 2 + turn, phase=pi / 2, colour=colours)


_MIDDLE: Table = (
    (32, _octaves(1, 0.4, 4)),
    (40, lambda k: Wave(0.5, 0.45, 1, k % 8 * pi / 8, pi)),
    (46, _blobs(1, lambda k: ((k - 1) // 3, (k - 1) % 3))),
    (48, _edges(2 / 3, 1, 12, pi, pi / 8, (1, 0.1, -0.5))),
    (56, _edges(2 / 3, 1, 12, pi / 4, pi / 32, (-0.5, 0.1, 1))),
    (60, _edges(1, 1, 12, pi / 2, pi / 8, (0.25, -1, 1))),
    (64, _edges(2 / 3, 1, 12, pi / 2, pi / 8, (-1, -1, 1))),
)
_LARGE: Table = (
    (48, _octaves(1 / 3, 0.5, 6)),
    (56, _blobs(1 / 3, lambda k: (k // 4, k % 4))),
    (60, _edges(1 / 4.5, 0.75, 8, pi / 2, pi / 8, (-1, 1, -0.5), 4)),
    (64, _edges(1 / 9, 2, 8, pi / 2, pi / 8, (1, -0.5, -0.75), 4)),
    (72, _edges(1 / 4.5, 0.75, 4, pi / 4, pi / 32, (1, 0.1, -0.75))),
    (80, _edges(1 / 4.5, 1, 12, pi / 4, pi / 32, (-0.5, 0.1, 1))),
    (88, _edges(1 / 7.5, 1, 8, pi / 4, pi / 32, (-1, -1, 1))),
    (92, _edges(1 / 3, 0.6, 16, pi / 2, pi / 16, GREY, 4)),
    (96, _edges(1 / 12, 0.75, 4, pi / 4, pi / 32, (-1, -1, 1))),
)
_SETS: dict[tuple[int, int], Table] = {(32, 5): ((32, _small),), (64, 7): _MIDDLE, (64, 3): _MIDDLE, (96, 11): _LARGE}
SIZES = ", ".join(f"{count} x 3 x {size} x {size}" for count, size in _SETS)


def filters(count: int, size: int) -> Array | None:
    """The filters, count x 3 x size x size; None for a number and a size that are not among SIZES.

    Source: Intel Caffe, include/caffe/gabor.hpp.
    """
    table = _SETS.get((count, size))
    if table is None:
        return None
    waves = [next(rule for end, rule in table if k < end)(k) for k in range(count)]
    if size == 3:  # as 7 x 7, but wide
        waves = [replace(wave, width=1.0) for wave in waves]
    return np.stack([wave.draw(size) for wave in waves])
