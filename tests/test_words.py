"""The code and the documents use American spelling and the standard terms of the field."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SKIPPED = {".venv", ".git", "build", "dist", "demo", "results", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
BRITISH = r"""
    behaviour neighbour colour favour centre(?!d\b) centring \bgrey catalogue licence labelled modelled travelled
    cancelled \btowards\b \bmetres?\b(?!") analys(?:e|ed|ing)\b whilst learnt
    (?:discret|factor|general|initial|maxim|minim|normal|optim|organ|parametr|penal|recogn|regular|solar|standard|summar|symmetr
    |util|vector|visual)is(?:e|ed|es|er|ers|ing|ation)\b
"""
UNUSUAL = r"""
    rehears stretch promis \bdoors?\b \bfared\b congruence worthwhile LatentPath ConditionalPlugIn
    \bside_by_side\b \bwidened\b \bmoderated\b \bneeds_decoder\b \bsave_into\b \bvisible_model\b
    \bfull_noise\b \bin_double\b \bactivity_bias\b \bdynamics_rate\b \bnoise_rate\b LaterErrors LaterBlock
    \bLanes\b
"""
PHRASES = ("of which", "on the plane", "to be had", "had back", "such as has")
ALLOWED = {  # `rehearse` is an alias of `cross_fit` until version 0.2
    "CHANGELOG.md": "rehears",
    "docs/pages/deprecation.md": "rehears",
    "kalmanssl/__init__.pyi": "rehears",
    "kalmanssl/decoding/__init__.py": "rehears",
    "kalmanssl/decoding/held_out/__init__.py": "rehears",
    "kalmanssl/decoding/held_out/_cross_fitting.py": "rehears",
    "tests/decoding/held_out/test_cross_fitting.py": "rehears",
}


def checked_files() -> list[Path]:
    files = [
        path for end in ("*.py", "*.pyi", "*.md", "*.toml", "*.jinja", "*.yml", "*.cff") for path in ROOT.rglob(end)
    ]
    return [path for path in files if not SKIPPED & set(path.relative_to(ROOT).parts) and path != Path(__file__)]


def test_words() -> None:
    british = "".join(BRITISH.split("\n    |")).split()
    patterns = british + UNUSUAL.split() + [phrase.replace(" ", r"\s+") for phrase in PHRASES]
    found = []
    for path in checked_files():
        name, text = path.relative_to(ROOT).as_posix(), path.read_text()
        for pattern in patterns:
            if pattern == ALLOWED.get(name):
                continue
            for match in re.finditer(pattern, text, re.IGNORECASE):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{name}:{line}: {match[0]!r}")
    assert not found, "\n".join(found)
