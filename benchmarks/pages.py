"""Pages of results: text, tables and figures in one HTML file that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from kalmanssl.runs import render_page

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
    """Write sections as a page in the style of the reports of `kalmanssl report`."""
    values = {"title": title, "sections": sections}
    page = render_page("page.html.jinja", values, folder=Path(__file__).parent)
    path.write_text(page, encoding="utf-8")


def mean_and_sd(values: Sequence[float]) -> str:
    """Return the mean and, for several values, the standard deviation as text."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
