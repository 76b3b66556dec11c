"""Pages of results: text, tables and figures in one HTML file that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

__all__ = ["Section", "mean_and_sd", "write_page"]


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes
    ----------
    title : str
        Heading; empty for none.
    text : sequence of str
        Paragraphs.
    table : sequence of rows of text
        The first row is the heading; empty for no table.
    figures : sequence of Figure
    """

    title: str = ""
    text: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    figures: Sequence[Figure] = ()


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write sections as a page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["png"] = _png
    page = environment.get_template("page.html.jinja").render(title=title, sections=sections)
    path.write_text(page, encoding="utf-8")


def mean_and_sd(values: Sequence[float]) -> str:
    """Return the mean and, for several values, the standard deviation as text."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def _png(figure: Figure) -> str:
    """Return a figure as a base64-encoded PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return base64.b64encode(file.getvalue()).decode()
