"""Snapshots: Caffe's two files, and a sidecar with what Caffe forgets: where the data stood, and the random numbers.

`<prefix>_iter_<N>.caffemodel` and `.solverstate` (or `.h5` of both) are Caffe's own; `<prefix>_iter_<N>.netstate.json` is
ours. Each is written whole or not at all, the sidecar last; it holds the checksums of the other two, so that a sidecar of
another run is never taken for theirs.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..binary.state import SolverState, read_state, write_state
from ..errors import NetError, NetWarning
from ..files import atomic
from ..graph import Array

VERSION = 1
SUFFIXES = (".solverstate", ".solverstate.h5")
Blobs = Mapping[str, Sequence[Array]]


@dataclass(frozen=True, slots=True)
class Names:
    """The files of one snapshot."""

    model: Path
    state: Path
    sidecar: Path

    @classmethod
    def at(cls, prefix: str, iteration: int, hdf5: bool) -> Names:
        """As Caffe names them. Source: Caffe, src/caffe/solver.cpp, SnapshotFilename."""
        stem, end = f"{prefix}_iter_{iteration}", ".h5" if hdf5 else ""
        return cls(Path(f"{stem}.caffemodel{end}"), Path(f"{stem}.solverstate{end}"), Path(f"{stem}.netstate.json"))


def check_writable(prefix: str) -> None:
    """Raises: NetError when no snapshot of this prefix can be written: better at the start than hours later."""
    folder = Names.at(prefix, 0, False).model.parent
    try:
        tempfile.TemporaryFile(dir=folder).close()  # the rights alone do not tell of a disk that takes no files
    except OSError as e:
        what = f"snapshots cannot be written: {e.strerror or e}"
        hint = None if folder.is_dir() else f"mkdir -p {folder}"
        raise NetError(what, at=f"snapshot_prefix: {prefix}", got=str(folder), hint=hint) from None


def write(
    names: Names,
    write_model: Callable[[Path], None],
    state: SolverState,
    rest: Mapping[str, Any],
) -> None:
    """Write the three files. `rest`: what the sidecar holds, as JSON.

    Raises: NetError when one cannot be written; what stood under its name is then still there.
    """
    write_model(names.model)
    write_state(names.state, state, hdf5=names.state.suffix == ".h5")
    told = {"version": VERSION, "iter": state.iteration, "crc32": _sums(names.model, names.state), **rest}
    with atomic(names.sidecar) as file:
        file.write(json.dumps(told, indent=1).encode())


def read(path: str | os.PathLike[str]) -> tuple[SolverState, Path | None, dict[str, Any] | None]:
    """The state in a .solverstate or .solverstate.h5, where its weights are, and the sidecar; None: there is none.

    The weights are looked for under the name that the state has for them, as in Caffe, then under that name beside it.
    Raises: NetError for a state that cannot be read, and where its weights are not there.
    """
    state = read_state(path)
    model = None
    if state.learned_net:
        beside = Path(path).parent / Path(state.learned_net.replace("\\", "/")).name
        model = beside if beside.exists() else Path(state.learned_net)
        if not model.exists():
            expected = f"{state.learned_net}, or {beside}"
            raise NetError("the weights of this snapshot are not there", at=str(path), expected=expected)
    return state, model, _sidecar(Path(path), model)


def _sidecar(path: Path, model: Path | None) -> dict[str, Any] | None:
    """What the sidecar of a state holds, if it is of the same snapshot."""
    suffix = next((s for s in reversed(SUFFIXES) if path.name.endswith(s)), "")
    sidecar = path.with_name(f"{path.name.removesuffix(suffix)}.netstate.json")
    if not sidecar.exists():
        return None
    try:
        held = json.loads(sidecar.read_bytes())
        if not isinstance(held, dict) or held.get("version") != VERSION:
            raise NetError("this is no sidecar of a snapshot, or of another version", at=str(sidecar))
    except (OSError, ValueError) as e:
        raise NetError(
            f"cannot be read: {e}", at=str(sidecar), hint="without the file, training goes on as from Caffe's own"
        ) from None
    if held.get("crc32") != _sums(*([model] if model else []), path):
        what = f"{sidecar}: of another snapshot than the files beside it, and not used"
        warnings.warn(what, NetWarning, stacklevel=4)
        return None
    return held


def _sums(*paths: Path) -> list[int]:
    """The checksum of each file."""
    sums = []
    for path in paths:
        total = 0
        with open(path, "rb") as file:
            while chunk := file.read(1 << 22):
                total = zlib.crc32(chunk, total)
        sums.append(total)
    return sums
