"""The examples in the docstrings of the filter's package say the truth."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import kalmanssl.kalman

FOLDER = Path(kalmanssl.kalman.__file__).parent
WITH_EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py") if ">>>" in path.read_text())


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring(name):
    module = importlib.import_module("kalmanssl.kalman" if name == "__init__" else f"kalmanssl.kalman.{name}")
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0


def test_the_guide_names_what_there_is():
    """All functions that a user may call are in the guide, and nothing else."""
    functions = {
        name
        for name, value in vars(kalmanssl.kalman).items()
        if callable(value) and name[0].islower() and not name.startswith("_")
    }
    table = kalmanssl.kalman.__doc__.split("=====\n")[1]
    named = {word.split("(")[0] for word in table.split("`")[1::2]}
    assert functions == named
