"""The code and the documents use American spelling and standard terms."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SKIPPED = {".venv", ".git", "build", "dist", "demo", "results", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
WORDS = {
    "American spelling": [
        r"behaviour", r"neighbour", r"colour", r"favour", r"centre(?!d\b)", r"centring", r"\bgrey", r"catalogue", r"licence", r"labelled",
        r"modelled", r"travelled", r"cancelled", r"\btowards\b", r"\bmetres?\b(?!\")", r"analys(?:e|ed|ing)\b", r"whilst", r"learnt",
        r"(?:discret|factor|general|initial|maxim|minim|normal|optim|organ|parametr|penal|random|recogn|regular|solar|special|standard"
        r"|summar|symmetr|util|vector|visual)is(?:e|ed|es|er|ers|ing|ation)\b",
    ],
    "standard terms": [
        r"rehears", r"stretch", r"promis", r"\bdoors?\b", r"\bfared\b", r"congruence", r"worthwhile", r"LatentPath", r"ConditionalPlugIn",
        r"\bhad back\b", r"\bto be had\b", r"\bof which\b", r"\bside_by_side\b", r"\bwidened\b", r"\bmoderated\b", r"\bneeds_decoder\b",
        r"\bsave_into\b", r"\bvisible_model\b", r"\bfull_noise\b", r"\bin_double\b", r"\bactivity_bias\b", r"\bdynamics_rate\b",
        r"\bnoise_rate\b", r"LaterErrors", r"LaterBlock", r"\bLanes\b", r"\bon the plane\b",
    ],
}  # fmt: skip
ALLOWED = {"kalmanssl/__init__.pyi": ["rehears"]}  # `rehearse` is an alias of `cross_fit` until version 0.2


def checked_files() -> list[Path]:
    files = [path for end in ("*.py", "*.pyi", "*.md", "*.toml", "*.jinja") for path in ROOT.rglob(end)]
    return [path for path in files if not SKIPPED & set(path.relative_to(ROOT).parts) and path != Path(__file__)]


def test_words() -> None:
    found = []
    for path in checked_files():
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text()
        for kind, patterns in WORDS.items():
            for pattern in patterns:
                if pattern in ALLOWED.get(name, ()):
                    continue
                for match in re.finditer(pattern, text, re.IGNORECASE if kind == "American spelling" else 0):
                    found.append(f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r} ({kind})")
    assert not found, "\n".join(found)
