"""The files that the editor may touch: read with their versions, saved only over the version that was read, watched."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import NetError
from ..files import atomic
from ..text import decoded

SUFFIXES = (".prototxt", ".pbtxt", ".prototext", ".txtpb")
MAX_BYTES = 4 << 20  # of one text; the largest published net has less than a quarter of that
MAX_LISTED = 2000  # files
MAX_WALKED = 20_000  # folders
POLL = 0.25  # seconds between two looks at a watched file


class Forbidden(NetError):
    """A file that the editor may not touch."""


class Missing(NetError):
    """A file that is not there."""


@dataclass(frozen=True, slots=True)
class Content:
    """A file's text, lines ended by \\n alone, and the version that it stands for: a hash of the bytes.

    note: what saving will change besides the text.
    """

    text: str
    version: str
    note: str = ""


class Changed(NetError):
    """The file is no longer what the editor had read; `now` is what it has become, None where it is gone."""

    now: Content | None = None


class Folder:
    """The prototxts below one folder, or one file alone. Names are relative, with slashes, and never lead outside."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path)
        try:
            real = given.resolve(strict=True)
        except (OSError, ValueError, RuntimeError) as e:  # RuntimeError: links in a circle
            hint = (
                "for a new net, give the folder that it shall be saved in" if isinstance(e, FileNotFoundError) else None
            )
            raise NetError(f"cannot be read: {getattr(e, 'strerror', None) or e}", at=str(path), hint=hint) from None
        if not real.is_dir() and not real.is_file():
            raise NetError("neither a file nor a folder", at=str(path))
        self.root = real if real.is_dir() else real.parent
        self.only = None if real.is_dir() else real.name

    def names(self) -> tuple[list[str], bool]:
        """The files that may be opened, sorted; and whether there are more than are listed."""
        if self.only is not None:
            return [self.only], False
        found: list[str] = []
        for walked, (folder, inner, files) in enumerate(os.walk(self.root)):
            inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "node_modules")
            here = Path(folder).relative_to(self.root)
            found += [(here / f).as_posix() for f in files if f.endswith(SUFFIXES) and not f.startswith(".")]
            if len(found) > MAX_LISTED or walked > MAX_WALKED:
                return sorted(found)[:MAX_LISTED], True
        return sorted(found), False

    def path(self, name: str) -> Path:
        """Where a name leads. Raises: Forbidden for one that is not below the folder, or not of a prototxt."""
        parts = PurePosixPath(name).parts
        if not parts or "\0" in name or any(p == "/" or p.startswith(".") for p in parts):
            raise Forbidden("not a file of this folder", at=name, expected="a relative path, with no hidden part")
        path = self.root.joinpath(*parts)
        try:
            os.fsencode(path)
            real = Path(os.path.realpath(path))
        except ValueError:  # half a character, which no file name has
            raise Forbidden("no name of a file", at=ascii(name)) from None
        if not real.is_relative_to(self.root):
            raise Forbidden("the path leads out of the folder", at=name)
        if self.only is not None and name != self.only:
            raise Forbidden("the editor was started for one file", at=name, expected=self.only)
        if self.only is None and (path.suffix not in SUFFIXES or real.suffix not in SUFFIXES):
            raise Forbidden(
                "not a prototxt by its name", at=name, expected=f"a name that ends in {', '.join(SUFFIXES)}"
            )
        return path

    def read(self, name: str) -> Content:
        """A file's text. Raises: Missing, Forbidden, and NetError for what is no text."""
        path = self.path(name)
        data = _bytes(path, name)
        if data is None:
            raise Missing("there is no such file", at=name)
        return _content(data, name)

    def save(self, name: str, text: str, version: str | None) -> Content:
        """Write a text over the version that it came from; None: as a new file. Line ends and byte-order mark are kept.

        Raises: Changed when the file has become another one since, Forbidden, and NetError when it cannot be written.
        """
        path = self.path(name)
        if not path.parent.is_dir():
            raise Missing("the folder does not exist", at=name)
        before = self._unchanged(path, name, version)
        if before is not None and not os.access(path, os.W_OK):
            raise NetError("the file is write-protected", at=name, hint="save it under another name")
        data = (text.replace("\n", "\r\n") if before and b"\r\n" in before else text).encode(errors="replace")
        if before and before.startswith(b"\xef\xbb\xbf"):
            data = b"\xef\xbb\xbf" + data
        if len(data) > MAX_BYTES:
            raise NetError(
                "the text is too large", at=name, expected=f"at most {MAX_BYTES:,} bytes", got=f"{len(data):,}"
            )
        with atomic(path) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            self._unchanged(path, name, version)  # the last moment to find out
        return Content(text, _version(data))

    def _unchanged(self, path: Path, name: str, version: str | None) -> bytes | None:
        """The bytes that stand there, which must be those of this version. Raises: Changed."""
        data = _bytes(path, name)
        if data is None and version is None:
            return None
        if data is not None and version == _version(data):
            return data
        what = "has been changed by another program" if version else "exists already"
        changed = Changed(what if data is not None else "has been deleted meanwhile", at=name)
        changed.now = _content(data, name) if data is not None else None
        raise changed

    def wait(self, name: str, version: str | None, seconds: float, stop: threading.Event) -> tuple[str, Content | None]:
        """Watch a file until it is no longer this version: "same" once the seconds are over, else "changed" or "gone"."""
        path = self.path(name)
        until = time.monotonic() + seconds
        seen: Any = ()
        while True:
            looks = _looks(path)
            if looks != seen:
                seen = looks
                data = _bytes(path, name)
                if data is None and version is not None:
                    return "gone", None
                if data is not None and version != _version(data):
                    return "changed", _content(data, name)
            if time.monotonic() >= until or stop.wait(POLL):
                return "same", None


def _looks(path: Path) -> Any:
    """What tells at a glance whether a file was written again."""
    try:
        s = path.stat()
    except OSError:
        return None
    return s.st_mtime_ns, s.st_size, s.st_ino


def _bytes(path: Path, name: str) -> bytes | None:
    """A file's bytes; None where there is none. Raises: NetError for what is no plain file, or too large."""
    try:
        looks = path.stat()
        if not stat.S_ISREG(looks.st_mode):
            raise Forbidden("not a plain file", at=name)
        if looks.st_size > MAX_BYTES:
            got = f"{looks.st_size:,} bytes"
            raise NetError("the file is too large for the editor", at=name, expected=f"at most {MAX_BYTES:,}", got=got)
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise NetError(f"cannot be read: {e.strerror or e}", at=name) from None


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _content(data: bytes, name: str) -> Content:
    text = decoded(data, name)
    notes = []
    try:
        data.decode()
    except UnicodeDecodeError:
        notes.append("The file is not in UTF-8, but in an older encoding: saving writes it as UTF-8.")
    if len(ends := set(re.findall(rb"\r\n|\r|\n", data))) > 1 or ends == {b"\r"}:
        kind = "CR LF" if b"\r\n" in ends else "LF"
        notes.append(f"Lines end in more than one way, or in CR: saving ends them all with {kind}.")
    return Content(text.replace("\r\n", "\n").replace("\r", "\n"), _version(data), " ".join(notes))
