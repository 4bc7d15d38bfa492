"""Views -> DOT, the text that Graphviz and many other tools read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import NetError
from .cards import tip
from .folding import View
from .model import Box, shape_text
from .theme import FILLS, INKS


def dot(views: Sequence[View], across: bool = False) -> str:
    """The nets as one graph: a node for each box, clusters around closed folds, shapes on the edges.

    Raises: NetError where the graphviz package is not installed.
    """
    try:
        import graphviz  # type: ignore[import-untyped]
    except ImportError:
        raise NetError("writing DOT needs a library", hint="pip install 'netcompiler[draw]'") from None
    ink = INKS["light"]
    names = " | ".join(dict.fromkeys(view.picture.name or "net" for view in views))
    graph = graphviz.Digraph(
        _escape(names),
        graph_attr={"rankdir": "LR" if across else "TB", "fontname": "Helvetica", "label": "", "nodesep": "0.4"},
        node_attr={"shape": "box", "style": "rounded,filled", "fontname": "Helvetica", "fontsize": "11"},
        edge_attr={"fontname": "Helvetica", "fontsize": "9", "color": ink["line"], "fontcolor": ink["muted"]},
    )
    for k, view in enumerate(views):
        prefix = f"{view.picture.phase}{k}_" if len(views) > 1 else ""
        with graph.subgraph(name=f"cluster_{prefix}net" if prefix else None) as net:
            if prefix:
                net.attr(label=view.picture.phase, color=ink["border"])
            _folds(net, view, prefix, -1)
            for edge in view.edges:
                shapes = view.shapes(view.picture.boxes[edge.source], edge.top)
                net.edge(f"{prefix}n{edge.source}", f"{prefix}n{edge.target}", label=_escape(shape_text(shapes)))
    return str(graph.source)


def _folds(graph: Any, view: View, prefix: str, parent: int) -> None:
    """The boxes that lie in a fold (-1: in none) and in none inside it, and then those folds."""
    inside = view.innermost()
    for box in view.boxes:
        if inside.get(box.id, -1) == parent:
            _node(graph, view, box, prefix)
    for k, around in enumerate(view.parents()):
        if around == parent:
            fold = view.folds[k]
            with graph.subgraph(name=f"cluster_{prefix}fold{k}") as cluster:
                label = f"x {len(fold.copies)}  {fold.names[0]} ... {fold.names[-1]}"
                cluster.attr(label=_escape(label), labeljust="l", style="rounded", color=INKS["light"]["border"])
                _folds(cluster, view, prefix, k)


def _node(graph: Any, view: View, box: Box, prefix: str) -> None:
    import graphviz

    fill, border = FILLS["light"][box.category]
    lines = [box.name, *(f"{row.kind} {row.text}".strip() for row in box.rows)]
    outputs = [shape_text(view.shapes(box, k)) for k in range(len(box.tops)) if view.top(box, k).output]
    graph.node(
        f"{prefix}n{box.id}",
        graphviz.nohtml(r"\n".join(map(_escape, [*lines, *(f"-> {text}" for text in outputs)]))),
        tooltip=_escape(tip(box, view)),
        fillcolor=fill,
        color=border,
        fontcolor=INKS["light"]["text"],
        style="filled,dashed" if box.opaque else "rounded,filled",
        peripheries="2" if box.loss else "1",
        **({"shape": "octagon"} if box.loss else {}),
    )


def _escape(text: str) -> str:
    """Text that means itself: a backslash begins nothing, and angle brackets around it make no HTML of it."""
    import graphviz

    escaped: str = graphviz.escape(text)  # of a class of its own, which says that it is no HTML
    return escaped
