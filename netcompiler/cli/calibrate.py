"""--dtype int8: the options that belong to it, and the pictures that it is calibrated on."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import NetError
from ..graph import Array, Graph, Value
from . import alone

if TYPE_CHECKING:
    from ..data.image import Preparation
    from ..module import CompiledNet
    from ..quantization.net import QuantizedNet
    from ..quantization.report import Report
    from .run import Progress

SYNTHETIC = "synthetic"
NOISE_BATCHES = 8


def wanted(options: argparse.Namespace) -> bool:
    """Whether the options ask for int8. Raises: NetError for options that do not go together."""
    if options.dtype != "int8":
        for name in ("calibrate", "max_error"):
            if getattr(options, name) not in ([], None):
                raise NetError(f"--{name.replace('_', '-')} is for int8", hint="say --dtype int8")
        return False
    forbidden = {
        "--no-optimize": options.no_optimize,
        "--times": getattr(options, "times", False),
        "--tune": options.tune,
        "--backward": getattr(options, "backward", False),
        f"--engine {getattr(options, 'engine', 'torch')}": getattr(options, "engine", "torch") != "torch",
        f"--phase {options.phase}": options.phase != "TEST",
        f"--device {options.device}": options.device not in (None, "cpu"),
    }
    alone("--dtype int8", forbidden, "int8 is for optimised TEST nets on the CPU")
    if not options.calibrate:
        hint = (
            "--calibrate FOLDER, of a few hundred pictures like those that it is to see; or synthetic, to measure speed"
        )
        raise NetError("int8 wants pictures to calibrate the net on", at="--dtype int8", hint=hint)
    return True


def pictures_of(paths: list[str]) -> list[str]:
    """The picture files that --calibrate names: files, all below folders, and the lines of lists.

    A line of a list is a file, with a label behind it or without; from here, or from where the list is.
    Raises: NetError for what is not there, and for folders and lists without pictures.
    """
    from ..data.sets import SUFFIXES

    found: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            below = [
                os.path.join(at, f) for at, _, files in os.walk(path) for f in files if f.lower().endswith(SUFFIXES)
            ]
            if not below:
                raise NetError("the folder holds no pictures", at=path, expected=", ".join(SUFFIXES))
            found += sorted(below)
        elif path.endswith(".txt"):
            found += _listed(path)
        else:
            found.append(path)
    return found


def _listed(path: str) -> list[str]:
    from ..data.source import lines_of

    found = []
    for _, line in lines_of(path, "picture files, one a line"):
        name, *label = line.rsplit(maxsplit=1)
        file = name if label and label[0].lstrip("-").isdigit() else line
        beside = os.path.join(os.path.dirname(path), file)
        found.append(beside if not os.path.exists(file) and os.path.exists(beside) else file)
    return found


def image_input(graph: Graph) -> Value:
    """The input that pictures go into: the first with four axes. Raises: NetError where there is none."""
    for value in graph.inputs():
        if len(value.shape) == 4:
            return value
    raise NetError("the net has no input for pictures", expected="an input of N x C x H x W", at=graph.name)


def of_pictures(
    net: CompiledNet, paths: list[str], preparation: Callable[[Value], Preparation] | None = None, seed: int = 0
) -> list[dict[str, Array]]:
    """What --calibrate names, in batches of the net's own size. Other inputs are synthetic.

    preparation: how pictures become an input; by default as Caffe's classifier does it.
    Raises: NetError for a picture that cannot be read, and for a net that takes none.
    """
    from .. import timing
    from ..data.image import caffe_preparation, read_image

    if paths == [SYNTHETIC]:
        return [timing.synthetic_feeds(net, seed + i) for i in range(NOISE_BATCHES)]
    value = image_input(net.graph)
    prepare = preparation(value) if preparation else caffe_preparation(value.shape)
    files = pictures_of(paths)
    size, channels = value.shape[:2]
    others = {k: v for k, v in timing.synthetic_feeds(net, seed).items() if k != value.blob}
    found = []
    for start in range(0, len(files), max(size, 1)):
        few = files[start : start + size]
        if others:  # which have rows for a whole batch
            few = [few[i % len(few)] for i in range(size)]
        found.append({**others, value.blob: np.stack([prepare(read_image(f, channels)) for f in few])})
    return found


def quantized(net: CompiledNet, inputs: list[dict[str, Array]], max_error: float | None, say: Progress) -> QuantizedNet:
    """The net in int8."""
    from ..quantization import quantize

    def progress(what: str, done: int, total: int) -> None:
        say(f"{what}, {done} of {total}")

    return quantize(net, inputs, max_error=max_error, progress=progress)


def report_of(net: CompiledNet) -> Report | None:
    """What quantising the net came to, where it was quantised."""
    return getattr(net, "report", None)


def type_name(net: CompiledNet) -> str:
    """The type that a net runs in, as --dtype names it."""
    return "int8" if report_of(net) else "tf32" if net.tf32 else str(net.dtype).removeprefix("torch.")
