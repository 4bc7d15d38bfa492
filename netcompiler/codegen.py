"""Graph -> the straight-line Python that runs it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping

from .graph import Graph, Value, dims
from .layers import Layer


def identifiers(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """A Python identifier for each name, all different and none of them taken."""
    used, found = set(taken), []
    for name in names:
        stem = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
        if stem[0].isdigit() or keyword.iskeyword(stem) or keyword.issoftkeyword(stem):
            stem = "_" + stem
        word, count = stem, 1
        while word in used:
            count += 1
            word = f"{stem}_{count}"
        used.add(word)
        found.append(word)
    return found


def fills_itself(layer: Layer) -> bool:
    """Whether an input layer makes its own values when the caller feeds none."""
    return layer.is_input and type(layer).forward is not Layer.forward


def forward_source(graph: Graph, attributes: list[str]) -> str:
    """The text of `forward(self, inputs...)`, which returns the graph's outputs as a tuple.

    attributes: the module's attribute for each node.
    """
    last_read = _last_reads(graph)
    words = _words(graph, last_read)
    last_use: dict[str, int] = {}
    for value, word in words.items():
        last_use[word] = max(last_use.get(word, -1), last_read[value])
    lines = []
    for i, (node, attribute) in enumerate(zip(graph.nodes, attributes, strict=True)):
        if node.layer.is_input and not fills_itself(node.layer):
            continue
        reads = node.tops if node.layer.is_input else node.bottoms
        stops = (True,) * len(reads) if node.layer.is_input else node.propagate or (True,) * len(reads)
        arguments = ", ".join(words[v] + ("" if flows else ".detach()") for v, flows in zip(reads, stops, strict=True))
        call = f"self.{attribute}({arguments})"
        tops = ", ".join(words[v] for v in node.tops)
        done = dict.fromkeys(words[v] for v in (*node.bottoms, *node.tops) if last_use[words[v]] == i)
        free = f"; del {', '.join(done)}" if done else ""
        note = f"{node.layer.kind}: {', '.join(dims(s) for s in node.top_shapes)}"
        lines.append((f"{tops} = {call}{free}" if tops else f"{call}{free}", note))
    inputs = [words[v] for v in graph.inputs()]
    outputs = "".join(f"{words[v]}, " for v in graph.outputs)
    width = min(max((len(code) for code, _ in lines), default=0), 88)
    body = [f"    {code:<{width}}  # {note}" for code, note in lines]
    return "\n".join([f"def forward({', '.join(['self', *inputs])}):", *body, f"    return ({outputs})", ""])


def _last_reads(graph: Graph) -> dict[Value, int]:
    """For each value the index of the last node that reads it: its maker's where none does, past the end for outputs."""
    last = {}
    for i, node in enumerate(graph.nodes):
        last.update(dict.fromkeys((*node.bottoms, *node.tops), i))
    last.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
    return last


def _words(graph: Graph, last_read: Mapping[Value, int]) -> dict[Value, str]:
    """A variable for each value. A value made in place takes its bottom's variable, unless that is still read later."""
    names = graph.blobs()
    blobs = dict(zip(names, identifiers(names, ("self",)), strict=True))
    words: dict[Value, str] = {}
    for i, node in enumerate(graph.nodes):
        old = {v.blob: v for v in node.bottoms}
        for value in node.tops:
            before = old.get(value.blob)
            if before is None:
                words[value] = blobs[value.blob]
            elif last_read[before] <= i:
                words[value] = words[before]
            else:
                taken = {"self", *words.values(), *blobs.values()}
                words[value] = identifiers([f"{blobs[value.blob]}_{value.version}"], taken)[0]
    return words
