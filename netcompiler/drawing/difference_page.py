"""Difference -> one HTML file: a summary, a table of all that differs, and both nets; no request leaves it.

All of it is markup that works without JavaScript: links lead to boxes, kinds can be filtered. The script adds what is
pleasant: choosing a line shows its boxes in both nets, choosing a box shows its lines, and the picture can be zoomed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..compare import WORDS, Pair, totals_rows, value_text, visible
from ..graph import dims
from .difference import Difference, differences, growth_text, kind_of, summary
from .marks import COLOURS, KINDS, SAME, badge
from .model import typeset
from .page import digest, head
from .svg import escaped, style
from .theme import INKS

HERE = Path(__file__).parent
QUIET = ("training", "renamed")  # not listed at first, where there is more


def page(drawing: Difference) -> str:
    """The HTML file."""
    css = _colours(drawing.theme) + (HERE / "difference.css").read_text(encoding="utf-8")
    script = (HERE / "difference.js").read_text(encoding="utf-8")
    inner = f"\n{style(drawing.theme, True)}\n"  # stands in the picture
    assert inner in drawing.bare
    policy = (
        f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(css)}' '{digest(inner)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    kinds = Counter(kind for pair in drawing.diff.pairs if (kind := kind_of(pair)) != SAME)
    lines = [
        *head(drawing.heading.name, policy, css),
        f"<header><div><h1>{escaped(drawing.heading.name)}</h1>",
        f"<p>{' · '.join(map(escaped, summary(drawing.diff)))}</p></div></header>",
        "<main>",
        '<section id="told" aria-label="What differs" tabindex="0">',
        *_totals(drawing),
        *_filters(kinds),
        *_table(drawing),
        "</section>",
        '<section id="picture" aria-label="Both nets" tabindex="0">',
        drawing.bare,
        "</section>",
        "</main>",
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return "".join(f"{line}\n" for line in lines)


def _colours(theme: str) -> str:
    """The colours of the pictures, by name."""

    def rules(one: str) -> str:
        own = {**INKS[one], **COLOURS[one]}
        named = ";".join(f"--{name}:{colour}" for name, colour in own.items())
        return f":root{{color-scheme:{one};{named}}}\n"

    if theme == "auto":
        return f"{rules('light')}@media (prefers-color-scheme:dark){{{rules('dark')}}}\n"
    return rules(theme)


def _totals(drawing: Difference) -> Iterator[str]:
    a, b = (
        f'<bdi title="{escaped(visible(file))}">{escaped(name)}</bdi>'
        for file, name in zip(drawing.files, drawing.names, strict=True)
    )
    totals = drawing.diff.totals
    one = ", for one image" if totals[0].images != totals[1].images else ""
    yield f'<table id="totals"><caption>Totals{one}</caption>'
    yield f'<thead><tr><td></td><th scope="col">A · {a}</th><th scope="col">B · {b}</th><td></td></tr></thead><tbody>'
    for what, x, y in totals_rows(drawing.diff):
        word = {"params": "parameters"}.get(what, WORDS.get(what, what))
        cells = "".join(f"<td>{escaped(value_text(what, value))}</td>" for value in (x, y))
        yield f'<tr><th scope="row">{escaped(word)}</th>{cells}<td>{escaped(growth_text(x, y))}</td></tr>'
    yield "</tbody></table>"
    for letter, found in zip("AB", totals, strict=True):
        if found.unknown:
            yield f"<p>At least, for {letter}: {found.unknown} of {found.layers} layers are not known, and not counted.</p>"


def _filters(kinds: Counter[str]) -> Iterator[str]:
    """A box to tick for each kind; the style sheet does the rest."""
    if not kinds:
        yield "<p>No layer differs.</p>"
        return
    yield '<fieldset id="filters"><legend>Show</legend>'
    for kind in (k for k in KINDS if k in kinds):
        hidden = kind in QUIET and not set(kinds) <= set(QUIET)
        yield (
            f'<label><input type="checkbox" id="show-{kind}"{"" if hidden else " checked"}> {_sign(kind)}'
            f" {KINDS[kind].words} ({kinds[kind]:,})</label>"
        )
    yield "</fieldset>"


def _sign(kind: str) -> str:
    return f'<svg class="nc sign" viewBox="-10 -10 20 20" width="16" height="16" aria-hidden="true">{badge(kind, 0, 0)}</svg>'


def _table(drawing: Difference) -> Iterator[str]:
    if all(kind_of(pair) == SAME for pair in drawing.diff.pairs):
        return
    yield '<table id="differences"><caption>Layers that differ</caption>'
    yield '<thead><tr><th scope="col">Layer</th><th scope="col">What differs</th></tr></thead><tbody>'
    for pair in drawing.diff.pairs:
        if kind_of(pair) != SAME:
            yield _row(drawing, pair)
    yield "</tbody></table>"


def _row(drawing: Difference, pair: Pair) -> str:
    kind = kind_of(pair)
    links, names, data, types = [], [], "", []
    for side, i, graph, anchors in zip(
        "ab", (pair.a, pair.b), (drawing.diff.a, drawing.diff.b), drawing.anchors, strict=True
    ):
        if i is None:
            continue
        node = graph.nodes[i]
        names.append(node.name)
        types.append(node.layer.kind)
        data += f' data-{side}="{anchors[i]}"'
        label = escaped(f"{visible(node.name)} in {side.upper()}")
        links.append(f'<a href="#{anchors[i]}" aria-label="{label}">{side.upper()}</a>')
    name = " → ".join(f"<bdi>{escaped(visible(n) or 'no name')}</bdi>" for n in dict.fromkeys(names))
    kinds = " → ".join(escaped(visible(k)) for k in dict.fromkeys(types))
    told = "".join(
        f"<dt>{escaped(what)}</dt><dd>{escaped(text)}</dd>"
        for what, text in (*differences(pair), *_whole(drawing, pair))
    )
    return (
        f'<tr class="k-{kind}"{data}><th scope="row">{_sign(kind)} {name}<small>{kinds} · {" ".join(links)}</small></th>'
        f"<td><p>{KINDS[kind].words}</p><dl>{told}</dl></td></tr>"
    )


def _whole(drawing: Difference, pair: Pair) -> Iterator[tuple[str, str]]:
    """What there is to tell of a layer that only one of the nets has."""
    if pair.a is not None and pair.b is not None:
        return
    graph, i = (drawing.diff.a, pair.a) if pair.b is None else (drawing.diff.b, pair.b)
    assert i is not None
    node = graph.nodes[i]
    if node.layer.brief():
        yield "settings", typeset(visible(node.layer.brief()))
    for value in node.tops:
        yield "shape", dims(value.shape).replace("x", "×")
