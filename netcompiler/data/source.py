"""What a data layer reads from: batches by position, so that any process can make any of them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import NetError, NetWarning, Span
from ..graph import Array, Shape
from ..text import Msg

Arrays = dict[str, Array]
MOST_TRIES = 100  # unreadable records in a row that are passed over


class Unreadable(NetError):
    """A record or a picture that cannot be read: the one kind of fault that may be passed over."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for every data layer of a net.

    root: a folder to look in for what the working directory does not have.  seed: of all that is drawn.
    skip: unreadable records are passed over.
    """

    root: str = "."
    seed: int = 0
    skip: bool = False
    train: bool = False

    def find(self, path: str) -> str:
        """The path itself, or the one below `root` where only that is there."""
        if os.path.exists(path) or os.path.isabs(path):
            return path
        other = os.path.join(self.root, path)
        return other if os.path.exists(other) else path


@dataclass
class Batch:
    """The tops of one data layer, and the faults that were passed over to fill them."""

    arrays: Arrays
    faults: list[NetError] = field(default_factory=list)


class Source:
    """Batches of one data layer.

    Position p is the p-th record that the layer would read on its own, from 0 on and without end: which record that is,
    and all that is drawn for it, follows from p and the seed. A source can be pickled; files are opened where they are
    read.
    """

    costly = False  # whether decoding takes long enough to do it in other processes
    held = False  # whether all is in memory, so that other processes are never of use

    def __init__(self, msg: Msg, index: int, setting: Setting, batch: int) -> None:
        self.title = f'"{msg.name}" ({msg.type})'
        self.at: Span | None = msg.at()
        self.index = index
        self.tops: tuple[str, ...] = tuple(msg.top)
        self.setting = setting
        self.batch = batch
        self.seed(setting.seed)

    def seed(self, seed: int) -> None:
        """Draw from another seed from now on."""

    def start(self) -> int:
        """The position that a new run begins with."""
        return 0

    def shapes(self) -> dict[str, Shape]:
        """The tops of the first batch."""
        raise NotImplementedError(type(self))

    def take(self, positions: Sequence[int]) -> Batch:
        """The batch of these positions. Raises: NetError for what cannot be read."""
        raise NotImplementedError(type(self))

    def close(self) -> None:
        """Let go of files."""


def settings(msg: Msg, part: str, known: Sequence[str], idle: Sequence[str]) -> Msg:
    """One parameter message of a layer, once it is proved that only fields with a meaning are set.

    known: the fields that are honoured.  idle: those without effect on what is read.
    Raises: NetError for any other field that is set to more than its default: it is of a fork whose reader does more.
    """
    p: Msg = getattr(msg, part)
    for descriptor, value in p.raw.ListFields():
        name = descriptor.name
        usual = descriptor.message_type is None and value == descriptor.default_value
        if name not in known and name not in idle and not usual:
            what = f"{name} is a fork's setting that this reader does not have"
            raise NetError(what, at=p.at(name), hint="remove it, or prepare the data so (netcompile data convert)")
    return p


def warn_idle(msg: Msg, part: str, names: Sequence[str], why: str = "it belongs into transform_param") -> None:
    """Tell of fields that are set to more than their default, and that Caffe does not look at."""
    p: Msg = getattr(msg, part)
    for name in names:
        if p.has(name) and getattr(p, name) != p.raw.DESCRIPTOR.fields_by_name[name].default_value:
            told = f'layer "{msg.name}" ({msg.type}): {part}.{name} has no effect, as in Caffe: {why}'
            warnings.warn(told, NetWarning, stacklevel=3)


def batch_size(p: Msg) -> int:
    """The batch_size of a data layer. Raises: NetError unless it is positive."""
    size = int(p.batch_size)
    if size < 1:
        raise NetError("batch_size must be positive", at=p.at("batch_size") or p.at(), got=size)
    return size


def source_path(p: Msg, setting: Setting) -> str:
    """The path in `source`, where it can be found. Raises: NetError when it is not there."""
    name = str(p.source)
    if not name:
        raise NetError("source is missing", at=p.at())
    path = setting.find(name)
    if not os.path.exists(path):
        roots = dict.fromkeys(str(Path(r).resolve()) for r in (".", setting.root))
        raise NetError(f"{name} is not there", at=p.at("source"), expected=f"below {' or '.join(roots)}")
    return path


def lines_of(path: str, what: str) -> list[tuple[int, str]]:
    """The lines of a list file that are not blank, with their numbers.

    Bytes that are no UTF-8 are kept as file names keep them. Raises: NetError for a file that cannot be read or is empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError) as e:
        raise NetError(f"cannot be read: {getattr(e, 'strerror', None) or e}", at=path) from None
    found = [(i, line.strip()) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not found:
        raise NetError("the list is empty", at=path, expected=what)
    return found


def library(name: str, what: str, at: str) -> Any:
    """An optional library. Raises: NetError that tells how to install it."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise NetError(f"{what} needs the library {name}", at=at, hint="pip install 'netcompiler[data]'") from None
