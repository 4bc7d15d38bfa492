"""A net -> files for others: one writer per suffix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from .. import stats
from ..errors import NetError
from ..files import atomic
from ..graph import UNKNOWN, Array, Graph, Shape
from ..text import Marks, Msg, format_message


def describe(graph: Graph) -> dict[str, Any]:
    """The graph with its shapes and figures, as plain values for JSON."""
    figures = stats.figures(graph)
    totals = stats.totals(graph, figures)
    layers = []
    for node, row in zip(graph.nodes, figures, strict=True):
        told = asdict(row)
        fields = told.pop("fields")
        layers.append(
            {
                "name": node.name,
                "type": node.layer.kind,
                "settings": node.layer.settings(),
                "bottoms": [v.blob for v in node.bottoms],
                "tops": [
                    {"blob": v.blob, "shape": _shape(v.shape), "field": field}
                    for v, field in zip(node.tops, fields, strict=True)
                ],
                "blobs": {k: list(s.shape) for k, s in node.layer.blobs(node.bottom_shapes).items()},
                **told,
                "intensity": row.intensity,
                "per_image": asdict(stats.per_image(row, totals.images)),
                **({"line": node.at.line} if node.at else {}),
            }
        )
    return {
        "name": graph.name,
        "phase": graph.phase,
        "dialect": graph.dialect,
        "dialect_sign": graph.dialect_sign,
        "inputs": {v.blob: list(v.shape) for v in graph.inputs()},
        "outputs": {v.blob: _shape(v.shape) for v in graph.outputs},
        "layers": layers,
        "totals": {**asdict(totals), "per_image": asdict(stats.totals_per_image(totals, figures))},
    }


def _shape(shape: Shape) -> list[int] | None:
    return None if shape == UNKNOWN else list(shape)


def as_json(report: dict[str, Any]) -> str:
    """The text of a report. JSON has no infinity and no NaN: they become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not isfinite(value) else value

    return json.dumps(plain(report), indent=1, allow_nan=False)


def named_blobs(graph: Graph) -> dict[str, Array]:
    """The bound blobs as `layer.blob`, a shared one at its owner only."""
    owners, found = graph.owners(), {}
    for node in graph.nodes:
        names = node.layer.blobs(node.bottom_shapes)
        for i, (name, array, param) in enumerate(zip(names, node.blobs, node.params, strict=True)):
            if owners.get(param.name, (node, i)) == (node, i):
                found[f"{node.name}.{name}"] = array
    return found


@dataclass(frozen=True, slots=True)
class Job:
    """What a writer may need: the net's message, its graph with weights, the report, and the state it was built for."""

    msg: Msg
    graph: Graph
    report: dict[str, Any]
    phase: str
    level: int
    stages: tuple[str, ...]


def _prototxt(path: Path, job: Job) -> None:
    with atomic(path) as file:
        file.write(format_message(job.msg).encode())


def _caffemodel(path: Path, job: Job) -> None:
    from ..binary import write_caffemodel

    blobs = {n.name: list(n.blobs) for n in job.graph.nodes if n.blobs}
    state: dict[str, Any] = {"phase": job.phase, "level": job.level, "stages": job.stages}
    write_caffemodel(path, _kept(job), blobs, **state, dialect=job.graph.dialect)


def _kept(job: Job) -> Msg:
    """The message without the layers that the graph has left out: Caffe takes no layer of a file that lacks its blobs."""
    kept = {(n.name, n.layer.kind) for n in job.graph.nodes}
    layers = [m for m in job.msg.layer if (m.name, m.type) in kept]
    net = type(job.msg.raw)(name=job.msg.name, state=job.msg.raw.state, layer=[m.raw for m in layers])
    return Msg(net, Marks(job.msg.at(), {"layer": [m.marks for m in layers]}))


def _h5(path: Path, job: Job) -> None:
    from ..binary import write_h5

    write_h5(path, {n.name: list(n.blobs) for n in job.graph.nodes if n.blobs})


def _safetensors(path: Path, job: Job) -> None:
    try:
        from safetensors.numpy import save
    except ImportError:
        hint = "pip install 'netcompiler[safetensors]'"
        raise NetError("writing .safetensors needs a library", at=str(path), hint=hint) from None
    arrays = {name: np.ascontiguousarray(array) for name, array in named_blobs(job.graph).items()}
    with atomic(path) as file:
        file.write(save(arrays, metadata={"format": "pt", "net": job.graph.name}))


def _npz(path: Path, job: Job) -> None:
    with atomic(path) as file:
        np.savez(file, **named_blobs(job.graph))  # type: ignore[arg-type]


def _onnx(path: Path, job: Job) -> None:
    from ..engines import onnx
    from ..module import CompiledNet

    data = onnx(CompiledNet(job.graph))
    with atomic(path) as file:
        file.write(data)


def _csv(path: Path, job: Job) -> None:
    from .sheet import sheet

    with atomic(path) as file:
        file.write(sheet(job.report).encode())


def _json(path: Path, job: Job) -> None:
    with atomic(path) as file:
        file.write((as_json(job.report) + "\n").encode())


WRITERS: dict[str, Callable[[Path, Job], None]] = {
    ".prototxt": _prototxt,
    ".caffemodel": _caffemodel,
    ".h5": _h5,
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".onnx": _onnx,
    ".json": _json,
    ".csv": _csv,
}


def check_targets(paths: Iterable[str], also: Iterable[str] = (), writers: Iterable[str] = WRITERS) -> None:
    """Raises: NetError for a target that cannot be written: better before the work than after it.

    also: suffixes that others than the writers here take.  writers: those here that do.
    """
    known = (*writers, *also)
    for text in paths:
        path = Path(text)
        if path.suffix not in known:
            got = path.suffix or "no suffix"
            raise NetError("-o chooses the format by suffix", at=text, expected=", ".join(known), got=got)
        if not path.parent.is_dir():
            raise NetError("the folder does not exist", at=text, hint=f"mkdir {path.parent}")
        if path.is_dir():
            raise NetError("a folder is in the way", at=text)


def write(
    path: str, msg: Msg, graph: Graph, report: dict[str, Any], phase: str, level: int, stages: Iterable[str]
) -> None:
    """Write one file in the format of its suffix, whole or not at all.

    Raises: NetError when it cannot be written.
    """
    try:
        WRITERS[Path(path).suffix](Path(path), Job(msg, graph, report, phase, level, tuple(stages)))
    except OSError as e:
        raise NetError(f"cannot be written: {e.strerror or e}", at=path) from None
