"""Command lines that the documentation quotes are those of the present command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from kalmanssl.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs" / "pages").glob("*.md"))]
COMMANDS: Any = typer.main.get_command(app)
SUITES = {p.stem for p in (ROOT / "benchmarks").glob("*.py")} | {
    p.parent.name for p in ROOT.glob("benchmarks/*/__main__.py")
}


def quoted_lines() -> list[str]:
    """Return the command lines in code of the pages and in the help texts, without their comments."""
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    blocks = "\n".join(block for text in texts for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S))
    found = re.findall(r"^(?:\S*/)?kalmanssl (.+)$", blocks, re.M)
    found += [line for text in texts for line in re.findall(r"`kalmanssl ([^`\n]+)`", text)]
    helps = [COMMANDS.help or "", *(command.help or "" for command in COMMANDS.commands.values())]
    found += [line for text in helps for line in re.findall(r"^\s*(?:Example: )?kalmanssl (.+)$", text, re.M)]
    return sorted({line.partition("#")[0].strip() for line in found})


def test_command_lines_are_found():
    lines = quoted_lines()
    assert len(lines) > 20
    assert {line.split()[0] for line in lines} >= {"fit", "info", "decode", "evaluate", "report", "fetch", "bench"}


@pytest.mark.parametrize("line", quoted_lines())
def test_a_quoted_command_line_is_understood(line):
    name, *arguments = shlex.split(line)
    command = COMMANDS.commands[name]
    if name == "bench":  # a suite has options of its own
        assert not arguments or arguments[0] in (*SUITES, "NAME", "--help")
        return
    command.make_parser(command.context_class(command, info_name=name)).parse_args(arguments)
