"""The code of the documentation's pages runs and gives the results that the pages describe."""

from __future__ import annotations

import re
from functools import cache

import pytest

from docs.tools.run_pages import PAGES, PICTURES, code_blocks, pages_with_code, run_page

NUMBERS = {  # by page: what is printed before a number, and the range of the number
    "first_recording": [("median error while running", 0, 12), ("95 % interval covers", 88, 100)],
    "report": [("decay time", 0.1, 100)],
    "settings": [("chosen:", 2, 2)],
    "intervals": [("95 % interval: covers", 0.85, 1), ("after the update the 95 % interval covers", 85, 100)],
    "identifiability": [("affine map of the latents:", 0.9, 1), ("from those of another:", 0.95, 1)],
    "decoding": [
        ("heading: median error", 0, 20),
        ("median distance", 0, 0.3),
        ("accuracy", 0.75, 1),
        ("length of the track:", 2.9, 3.3),
    ],
    "trials": [("median error", 0, 1.5), ("p <= 0.05:", 18, 22), ("co-smoothing:", 1, 6), ("widens from", 0.5, 4)],
    "sessions": [("median error without any label of this session:", 0, 10)],  # 29 by chance
    "live": [("95 % interval covers", 88, 100)],
    "filter": [
        ("log-likelihood of the first sequence:", -400, -200),
        ("R =", 0.3, 0.7),
        ("extended_kalman_filter: error", 0, 0.14),
        ("unscented_kalman_filter: error", 0, 0.14),
    ],
    "coming_from": [],
    "pairs": [("logdet:", 2.7, 2.95), ("affine map of the latents:", 0.9, 1)],
    "images": [("features is right for", 88, 100)],
}
RECIPES = ("filterpy", "pykalman", "statsmodels", "dynamax")


@cache
def printed_by(name: str) -> str:
    return run_page(PAGES / f"{name}.md")


@pytest.mark.parametrize("name", NUMBERS)
def test_page(name: str) -> None:
    if name == "images":
        pytest.importorskip("kornia")
    printed = printed_by(name)
    for before, least, most in NUMBERS[name]:
        number = re.search(re.escape(before) + r" *(-?\d+(?:\.\d+)?)", printed)
        assert number, f"{name}: no number after {before!r} in\n{printed}"
        assert least <= float(number[1]) <= most, number[0]
    text = (PAGES / f"{name}.md").read_text()
    for picture in re.findall(rf"pictures/{name}/(\w+\.png)", text):
        assert (PICTURES / name / picture).stat().st_size > 5000


def test_every_page_with_code_is_tested() -> None:
    assert {page.stem for page in pages_with_code()} == set(NUMBERS)


@pytest.mark.parametrize("package", RECIPES)
def test_recipe_gives_the_numbers_of_the_other_package(package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed: its recipe in coming_from.md is NOT tested")
    assert f"{package}: the results are equal" in printed_by("coming_from")


def test_every_recipe_is_tested() -> None:
    assert {package for package, _ in code_blocks(PAGES / "coming_from.md")} - {""} == set(RECIPES)
