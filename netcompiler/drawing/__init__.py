"""Pictures of nets: SVG, and from it PNG and PDF; DOT for others' tools; an HTML page to look around in.

model: Graph -> Picture, plain data.  folding: what repeats.  cards, layout: how large, and where.  svg, dot, raster: files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ..errors import NetError
from ..files import atomic
from ..graph import Graph, Shape
from ..looking import look
from ..text import Msg
from .folding import View, folded, view
from .layout import lay_out
from .model import Picture, picture
from .svg import Panel, Sheet, sheet
from .theme import FONTS, RASTER_FONTS, THEMES

SUFFIXES = (".svg", ".png", ".pdf", ".dot", ".html")
DIRECTIONS = ("TB", "LR")
PHASES = {"TEST": ("TEST",), "TRAIN": ("TRAIN",), "BOTH": ("TRAIN", "TEST")}
Source = Graph | Sequence[Graph] | Msg | str | os.PathLike[str]


class Drawing:
    """A drawn net. A notebook shows it; `svg` is its text, `save` writes it.

    pictures: what there is to see, as plain data: one, or one for each of several graphs.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        direction: str = "TB",
        theme: str = "auto",
        html: Callable[[], str] | None = None,
    ) -> None:
        """html: makes the page."""
        self.pictures = tuple(pictures)
        self._html = html
        self.across = direction == "LR"
        self.theme = theme

    @cached_property
    def _views(self) -> list[View]:
        return [view(one) for one in self.pictures]

    @cached_property
    def _panels(self) -> list[Panel]:
        return [Panel(seen.picture, lay_out(seen, self.across)) for seen in self._views]

    @cached_property
    def svg(self) -> str:
        """The picture as SVG."""
        return self._sheet(self.theme, FONTS).text

    def _sheet(self, theme: str, fonts: str) -> Sheet:
        return sheet(self._panels, theme, self.across, fonts)

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it in the format of the suffix: .svg, .png, .pdf, .dot, .html; whole or not at all.

        PNG and PDF have the light colours, unless the theme is dark.
        Raises: NetError for another suffix, a file that cannot be written, and a library that is missing.
        """
        data = self._data(Path(path))
        with atomic(path) as file:
            file.write(data)

    def _data(self, path: Path) -> bytes:
        if path.suffix == ".svg":
            return self.svg.encode()
        if path.suffix == ".html" and self._html:
            return self._html().encode()
        if path.suffix == ".dot":
            from .dot import dot

            return dot(self._views, self.across).encode()
        if path.suffix not in (".png", ".pdf"):
            what = "the format of a picture is chosen by suffix"
            raise NetError(what, at=str(path), expected=", ".join(SUFFIXES), got=path.suffix or "no suffix")
        from . import raster

        theme = "dark" if self.theme == "dark" else "light"
        drawn = self._sheet(theme, RASTER_FONTS)
        return (raster.png if path.suffix == ".png" else raster.pdf)(drawn.text, drawn.width, drawn.height)


def check_fold(fold: int | None) -> None:
    """Raises: NetError for a number of repetitions that nothing can be folded by."""
    if fold is not None and fold < 2:
        hint = "expand=True (--expand) shows everything"
        what = "the least number of repetitions to fold is too small"
        raise NetError(what, expected="at least 2", got=fold, hint=hint)


def draw(
    net: Source,
    path: str | os.PathLike[str] | None = None,
    *,
    phase: str = "TEST",
    level: int = 0,
    stages: Iterable[str] = (),
    inputs: Mapping[str, Shape] | None = None,
    dialect: str | None = None,
    direction: str = "TB",
    theme: str = "auto",
    fold: int | None = None,
    expand: bool = False,
    times: Mapping[str, float] | None = None,
) -> Drawing:
    """Draw a net, also one that does not build: what is not understood is dashed, with shape "?".

    net: a Graph, or several to see side by side; or the path of a prototxt, or a NetParameter.
    path: the file to write, by suffix: .svg, .png, .pdf, .dot, or .html: a page to look around in; None: none.
    phase, level, stages, inputs, dialect: as `build` takes them, for a net that is no Graph yet; phase "BOTH": TRAIN
        beside TEST.
    direction: TB, from top to bottom, or LR, from left to right.  theme: light, dark, or auto: as the reader prefers.
    fold: what repeats at least so often is shown once; None: three times, and larger blocks already when they come twice
        (see `folding.LARGE`).  expand: show everything.
    times: for a page: the measured seconds of each layer, as `timing.layer_times` gives them.
    Raises: NetError for arguments that do not fit, a file that cannot be read or written, and a library that is missing.
    """
    for name, value, known in (
        ("direction", direction, DIRECTIONS),
        ("theme", theme, THEMES),
        ("phase", phase, PHASES),
    ):
        if value not in known:
            raise NetError(f"unknown {name}", expected=", ".join(known), got=value)
    check_fold(fold)
    if isinstance(net, Graph):
        graphs = [net]
    elif isinstance(net, Msg | str | os.PathLike):
        graphs = [look(net, one, level, stages, inputs, dialect=dialect)[1] for one in PHASES[phase]]
    else:
        graphs = list(net)
    if not graphs:
        raise NetError("there is nothing to draw", expected="at least one graph")
    pictures = [picture(graph) for graph in graphs]

    def html() -> str:
        from .page import page

        return page(*graphs, times=times, fold=fold, expand=expand, direction=direction, theme=theme)

    drawing = Drawing([one if expand else folded(one, fold) for one in pictures], direction, theme, html)
    if path is not None:
        drawing.save(path)
    return drawing
