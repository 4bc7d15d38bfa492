"""Random numbers by position: what is drawn for a record follows from the seed and its place alone.

So any process can make any batch, a run that is resumed draws what the whole one drew, and as many ranks as there are
draw together what one would draw.
"""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]

_STEP, _A, _B = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_BITS = (1 << 64) - 1


def random_seed() -> int:
    """A seed that nobody knows beforehand; it fits a JSON number."""
    return secrets.randbits(48)


def numbers(key: int, places: Numbers) -> Numbers:
    """64 random bits for each place: the splitmix64 sequence of a key (Steele, Lea, Flood: OOPSLA 2014)."""
    x = np.uint64(key & _BITS) + (places + np.uint64(1)) * _STEP
    x = (x ^ (x >> np.uint64(30))) * _A
    x = (x ^ (x >> np.uint64(27))) * _B
    mixed: Numbers = x ^ (x >> np.uint64(31))
    return mixed


def key_of(*parts: int) -> int:
    """One key out of several numbers, such as a seed, a layer and an epoch."""
    key = 0
    for part in parts:
        key = int(numbers(key ^ (part & _BITS), np.zeros(1, np.uint64))[0])
    return key


def below(bits: int, n: int) -> int:
    """A number from 0 to n - 1 out of 64 random bits."""
    return (bits >> 32) * n >> 32


def permutation(key: int, count: int) -> NDArray[np.int64]:
    """The numbers 0 .. count - 1 in a random order."""
    return np.argsort(numbers(key, np.arange(count, dtype=np.uint64)), kind="stable")
