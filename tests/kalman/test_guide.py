"""The docstring of `kalmanssl.kalman` is complete, and the examples in the docstrings of its modules run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import kalmanssl.kalman

FOLDER = Path(kalmanssl.kalman.__file__).parent
WITH_EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py") if ">>>" in path.read_text())


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module("kalmanssl.kalman" if name == "__init__" else f"kalmanssl.kalman.{name}")
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0


def test_the_guide_lists_every_public_function():
    functions = {
        name
        for name, value in vars(kalmanssl.kalman).items()
        if callable(value) and name[0].islower() and not name.startswith("_")
    }
    table = kalmanssl.kalman.__doc__.split("=====\n")[1]
    named = {word.split("(")[0] for word in table.split("`")[1::2]}
    assert functions == named - {"LinearGaussianSSM"}
