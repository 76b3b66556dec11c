"""Formulas in LaTeX become MathML, which browsers draw without a script or a network."""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert


def inline(source: str, language: str, css_class: str, md: Any) -> str:
    """Format a formula in a line of text, written as `#!math x_t` between backticks."""
    return convert(source)


def block(source: str, language: str, css_class: str, options: dict, md: Any, **kwargs: Any) -> str:
    """Format the formulas of a fenced block, one per line."""
    formulas = (convert(line, display="block") for line in source.splitlines() if line.strip())
    return f'<div class="{css_class}">{"".join(formulas)}</div>'
