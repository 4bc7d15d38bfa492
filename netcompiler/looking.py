"""A net as far as it can be understood: for those who look at it, and do not run it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .builder import build
from .errors import NetError, Span
from .graph import Graph, Shape
from .text import Msg, parse_message, read_text
from .upgrade import upgrade


def look(
    source: str | os.PathLike[str] | Msg,
    phase: str = "TEST",
    level: int = 0,
    stages: Iterable[str] = (),
    inputs: Mapping[str, Shape] | None = None,
    allow_python: bool = False,
    dialect: str | None = None,
    unknown: str = "refuse",
) -> tuple[Msg, Graph]:
    """A net, of a file or of a message, as far as it can be understood; what is wrong with it is in the graph's `faults`.

    dialect: as for `build`.  unknown: whether fields that no fork has are faults ("refuse"), or kept, with a warning.

    Raises: NetError for a file in which there is no layer at all.
    """
    faults: list[NetError] = []
    at: Span | str | None
    if isinstance(source, Msg):
        msg, at = upgrade(source), source.at()
    else:
        at = str(source)
        msg = upgrade(parse_message(read_text(source), file=at, faults=faults, unknown=unknown))
    graph = build(msg, phase, level, stages, inputs, allow_python, partial=True, dialect=dialect)
    if not graph.nodes:
        hint = "all its layers are for another phase, level or stage" if len(msg.layer) else None
        raise NetError.join(faults or [NetError("the net has no layers", at=at, got=f"phase {phase}", hint=hint)])
    return msg, replace(graph, faults=(*faults, *graph.faults))
