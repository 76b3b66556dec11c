"""The files of a release agree with each other: versions of Python, the version of the package, the changelog."""

from __future__ import annotations

import re
import tomllib

import pytest

from docs.tools.public_names import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def test_release_tests_the_supported_versions_of_python() -> None:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in PROJECT["classifiers"]]
    assert tested == [match[1] for match in named if match]
    assert PROJECT["requires-python"] == f">={tested[0]}"
    page = (ROOT / "docs" / "pages" / "deprecation.md").read_text()
    assert f"({tested[0]} to {tested[-1]})" in page
    assert workflow["jobs"]["publish"]["needs"] == "test"


def test_changelog_has_the_form_of_keep_a_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    for version in versions[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version)
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= set(SECTIONS)
    before_first_section = text.split("\n### ", 1)[0]
    assert "\n- " not in before_first_section
