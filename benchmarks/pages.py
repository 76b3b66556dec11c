"""Pages of results that need no other file: tables and pictures as HTML."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

__all__ = ["picture", "spread", "table", "write"]

STYLE = (
    "body{font:15px sans-serif;max-width:78em;margin:2em auto;padding:0 1em}td,th{padding:.2em .6em;text-align:left;"
    "border-bottom:1px solid #ddd}table{border-collapse:collapse;font-size:13px}img{max-width:100%}"
)


def write(path: Path, title: str, *parts: str) -> None:
    """Write parts of HTML as a page."""
    head = f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    path.write_text(head + "".join(parts), encoding="utf-8")


def table(lines: Sequence[Sequence[str]]) -> str:
    """A table of text whose first line is its heading."""
    rows = (
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line)
        for tag, line in zip(["th", *["td"] * (len(lines) - 1)], lines, strict=True)
    )
    return f"<table><tr>{'</tr><tr>'.join(rows)}</tr></table>"


def spread(values: Sequence[float]) -> str:
    """Mean and, of several, standard deviation, as text."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def picture(figure: Figure, dpi: int = 100) -> str:
    """A figure, in the page itself."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return f"<img src='data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}'>"
