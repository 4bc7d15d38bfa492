"""`netcompile NET -o net.svg`: pictures and pages, without compiling or running the net; of nets that do not build, in part."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from .. import export
from ..drawing import PHASES, SUFFIXES, draw
from ..errors import NetError
from ..graph import Shape
from ..looking import look
from .figures import STATIC, bound, style, tell_faults, write


def only_pictures(options: argparse.Namespace) -> bool:
    """Whether a picture is wanted, and nothing for which the net would have to be run."""
    suffixes = {Path(path).suffix for path in options.output}
    run = options.times or options.image or options.json or options.code
    return bool(suffixes.intersection(SUFFIXES)) and suffixes <= {*SUFFIXES, *STATIC} and not run


def draw_net(options: argparse.Namespace, inputs: Mapping[str, Shape]) -> int:
    """Do what the main command's options say, but for running the net. Returns the exit code."""
    others = [path for path in options.output if Path(path).suffix not in SUFFIXES]
    if others and len(PHASES[options.phase]) > 1:
        hint = f"--phase TRAIN or --phase TEST, or leave {others[0]} out"
        raise NetError("--phase BOTH is for pictures", at=others[0], expected=", ".join(SUFFIXES), hint=hint)
    looks = []
    for phase in PHASES[options.phase]:
        state = phase, options.level, options.stage
        msg, graph = look(options.net, *state, inputs, options.allow_python, options.dialect, options.unknown)
        graph = bound(graph, options)
        looks.append((msg, graph.reaching(options.outputs.split(",")) if options.outputs else graph))
    tell_faults(*(graph for _, graph in looks))
    drawing = draw([graph for _, graph in looks], **style(options))
    for path in options.output:
        if Path(path).suffix in SUFFIXES:
            drawing.save(path)
            print(f"wrote {path}")
            continue
        msg, graph = looks[0]
        if graph.faults and Path(path).suffix == ".prototxt":
            raise NetError.join(graph.faults)  # what was not understood would be lost
        write(path, msg, graph, export.describe(graph) | {"file": str(options.net)}, options)
    return 0
