"""What numbers a value takes over the calibration inputs, and the u8 format that this suggests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.int8 import LEVELS, Format

BINS = 4096
PERCENTILE = 99.99
METHODS = ("minmax", "percentile", "mse")
SHARES = 80  # of the whole range, that `mse` tries


@dataclass(slots=True)
class Range:
    """The least and the largest number, and how many lie in each of BINS steps between them."""

    low: float = 0.0
    high: float = 0.0
    counts: Tensor | None = None

    def widen(self, x: Tensor) -> bool:
        """Take in a tensor's least and largest number. Returns whether they are finite."""
        if not x.numel():
            return True
        low, high = (float(v) for v in torch.aminmax(x.float()))
        self.low, self.high = min(self.low, low), max(self.high, high)
        return low > -torch.inf and high < torch.inf  # NaN is neither

    def count(self, x: Tensor) -> None:
        """Count a tensor's numbers, once the range is known."""
        if self.high > self.low:
            found = torch.histc(x.float(), BINS, self.low, self.high).double()
            self.counts = found if self.counts is None else self.counts + found

    def format(self, method: str) -> Format:
        """The u8 format by one of METHODS.

        minmax: nothing is cut off.  percentile: one in 10,000 numbers is.  mse: as many as make the mean square error of
        the counted numbers least.
        """
        if method == "minmax" or self.counts is None:
            return Format.over(self.low, self.high)
        return self._percentile(self.counts) if method == "percentile" else self._least_square(self.counts)

    def _percentile(self, counts: Tensor) -> Format:
        reached = counts.cumsum(0) / counts.sum()
        cut = 1 - PERCENTILE / 100
        step = (self.high - self.low) / BINS
        low, high = self.low, self.high
        if self.low < 0:
            cut /= 2
            low += step * int((reached < cut).sum())
        high -= step * int((reached > 1 - cut).sum() - 1)
        return Format.over(low, high)

    def _least_square(self, counts: Tensor) -> Format:
        step = (self.high - self.low) / BINS
        centres = self.low + step * (torch.arange(BINS, dtype=torch.float64) + 0.5)
        used = counts > 0
        centres, counts = centres[used], counts[used]
        best, least = Format.over(self.low, self.high), torch.inf
        for i in range(SHARES, 4, -1):
            format = Format.over(self.low * i / SHARES, self.high * i / SHARES)
            q = (centres / format.scale + format.zero).round().clamp(0, LEVELS)
            off = float((counts * (centres - (q - format.zero) * format.scale).square()).sum())
            if off < least:
                best, least = format, off
        return best
