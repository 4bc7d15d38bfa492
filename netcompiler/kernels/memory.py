"""Memory that is given back to the system after every layer comes back page by page, at up to half of a net's time."""

from __future__ import annotations

import ctypes
import functools
import mmap
from contextlib import suppress
from pathlib import Path

import torch

LARGEST = (32 << 20) - 8192  # bytes; glibc follows blocks up to 32 MB, less what it needs itself
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as malloc.h numbers the parameters of mallopt


@functools.cache
def settle() -> None:
    """Let the C library keep freed blocks of up to 32 MB for the next call; once for the process.

    glibc maps large blocks and returns them when they are freed, until it has seen one of a size freed: from then on it
    keeps blocks of that size. So one is freed. Elsewhere this does nothing.
    Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    torch.empty(LARGEST, dtype=torch.uint8)


@functools.cache
def keep(largest: int = 1 << 30) -> bool:
    """Let the C library keep what is freed, in blocks of up to so many bytes, for the whole process: for programs that mainly
    run nets.

    The process then holds what it held at its peak. Returns whether the C library can; glibc can.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    most = (1 << 31) - 1
    return bool(mallopt(MMAP_THRESHOLD, largest) and mallopt(TRIM_THRESHOLD, most))


def give_back() -> None:
    """Return to the system what the process holds and does not use, where the C library can; glibc can."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def resident() -> int:
    """The bytes of memory that the process holds; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * mmap.PAGESIZE
