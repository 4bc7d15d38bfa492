"""SVG -> PNG and PDF, by the renderer of vl-convert: Rust in one wheel, fonts included, no library of the system."""

from __future__ import annotations

import warnings
from types import ModuleType

from ..errors import NetError, NetWarning

SHARP = 2.0  # pixels of a PNG to a pixel of the picture, where it is not too large
MOST_SIDE = 32_000  # pixels: viewers refuse more
MOST_PIXELS = 100_000_000
MOST_POINTS = 14_400.0  # of a PDF page's side, by its standard


def png(svg: str, width: float, height: float) -> bytes:
    """A PNG at twice the picture's size, less where that is too large for viewers. Warns where it gets hard to read."""
    scale = min(SHARP, MOST_SIDE / max(width, height), (MOST_PIXELS / (width * height)) ** 0.5)
    if scale < 0.6:
        told = f"the PNG shows the picture at {100 * scale:.0f} % of its size, as it is large"
        warnings.warn(f"{told}: an SVG or a PDF is sharp, and --fold 2 may make it smaller", NetWarning, stacklevel=3)
    data: bytes = _library("PNG").svg_to_png(svg, scale=scale)
    return data


def pdf(svg: str, width: float, height: float) -> bytes:
    """A PDF of one page, in vectors, with text that can be searched; a point to a pixel, less where a page ends."""
    data: bytes = _library("PDF").svg_to_pdf(svg, scale=min(1.0, MOST_POINTS / max(width, height)))
    return data


def _library(what: str) -> ModuleType:
    try:
        import vl_convert
    except ImportError:
        raise NetError(f"writing {what} needs a library", hint="pip install 'netcompiler[draw]'") from None
    return vl_convert
