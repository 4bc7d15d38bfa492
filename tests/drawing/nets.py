"""Nets to draw, written in a few words."""

import random
from pathlib import Path

from netcompiler import build, parse

ZOO = Path(__file__).parents[2] / "model_zoo"

HEAD = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 8 dim: 32 dim: 32 } } }\n'


def layer(name, kind, bottoms, tops=None, more=""):
    """A layer; its top has its name unless told, and several names stand in one string."""
    lines = [f'layer {{ name: "{name}" type: "{kind}"']
    lines += [f'bottom: "{b}"' for b in bottoms.split()]
    lines += [f'top: "{t}"' for t in (name if tops is None else tops).split()]
    return " ".join([*lines, more, "}\n"])


def conv(name, bottom, outputs=8, kernel=3, top=None):
    more = f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2} }}"
    return layer(name, "Convolution", bottom, top, more)


def too_large(name, bottom):
    """A convolution that does not build: its kernel is larger than the image."""
    return layer(name, "Convolution", bottom, more="convolution_param { num_output: 8 kernel_size: 99 }")


def relu(name, blob):
    return layer(name, "ReLU", blob, blob)


def add(name, a, b):
    return layer(name, "Eltwise", f"{a} {b}")


def block(name, bottom, outputs=8):
    """A residual block: two convolutions, and what came in is added."""
    return conv(f"{name}_a", bottom, outputs) + conv(f"{name}_b", f"{name}_a") + add(name, bottom, f"{name}_b")


def graph(text, **state):
    return build(parse(HEAD + text), partial=True, **state)


def random_net(seed, blocks=30):
    """Blocks of a few kinds, chosen so that some repeat, and others nearly do."""
    r = random.Random(seed)
    text, x, older = "", "data", "data"
    for i in range(blocks):
        kind, name = r.choice("aaabbcdef"), f"n{i}"
        if kind == "a":
            text += block(name, x)
        elif kind == "b":
            text += conv(name, x) + relu(f"{name}_relu", name)
        elif kind == "c":  # reads what was before as well
            text += conv(f"{name}_a", x) + add(name, f"{name}_a", older)
        elif kind == "d":
            text += conv(f"{name}_a", x) + conv(f"{name}_b", x) + add(name, f"{name}_a", f"{name}_b")
        elif kind == "e":  # and what another reads besides
            text += conv(name, x) + layer(f"{name}_out", "Pooling", name, more="pooling_param { global_pooling: true }")
        else:
            text += conv(f"{name}_a", x, r.choice((8, 16))) + conv(name, f"{name}_a")
        older, x = (x if r.random() < 0.5 else older), name
    return text
