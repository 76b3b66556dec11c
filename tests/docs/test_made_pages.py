"""Formulas and the page of the commands, which the build of the documentation makes."""

from __future__ import annotations

import re

import pytest

from docs.tools.api_pages import api_page, command_page, on_page_content
from docs.tools.mathml import block, inline


@pytest.mark.parametrize(("formula", "is_spaced"), [(r"\log P(x)", True), (r"\log \det R", True), (r"\log(x)", False)])
def test_functions_are_spaced_from_arguments_without_brackets(formula: str, is_spaced: bool) -> None:
    assert ("mspace" in inline(formula, "math", "math", None)) is is_spaced


def test_a_block_has_one_formula_per_line() -> None:
    assert block("a = b\n\nc = d\n", "math", "math", {}, None).count("<math") == 2


def test_the_list_of_commands_has_whole_sentences() -> None:
    page = command_page()
    listed = re.findall(r"^\* `[a-z]+`: .*$", page, re.MULTILINE)
    assert len(listed) == 8
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_titles_keep_names_and_empty_descriptions_have_no_dash() -> None:
    assert api_page("kalman").startswith("# kalmanssl.kalman: Kalman filter ")
    assert api_page("images").startswith("# kalmanssl.images: images ")
    html = '<code>int</code>\n   –\n <div class="doc-md-description">\n </div>'
    assert on_page_content(html, None, None, None) == "<code>int</code>"
    kept = '<code>int</code> – <div class="doc-md-description"><p>Index.</p></div>'
    assert on_page_content(kept, None, None, None) == kept
    field = '    <span class="n">{}</span><span class="p">,</span>\n'
    assert on_page_content(field.format("mean") + field.format("_cov"), None, None, None) == field.format("mean")
