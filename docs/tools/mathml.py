"""Formulas in LaTeX become MathML, which browsers draw without a script or a network."""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

_FUNCTION = re.compile(r"(<mi>(?:log|exp)</mi>)(?=<m(?:[in]|o movablelimits|sub|sup|row|frac)\b)")


def to_mathml(source: str, display: str = "inline") -> str:
    """Convert a formula, with a thin space between a function and its argument without brackets."""
    return _FUNCTION.sub(r'\1<mspace width="0.17em"/>', convert(source, display=display))


def inline(source: str, language: str, css_class: str, md: Any) -> str:
    """Format a formula in a line of text, written as `#!math x_t` between backticks."""
    return to_mathml(source)


def block(source: str, language: str, css_class: str, options: dict, md: Any, **kwargs: Any) -> str:
    """Format the formulas of a fenced block, one per line."""
    formulas = (to_mathml(line, "block") for line in source.splitlines() if line.strip())
    return f'<div class="{css_class}">{"".join(formulas)}</div>'
