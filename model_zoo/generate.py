"""Write the prototxts of this folder, and the table in its README: `python model_zoo/generate.py`, from `netcompiler.zoo`."""

from __future__ import annotations

from pathlib import Path

import netcompiler
from netcompiler import stats, zoo
from netcompiler.text import Msg
from netcompiler.zoo.catalogue import Model

HERE = Path(__file__).parent
BEGIN, END = "<!-- written by generate.py -->\n", "<!-- to here -->\n"
COLUMNS = ("net", "paper", "parameters", "as published", "multiply-accumulates", "published error", "input", "weights")


def texts() -> dict[str, str]:
    """Every file: its name and what it holds."""
    files = zoo.files()
    found = {}
    for name in files:
        model, msg = zoo.Files().model(name), files[name]
        family = model.parts["deploy"].__module__.rpartition(".")[2]
        head = f"# {model.paper}.\n# Written by model_zoo/generate.py: change netcompiler/zoo/{family}.py and run it again.\n"
        found[name] = head + (_step(model, msg) if name.endswith("-solver.prototxt") else "") + str(msg)
    return found


def _step(model: Model, solver: Msg) -> str:
    """How many pictures a step sees, where it gathers several batches."""
    layers = model.write("train_val").layer if solver.iter_size > 1 else ()
    batch = next((m.data_param.batch_size for m in layers if m.data_param.batch_size), 0)
    if not batch:
        return ""
    seen = solver.iter_size * batch
    return f"# A step sees iter_size x batch_size = {solver.iter_size} x {batch} = {seen} images.\n"


def row(model: Model) -> tuple[str, ...]:
    """A line of the table."""
    totals = stats.totals(netcompiler.build(model.write()))
    sizes = f"{totals.params:,}", model.parameters or "-", f"{totals.macs:,}"
    return (model.name, model.paper, *sizes, model.error, model.input, model.weights)


def table() -> str:
    """The nets, in Markdown."""
    rows = (COLUMNS, ("---",) * len(COLUMNS), *map(row, zoo.MODELS.values()))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def readme(text: str) -> str:
    """The README with its table written again."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    for name, text in texts().items():
        (HERE / name).write_text(text, encoding="utf-8", newline="\n")
        print(name)
    page = HERE / "README.md"
    page.write_text(readme(page.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
