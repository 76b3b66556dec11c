"""The examples in docstrings run; those of `kalmanssl.kalman` are tested in `tests/kalman/test_guide.py`."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import kalmanssl
import kalmanssl.datasets

ROOTS = {"kalmanssl": Path(kalmanssl.__path__[0]), "kalmanssl.datasets": Path(kalmanssl.datasets.__path__[0])}
FILES = {
    ".".join([package, *path.relative_to(root).with_suffix("").parts]).removesuffix(".__init__"): path
    for package, root in ROOTS.items()
    for path in sorted(root.rglob("*.py"))
}
WITH_EXAMPLES = [
    name for name, path in FILES.items() if ">>>" in path.read_text() and not f"{name}.".startswith("kalmanssl.kalman.")
]
EXPLAINING_HOW_TO_ADD = {
    "kalmanssl.distributions._base",
    "kalmanssl.entropy._registry",
    "kalmanssl.models._pair_spaces",
    "kalmanssl.networks._noise_base",
}


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_run(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0


def test_modules_that_explain_how_to_add_a_class_have_an_example():
    assert set(WITH_EXAMPLES) >= EXPLAINING_HOW_TO_ADD
