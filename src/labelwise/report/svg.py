"""A matplotlib figure as inline SVG whose colours follow the page: light, dark or printed.

Figures are drawn in placeholder colours, which become CSS variables of the page (`style.css`); text stays text, in the
page's font. Drawing uses the object interface only, so no state is shared between figures.
"""

from __future__ import annotations

import base64
import io
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

SERIES = tuple(f"#0f0a0{i}" for i in range(1, 9))
"""Colours of lines and bars; equally readable for colour-blind people (Okabe and Ito), never the only sign."""
INK, MUTED, GRID = "#0f0b01", "#0f0b02", "#0f0b03"
_VARIABLES = {c: f"var(--s{i})" for i, c in enumerate(SERIES, 1)} | {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
}
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10.0,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "figure.constrained_layout.w_pad": 0.09,
    "figure.constrained_layout.h_pad": 0.06,
}


@contextmanager
def drawing() -> Iterator[None]:
    """The look of all figures; names in scripts that the layout font lacks are drawn by the page's font."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def inline(figure: Figure, *, key: str, label: str) -> str:
    """The figure as an `<svg>` element with `label` as its text alternative; `key` is unique on the page."""
    buffer = io.StringIO()
    with drawing(), mpl.rc_context({"svg.hashsalt": key}):
        no_metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    text = buffer.getvalue()
    view = re.search(r'viewBox="[^"]*"', text)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'style="[^"]*"', lambda m: _theme(m.group()), body)
    body = re.sub(r"\n\s*", "\n", body)
    return f'<svg class="chart" role="img" aria-label="{escape(label)}" {view.group() if view else ""}>{body}'


def _theme(style: str) -> str:
    for colour, variable in _VARIABLES.items():
        style = style.replace(colour, variable)
    return style.replace("'DejaVu Sans'", "system-ui")


def short(text: str, limit: int) -> str:
    """On one line, without characters that cannot be drawn, at most `limit` long.

    >>> short("a very long class name", 12), short("tab\\there", 12)
    ('a very long…', 'tab�here')
    """
    clean = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1].rstrip() + "…"


def say(ax: Axes, message: str) -> None:
    """An empty panel that says why it is empty."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, transform=ax.transAxes)


def as_jpeg(image: UInt8[np.ndarray, "H W 3"], longest_side_px: int) -> str:
    """The image as a data URI, made smaller where it is larger."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((longest_side_px, longest_side_px))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
