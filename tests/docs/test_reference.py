"""Every public name is in the reference, and citations agree with the package."""

from __future__ import annotations

import importlib
import inspect
import re
import types

import pytest

import kalmanssl
from docs.tools.public_names import DOCUMENTED, INTERNAL, ROOT, defined_names, member_names, sub_packages

api_pages = pytest.importorskip("docs.tools.api_pages", reason="mkdocs is not installed: the reference is NOT tested")


def importable_names(module: types.ModuleType) -> set[str]:
    """Return what can be imported from a module: its `__all__`, or else all but private names and modules."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    public = {name for name in vars(module) if not name.startswith("_")}
    return {name for name in public if not inspect.ismodule(getattr(module, name))}


def test_every_sub_package_is_documented_or_internal() -> None:
    assert sub_packages() == set(DOCUMENTED) | INTERNAL


@pytest.mark.parametrize("package", DOCUMENTED)
def test_every_public_name_has_an_entry(package: str) -> None:
    names = importable_names(importlib.import_module(f"kalmanssl.{package}"))
    entries = re.findall(rf"^::: kalmanssl\.{package}\.(\w+)$", api_pages.api_page(package), re.MULTILINE)
    assert len(entries) == len(set(entries))
    assert set(entries) == {name for name in names if f"{package}.{name}" not in DOCUMENTED}


def table_of(package: str) -> list[tuple[str, str]]:
    """Return the names on a page of the reference, and what its table says about them."""
    row = rf"^\| \[`(\w+)`\]\[kalmanssl\.{re.escape(package)}\.\w+\] \| (.*) \|$"
    return re.findall(row, api_pages.api_page(package), re.MULTILINE)


@pytest.mark.parametrize("package", DOCUMENTED)
def test_every_entry_is_described_in_the_table_of_its_page(package: str) -> None:
    rows = table_of(package)
    assert [name for name, _ in rows] == defined_names(package)
    assert [name for name, about in rows if not about] == []


def test_names_that_the_package_offers_directly_come_first() -> None:
    assert table_of("estimator")[0] == ("KalmanSSL", str(kalmanssl.KalmanSSL.__doc__).split("\n", 1)[0])


def test_members_of_a_class_are_in_the_order_of_the_source_with_inherited_ones_last() -> None:
    members = member_names(kalmanssl.PositionDecoder)
    assert members[:2] == ["fit", "predict"]
    assert set(members[2:]) >= {"update", "online", "score", "save", "load"}
    assert member_names(kalmanssl.entropy.EntropyEstimator)[:2] == ["conditional", "spaces"]


def test_every_name_of_the_package_is_on_the_first_page() -> None:
    found = re.findall(r"^\| \[`(\w+)`\]\[[\w.]+\] \| .+ \|", api_pages.top_page(), re.MULTILINE)
    assert set(found) == set(kalmanssl.__all__) - {"__version__"}


def test_commands_are_documented() -> None:
    page = api_pages.command_page()
    for command in ("fit", "decode", "evaluate", "report", "demo", "fetch", "info", "bench"):
        assert f"## `kalmanssl {command}`" in page
    assert "[bold]" not in page


def test_citation_names_the_version() -> None:
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == kalmanssl.__version__
    assert citation["preferred-citation"]["url"] == "https://arxiv.org/abs/2605.03517"
    assert kalmanssl.__version__ in (ROOT / "docs" / "pages" / "cite.md").read_text()
