"""Figures as SVG for a web page."""

from __future__ import annotations

import io
import re
from html import escape
from typing import TYPE_CHECKING

from kalmanssl.plotting._style import CSS_VARIABLES, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["figure_to_svg"]


def figure_to_svg(ax: Axes, *, name: str, description: str) -> str:
    """Return the figure that contains the axes as an SVG element to be put into an HTML page.

    The same figure always gives the same text. The colors of `kalmanssl.plotting` become the CSS variables --ink,
    --quiet, --blue, --orange and --green, which the page defines.

    Parameters
    ----------
    ax : Axes
    name : str
        Prefix of all ids in the SVG; it must be unique in the page.
    description : str
        What the figure shows, for screen readers.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure_of(ax).savefig(buffer, format="svg", dpi=160, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    for size in ("width", "height"):  # the page sets the size
        svg = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    for color, variable in CSS_VARIABLES.items():
        svg = svg.replace(color, f"var(--{variable})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description, quote=True)}"', 1)
