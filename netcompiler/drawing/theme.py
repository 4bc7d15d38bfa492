"""The colours of pictures, light and dark, as CSS.

Kinds of layer differ in hue and in lightness, after the palette of Okabe and Ito for colour-blind readers; fills are light
enough to print on (dark enough for the dark theme), and text on them has a contrast of at least 4.5.
"""

from __future__ import annotations

from .cards import BLOB, CAPTION, FIGURE, FOLD, FOLD_NAME, HEADING, KIND, NAME, ROW, ROW_NAME, SETTING, SHAPE, Style

THEMES = ("auto", "light", "dark")
FONTS = "'Helvetica Neue',Helvetica,Arial,'Liberation Sans','DejaVu Sans',sans-serif"
RASTER_FONTS = "'Liberation Sans',sans-serif"  # comes with the renderer: the same picture on every machine

# The fill and the border of each category.
FILLS: dict[str, dict[str, tuple[str, str]]] = {
    "light": {
        "data": ("#e4e4e4", "#444444"),
        "convolution": ("#cfe4f5", "#0072b2"),
        "pooling": ("#cdeee2", "#008060"),
        "activation": ("#fde5bd", "#b87400"),
        "normalisation": ("#faf5bd", "#8f8400"),
        "dense": ("#f4dcea", "#a3487c"),
        "combine": ("#eaf7fe", "#2f94cf"),
        "shape": ("#f3f3f3", "#7d7d7d"),
        "loss": ("#fbd7c6", "#c24e00"),
        "other": ("#ffffff", "#7d7d7d"),
    },
    "dark": {
        "data": ("#3a3d42", "#c9ccd1"),
        "convolution": ("#123a57", "#56b4e9"),
        "pooling": ("#0f4035", "#2fc79b"),
        "activation": ("#4d3611", "#f0b030"),
        "normalisation": ("#45410f", "#e0d640"),
        "dense": ("#4a2339", "#df93bd"),
        "combine": ("#1b2f3d", "#86ccf5"),
        "shape": ("#2c2f33", "#9aa0a8"),
        "loss": ("#582713", "#ff8442"),
        "other": ("#1d2024", "#9aa0a8"),
    },
}
# paper: behind all.  text, muted: of texts.  line: edges.  frame, border: of repeated blocks.  fault: of what is wrong.
INKS: dict[str, dict[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "text": "#1b1f24",
        "muted": "#4a5159",
        "line": "#5c646d",
        "frame": "#f5f6f8",
        "border": "#98a1ab",
        "fault": "#b3261e",
    },
    "dark": {
        "paper": "#16181c",
        "text": "#eef1f4",
        "muted": "#c2c8cf",
        "line": "#9aa3ad",
        "frame": "#1f2228",
        "border": "#6b747e",
        "fault": "#ff9c94",
    },
}
STYLES: tuple[tuple[Style, str], ...] = (
    (NAME, "text"),
    (KIND, "muted"),
    (SETTING, "text"),
    (FIGURE, "muted"),
    (ROW, "text"),
    (ROW_NAME, "muted"),
    (SHAPE, "text"),
    (BLOB, "muted"),
    (HEADING, "text"),
    (CAPTION, "muted"),
    (FOLD, "text"),
    (FOLD_NAME, "muted"),
)


def css(theme: str) -> str:
    """The rules of a theme; "auto" is light, and dark for readers who prefer it."""
    if theme == "auto":
        dark = "\n".join(_colours("dark"))
        return f"{css('light')}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    sizes = [f".nc .{s.name}{{font-size:{s.size:g}px;font-weight:{700 if s.bold else 400}}}" for s, _ in STYLES]
    fixed = [
        ".nc .middle{text-anchor:middle}",
        ".nc .end{text-anchor:end}",
        ".nc .t-blob{font-style:italic}",
        ".nc .t-shape{font-style:normal}",
        ".nc .label{stroke-width:1;stroke-opacity:.75}",
        ".nc .card,.nc .rim,.nc .frame{stroke-width:1.3}",
        ".nc .rim,.nc .over{fill:none}",
        ".nc .over{stroke-width:1.3}",
        ".nc .strip{stroke-width:.7}",
        ".nc .opaque{stroke-dasharray:5 3}",
        ".nc .edge,.nc .stem{fill:none;stroke-width:1.3}",
        ".nc .output{stroke-width:1.1}",
    ]
    return "\n".join([*sizes, *fixed, *_colours(theme)])


def _colours(theme: str) -> list[str]:
    ink = INKS[theme]
    rules = [
        f".nc .paper,.nc .output{{fill:{ink['paper']}}}",
        *(f".nc .{style.name}{{fill:{ink[colour]}}}" for style, colour in STYLES),
        f".nc .edge,.nc .stem{{stroke:{ink['line']}}}",
        f".nc .head{{fill:{ink['line']}}}",
        f".nc .ground{{fill:{ink['frame']}}}",
        f".nc .frame{{fill:{ink['frame']};stroke:{ink['border']}}}",
        f".nc .output{{stroke:{ink['line']}}}",
        f".nc .fault{{fill:{ink['fault']}}}",
    ]
    for category, (fill, stroke) in FILLS[theme].items():
        rules.append(f".nc .{category}{{fill:{fill};stroke:{stroke}}}")
        rules.append(f".nc .{category}-rim{{stroke:{stroke}}}")
    return rules
