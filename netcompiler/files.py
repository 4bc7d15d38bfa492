"""Files written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import NetError


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well, and is removed when it does not.

    Until then it lies beside `path` as a hidden .part file; what stood at `path` stays as it was, and keeps its mode. A
    link stays a link; a device or a pipe is written to directly.

    Raises: NetError when the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        old = target.stat().st_mode if target.exists() else None
        if old is not None and stat.S_ISDIR(old):
            raise NetError("cannot be written: this is a directory", at=str(path))
        if old is not None and not stat.S_ISREG(old):
            with open(target, "wb") as file:
                yield file
            return
        with open(part, "x+b") as file:
            yield file
        if old is not None:
            shutil.copymode(target, part)
        os.replace(part, target)
    except OSError as e:
        raise NetError(f"cannot be written: {e.strerror or e}", at=str(path)) from None
    finally:
        with suppress(OSError):
            part.unlink()
