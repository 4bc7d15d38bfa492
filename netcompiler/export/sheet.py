"""The report of a net -> its figures as a table: one row per layer, the totals last. docs/figures.md defines the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

from ..graph import UNKNOWN, dims

Row = dict[str, Any]  # a layer of the report, or its totals


def sheet(report: dict[str, Any]) -> str:
    """The table as CSV. What is not known is `?`; what does not apply is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for layer in report["layers"]:
        writer.writerow([_cell(get(layer)) for get in COLUMNS.values()])
    totals = report["totals"]
    known = "total" if not totals["unknown"] else f"total, at least: {totals['unknown']} layers are not counted"
    last = {"name": known, "type": f"{totals['layers']} layers", "bottoms": [], "tops": []} | totals
    writer.writerow([_cell(get(last)) for get in COLUMNS.values()])
    return out.getvalue()


def shape_of(top: Row) -> str:
    """The shape of a top in the report, as people write it."""
    return dims(UNKNOWN if top["shape"] is None else tuple(top["shape"]))


def field_of(top: Row, part: str) -> str:
    """One part of the receptive field of a top, `483 x 483`; empty where it has none, `-` for an axis that does not move."""
    if top["field"] is None:
        return "?" if top["shape"] is None else ""
    return " x ".join("-" if v is None else f"{v:.6g}" for v in top["field"][part])


def _of(*path: str) -> Callable[[Row], Any]:
    """What lies in a row under names one inside the other; empty where the row has no such figure."""

    def get(row: Row) -> Any:
        value: Any = row
        for name in path:
            value = value.get(name, "")
        return value

    return get


def _first(part: str) -> Callable[[Row], str]:
    return lambda row: field_of(row["tops"][0], part) if row["tops"] else ""


def _name(text: str) -> str:
    """A word of the net. One that a spreadsheet would take for a formula is told to be text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _cell(value: Any) -> str:
    return "?" if value is None else str(value)


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "layer": lambda row: _name(row["name"]),
    "type": lambda row: _name(row["type"]),
    "bottoms": lambda row: _name(", ".join(row["bottoms"])),
    "tops": lambda row: _name(", ".join(top["blob"] for top in row["tops"])),
    "shapes": lambda row: ", ".join(map(shape_of, row["tops"])),
    "params": _of("params"),
    "macs": _of("macs"),
    "weight_bytes": _of("weight_bytes"),
    "activation_bytes": _of("activation_bytes"),
    "peak_activation_bytes": _of("peak_activation_bytes"),
    "intensity": _of("intensity"),
    "macs_per_image": _of("per_image", "macs"),
    "activation_bytes_per_image": _of("per_image", "activation_bytes"),
    "peak_activation_bytes_per_image": _of("per_image", "peak_activation_bytes"),
    "intensity_per_image": _of("per_image", "intensity"),
    "field": _first("size"),
    "stride": _first("stride"),
    "centre": _first("centre"),
}
