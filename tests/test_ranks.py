"""Imports go down the list of ranks, never up; and torch stays out of what must start at once."""

import ast
import subprocess
import sys
from pathlib import Path

import netcompiler

HERE = Path(netcompiler.__file__).parent
RANKS = [
    "errors",
    "schema",
    "numbers",
    "prototxt",
    "text",
    "dialects upgrade files fields forks",
    "graph",
    "gabor",
    "fillers windows rows",
    "layers",
    "builder spec splits",
    "looking zoo",
    "binary",
    "weights",
    "passes",
    "codegen",
    "layer_module",
    "kernels",
    "module",
    "engines",
    "timing quantization",
    "data stats",
    "train",
    "compare",
    "drawing",
    "export",
    "serve",
    "cli",
    "__init__ __main__",
]
RANK = {name: i for i, names in enumerate(RANKS) for name in names.split()}


def imports(path):
    """The rooms that a file imports at run time: names below `netcompiler`."""
    package = path.relative_to(HERE.parent).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text())
    guards = [i for i in ast.walk(tree) if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test)]
    typed = {id(node) for guard in guards for node in ast.walk(guard)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and id(node) not in typed:
            base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))[1:]
            rooms = [base[0]] if base and base[0] else [a.name for a in node.names]
            yield from (room for room in rooms if room in RANK)


def test_imports_go_down():
    for path in HERE.rglob("*.py"):
        room = path.relative_to(HERE).with_suffix("").parts[0]
        assert room in RANK, f"{path} is in no rank"
        for other in imports(path):
            assert other == room or RANK[other] < RANK[room], f"{path} imports {other}"


def test_checking_needs_no_torch():
    code = "import sys, netcompiler as n, netcompiler.cli.run; n.build, n.read_weights; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_public_names():
    assert netcompiler.__all__ == sorted(netcompiler._HOME)
    for name in netcompiler.__all__:
        assert getattr(netcompiler, name).__doc__, name
