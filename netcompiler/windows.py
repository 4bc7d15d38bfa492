"""Which pixels of one image make each pixel of another, along one axis: exactly, for windows of any kind one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Self

Extent = tuple[int, int]  # the first and the last pixel; the last before the first: none
NONE: Extent = (0, -1)
MOST = 1 << 12  # extents that one Window may list


@dataclass(frozen=True, slots=True)
class Window:
    """For each pixel of a top, the first and the last pixel of a bottom that it is made of, along one axis.

    `extents` are those of the first pixels; they come again, `step` further on, for as many pixels that follow, and so on.
    Pixels below 0 and past the end lie in the padding.
    A window that slides has one extent, and its stride as step; Deconvolution, which makes `stride` pixels of each pixel
    of its bottom, has `stride` extents and step 1; the whole image has step 0. step None: nothing comes again, and each
    pixel of the top has its own extent.
    """

    extents: tuple[Extent, ...]
    step: int | None = 0

    @classmethod
    def sliding(cls, kernel: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Self:
        """Windows over a padded image, as Convolution has them."""
        return cls(((-pad, dilation * (kernel - 1) - pad),), stride)

    @classmethod
    def spread(cls, kernel: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Self:
        """Pixels spread over windows that add up, as in Deconvolution: i adds to i stride + t dilation - pad, t < kernel."""
        period = stride // gcd(stride, dilation)  # of the taps that meet one pixel
        extents = []
        for pixel in range(pad, pad + stride):
            taps = (t for t in range(min(kernel, period)) if (pixel - t * dilation) % stride == 0)
            low = next(taps, None)
            high = 0 if low is None else low + (kernel - 1 - low) // period * period
            extents.append(
                NONE if low is None else ((pixel - high * dilation) // stride, (pixel - low * dilation) // stride)
            )
        return cls(tuple(extents), 1)

    @classmethod
    def whole(cls, size: int) -> Self:
        """Pixels that are each made of the whole axis."""
        return cls(((0, size - 1),))

    def at(self, pixel: int) -> Extent:
        """The extent of one pixel of the top."""
        if self.step is None:
            return self.extents[min(max(pixel, 0), len(self.extents) - 1)]  # past the ends, as at the ends
        rounds, i = divmod(pixel, len(self.extents))
        first, last = self.extents[i]
        moved = rounds * self.step
        return (first + moved, last + moved) if first <= last else NONE

    def over(self, pixels: Extent) -> Extent:
        """The smallest extent that holds those of all `pixels`; of many, only those near the ends can be at its ends."""
        (first, last), n = pixels, len(self.extents)
        if first <= last and self.step is None:
            first, last = (min(max(pixel, 0), n - 1) for pixel in (first, last))
        if last - first < 2 * n:
            return _hull(map(self.at, range(first, last + 1)))
        return _hull(map(self.at, (*range(first, first + n), *range(last - n + 1, last + 1))))

    def after(self, inner: Window, size: int) -> Window:
        """What this window's pixels are made of, `inner` telling it of the bottom's. size: how many pixels the top has."""
        if self.step is None or inner.step is None:
            return _listed(lambda i: inner.over(self.at(i)), size)
        rounds = len(inner.extents) // gcd(self.step, len(inner.extents))  # until both come again
        count = rounds * len(self.extents)
        if count > MOST:
            return _listed(lambda i: inner.over(self.at(i)), size)
        step = rounds * self.step * inner.step // len(inner.extents)
        return Window(tuple(inner.over(self.at(i)) for i in range(count)), step)

    def beside(self, other: Window, size: int) -> Window:
        """The smallest extent that holds those of both windows, for each pixel of the top, which has `size`."""
        if self == other:
            return self
        count = lcm(len(self.extents), len(other.extents))
        if self.stride is None or self.stride != other.stride or count > MOST:
            return _listed(lambda i: _hull((self.at(i), other.at(i))), size)
        return Window(tuple(_hull((self.at(i), other.at(i))) for i in range(count)), int(self.stride * count))

    @property
    def size(self) -> int:
        """The length of the longest extent."""
        return max(last - first + 1 for first, last in self.extents)

    @property
    def stride(self) -> Fraction | None:
        """How far an extent lies from that of the pixel before, on average; None where they do not come again."""
        return None if self.step is None else Fraction(self.step, len(self.extents))

    @property
    def centre(self) -> Fraction:
        """The middle of pixel 0's extent; where several take turns, of the line through the middles of all."""
        stride = self.stride or Fraction(0)
        extents = self.extents[:1] if self.step is None else self.extents
        middles = [Fraction(a + b, 2) - i * stride for i, (a, b) in enumerate(extents) if a <= b]
        return sum(middles, Fraction(0)) / max(len(middles), 1)


Windows = tuple[Window, ...]  # one for each axis from the third on: those of the image
SAME = Window.sliding(1)  # each pixel is made of itself
NOTHING: Windows = (Window((NONE,)),)  # of a bottom that the top is not made of


def _hull(extents: Iterable[Extent]) -> Extent:
    held = [e for e in extents if e[0] <= e[1]]
    return (min(a for a, _ in held), max(b for _, b in held)) if held else NONE


def _listed(extent: Callable[[int], Extent], size: int) -> Window:
    """Each pixel's own extent; where those are too many, for all the one that holds those near the ends."""
    if size > MOST:
        return Window((_hull(map(extent, (*range(MOST // 2), *range(size - MOST // 2, size)))),))
    found = tuple(map(extent, range(max(size, 1))))
    return Window(found, None) if len(set(found)) > 1 else Window(found[:1])
