"""Print the table of layer types, docs/layers.md, from the classes: `python docs/layers.py` writes it again."""

from pathlib import Path

from netcompiler.layers import Layer, registry
from netcompiler.layers.base import ANY

TARGET = Path(__file__).with_suffix(".md")
HEAD = """\
# Layer types

Printed from the classes by `docs/layers.py`; a test fails when it is stale. The columns: what goes in and comes out (how
many blobs), the learned blobs' names are in each class's docstring, as are formulas, shapes and Caffe's quirks.

| type | what it does | bottoms | tops |
|---|---|---|---|
"""


def count(allowed: tuple[int, int]) -> str:
    least, most = allowed
    return str(least) if least == most else f"{least} or more" if most == ANY else f"{least} to {most}"


def row(kind: str, cls: type[Layer]) -> str:
    what = (cls.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
    return f"| {kind} | {' '.join(what.split())} | {count(cls.n_bottom)} | {count(cls.n_top)} |\n"


def table() -> str:
    """The whole page."""
    ours = {k: c for k, c in registry.items() if c.__module__.startswith("netcompiler.")}
    return HEAD + "".join(row(kind, ours[kind]) for kind in sorted(ours, key=str.lower))


if __name__ == "__main__":
    TARGET.write_text(table())
