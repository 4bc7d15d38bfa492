"""Graph -> one HTML file with the net as an interactive diagram: everything is inside, and no request leaves it.

The front-end is built from web/ into assets/; here its data are gathered and the file is put together. Whatever a net
says is data: it stands in one JSON element, in which no markup can begin.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import NetError, Span
from ..fillers import Filler
from ..graph import UNKNOWN, Graph, Node, Shape, Value
from ..layers.base import short_number
from ..text import read_text
from .folding import folded
from .model import Box, Picture, Row, picture, typeset
from .svg import WORDS
from .theme import FILLS
from .weighing import filter_picture, statistics

ASSETS = Path(__file__).parent / "assets"
Times = Mapping[str, float]


def page(
    *graphs: Graph,
    text: str | None = None,
    times: Times | None = None,
    fold: int | None = None,
    expand: bool = False,
    direction: str = "TB",
    theme: str = "auto",
) -> str:
    """The HTML file of a graph, or of the same net in several phases. Where nodes have weights, they are told of as well.

    text: the prototxt that the graph was built from; read from its file again unless given.
    times: the measured seconds of each layer, by name.  fold: how often a block must come again to be folded.
    expand, direction, theme: how it looks at first: folds open, TB or LR, light or dark or as the reader prefers (auto).
    """
    first = {"expand": expand, "direction": direction, "theme": theme}
    return page_html(*(page_data(graph, text=text, times=times, fold=fold) | first for graph in graphs))


def page_html(*nets: Mapping[str, Any], name: str = "page") -> str:
    """The HTML file around the data of a page's nets, with the script and the style of assets/NAME."""
    script = (ASSETS / f"{name}.js").read_text(encoding="utf-8")
    style = (ASSETS / f"{name}.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )
    title = f"{nets[0]['name'] or 'net'} ({', '.join(net['phase'] for net in nets)})"
    return "\n".join(
        [
            *head(title, policy, style),
            "<noscript>This page draws a net with JavaScript, which is switched off.</noscript>",
            f'<script type="application/json" id="net">{_inert(nets if len(nets) > 1 else nets[0])}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def head(title: str, policy: str, style: str) -> list[str]:
    """How a page begins, as far as its body."""
    return [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f'<meta name="generator" content="netcompiler {__version__}">',
        f"<title>{html.escape(title)}</title>",
        '<link rel="icon" href="data:,">',
        f"<style>{style}</style>",
        "</head>",
        "<body>",
    ]


def digest(text: str) -> str:
    """As a content security policy names a script or a style that may be used."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _inert(data: Any) -> str:
    """JSON in which no tag and no comment can begin or end, whatever a net says."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_data(
    graph: Graph, *, text: str | None = None, times: Times | None = None, fold: int | None = None
) -> dict[str, Any]:
    """What the front-end draws, as plain values; web/src/types.js names every field."""
    if text is None:
        text = _source_text(graph)
    shown = folded(picture(graph), fold)
    gathered = _Gathered(graph, times or {}, bool(text))
    return {
        "name": shown.name,
        "phase": shown.phase,
        "file": Path(_file(graph)).name,
        "text": text.replace("\r\n", "\n"),
        "boxes": [gathered.box(box) for box in shown.boxes],
        "edges": [[e.source, e.top, e.target, e.bottom] for e in shown.edges],
        "folds": [
            {
                "copies": [list(copy) for copy in found.copies],
                "names": list(found.names),
                "sideBySide": found.side_by_side,
            }
            for found in shown.folds
        ],
        "figures": FIGURES,
        "totals": _totals(shown, times or {}),
        "categories": {
            name: {"label": WORDS.get(name, name), **{theme: _paint(theme, name) for theme in ("light", "dark")}}
            for name in FILLS["light"]
        },
        "faults": [_fault(fault) for error in graph.faults for fault in error.all],
    }


def _figure(key: str, label: str, unit: str, help: str, *, colour: bool = False, table: bool = True) -> dict[str, Any]:
    return {"key": key, "label": label, "unit": unit, "help": help, "colour": colour, "table": table}


# What is told of each layer, and in total. docs/figures.md defines them.
FIGURES = [
    _figure("params", "Parameters", "count", "learned values that the layer owns", colour=True),
    _figure(
        "macs", "MACs", "count", "multiply-accumulates of one forward, of layers that multiply by weights", colour=True
    ),
    _figure("activation_bytes", "Activations", "bytes", "memory of what the layer writes; 0 in place", colour=True),
    _figure("weight_bytes", "Weights", "bytes", "memory of all that the layer keeps", colour=True),
    _figure("time", "Time", "seconds", "measured time of the layer", colour=True),
    _figure(
        "peak_activation_bytes",
        "Peak activations",
        "bytes",
        "the most memory of activations alive at once in a forward",
    ),
    _figure(
        "intensity", "Ops per byte", "ratio", "arithmetic intensity: two operations a MAC, per byte read or written"
    ),
    _figure("field", "Receptive field", "text", "pixels of the input that one pixel of the first top is made of"),
    _figure("field_stride", "… its stride", "text", "how far apart the fields of neighbours lie", table=False),
    _figure("field_centre", "… its centre", "text", "the middle of the first pixel's field, in the input", table=False),
]


class _Gathered:
    """What the boxes of a graph are told of with."""

    def __init__(self, graph: Graph, times: Times, has_text: bool) -> None:
        self.graph, self.times, self.has_text = graph, times, has_text
        self.owners = graph.owners()
        self.makers = {value: node for node in graph.nodes for value in node.tops}

    def box(self, box: Box) -> dict[str, Any]:
        return {
            "category": box.category,
            "loss": box.loss,
            "members": [self.member(row) for row in box.rows],
            "tops": [{"blob": t.blob, "shape": _list(t.shape), "output": t.output} for t in box.tops],
        }

    def member(self, row: Row) -> dict[str, Any]:
        node = self.graph.nodes[row.layer]
        return {
            "name": row.name,
            "type": row.kind,
            "category": row.category,
            "brief": row.text,
            "settings": [[name, _written(value), usual] for name, value, usual in _settings(node)],
            "bottoms": [_value(v) for v in node.bottoms],
            "tops": [_value(v) for v in node.tops],
            "blobs": self.blobs(node),
            "figures": self.figures(row),
            "lines": [row.first, max(row.first, row.last)] if row.first and self.has_text else None,
            "fault": row.fault,
        }

    def figures(self, row: Row) -> dict[str, Any]:
        told = {key: row.figures[key] for key in _NUMBERS if key in row.figures}
        if told.get("macs"):
            told["intensity"] = row.figures["intensity"]
        if row.name in self.times:
            told["time"] = self.times[row.name]
        field = next(iter(row.figures.get("fields") or ()), None)
        if field:
            told["field"] = " × ".join(map(str, field["size"]))
            told["field_stride"] = " × ".join("uneven" if s is None else f"{s:g}" for s in field["stride"])
            told["field_centre"] = ", ".join(f"{c:g}" for c in field["centre"])
        return {k: v for k, v in told.items() if v is not None}

    def blobs(self, node: Node) -> list[dict[str, Any]]:
        """The arrays that a layer keeps, with the statistics of those that are bound."""
        found = []
        for i, (name, spec) in enumerate(node.layer.blobs(node.bottom_shapes).items()):
            told: dict[str, Any] = {"name": name, "shape": list(spec.shape), "note": self.note(node, i, spec.learned)}
            if i < len(node.blobs):
                told["stats"] = statistics(node.blobs[i])
                if i == 0 and self.sees_input(node):
                    told["stats"]["picture"] = filter_picture(node.blobs[i])
            found.append(told)
        return found

    def note(self, node: Node, index: int, learned: bool) -> str:
        if not learned:
            return "not learned by gradient"
        param = node.params[index]
        owner, _ = self.owners.get(param.name, (node, index))
        notes = (
            [f"shared with {owner.name}" if owner is not node else f'shared as "{param.name}"'] if param.name else []
        )
        notes += [f"lr × {param.lr_mult:g}"] if param.lr_mult != 1 else []
        notes += [f"decay × {param.decay_mult:g}"] if param.decay_mult != 1 else []
        return ", ".join(notes)

    def sees_input(self, node: Node) -> bool:
        """Whether a layer reads what the net is fed with."""
        return bool(node.bottoms) and self.makers[node.bottoms[0]].layer.category == "data"


_NUMBERS = ("params", "macs", "activation_bytes", "weight_bytes")


def _settings(node: Node) -> list[tuple[str, str, bool]]:
    """All parameters of a layer, and whether they are at their defaults; fillers are told of as long as they are set."""
    layer, given = node.layer, node.layer.settings()
    found = [(name, value, False) for name, value in given.items()]
    known: tuple[Field[Any], ...] = fields(layer) if is_dataclass(layer) else ()
    for f in known:
        value = getattr(layer, f.name)
        if f.name in given or f.name in ("kind", "category"):
            continue
        if isinstance(value, Filler):
            if value != Filler():
                found.append((f.name, _filler(value), False))
        elif f.repr and value == f.default:
            found.append((f.name, "x".join(map(str, value)) if isinstance(value, tuple) else str(value), True))
    found += [
        ("loss_weight", ", ".join(f"{w:g}" for w in node.loss_weights), False) for _ in range(any(node.loss_weights))
    ]
    return found


def _written(value: str) -> str:
    """A setting as a prototxt and people have it.

    >>> _written("True"), _written("3x3")
    ('true', '3×3')
    """
    return value.lower() if value in ("True", "False") else typeset(value)


_FILLER_WORDS = {"constant": ("value",), "uniform": ("min", "max"), "gaussian": ("mean", "std", "sparse")}


def _filler(filler: Filler) -> str:
    """A filler with the fields that it looks at, where they are not at their defaults.

    >>> _filler(Filler("gaussian", std=0.01)), _filler(Filler("xavier", std=0.01))
    ('gaussian, std 0.01', 'xavier')
    """
    words = _FILLER_WORDS.get(filler.type, ("variance_norm",))
    told = [
        f"{word} {short_number(str(getattr(filler, word)))}"
        for word in words
        if getattr(filler, word) != getattr(Filler(), word)
    ]
    return ", ".join([filler.type, *told])


def _value(value: Value) -> dict[str, Any]:
    return {"blob": value.blob, "shape": None if value.shape == UNKNOWN else list(value.shape)}


def _list(shape: Shape | None) -> list[int] | None:
    return None if shape is None else list(shape)


def _paint(theme: str, category: str) -> dict[str, str]:
    fill, stroke = FILLS[theme][category]
    return {"fill": fill, "stroke": stroke}


def _totals(shown: Picture, times: Times) -> dict[str, Any]:
    found = {k: v for k, v in shown.totals.items() if isinstance(v, int | float) and math.isfinite(v)}
    return found | ({"time": sum(times.values())} if times else {})


def _fault(fault: NetError) -> dict[str, Any]:
    more = [("expected", fault.expected), ("got", fault.got), ("hint", fault.hint)]
    return {
        "what": fault.what,
        "layer": fault.layer or "",
        "more": [[word, str(value)] for word, value in more if value is not None],
        "line": fault.at.line if isinstance(fault.at, Span) else None,
    }


def _file(graph: Graph) -> str:
    """The file that a graph was written in; "" for one that was made by a program."""
    named = next((node.at.file for node in graph.nodes if node.at), "")
    return "" if named.endswith(".py") or named.startswith("<") else named


def _source_text(graph: Graph) -> str:
    """The text of the file that a graph was read from; "" where it is not there any more, or has changed since."""
    path = _file(graph)
    if not path:
        return ""
    try:
        text = read_text(path)
    except NetError:
        return ""
    lines = text.split("\n")
    spans = [node.at for node in graph.nodes if node.at]
    same = all(s.file == path and s.line <= len(lines) and lines[s.line - 1].rstrip("\r") == s.excerpt for s in spans)
    return text if same else ""
