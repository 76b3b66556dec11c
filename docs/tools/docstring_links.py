"""Docstrings are written for the terminal; here names become links, and examples and tables those of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import griffe

from docs.tools.public_names import full_names

NAME = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)`(?!`)")
PRIME = re.compile(r"(`+[^`]*`+)|'_")  # code, or the index of a symbol such as z'_t, which would begin emphasis
RULE = re.compile(r" *=+( +=+)+ *$")  # the line above and below a table


def fence_examples(lines: list[str]) -> Iterator[str]:
    """Put paragraphs that begin with ``>>>`` into fences, without which Markdown takes them for quotations."""
    for is_blank, group in groupby(lines, key=lambda line: not line.strip()):
        paragraph = list(group)
        if is_blank or not paragraph[0].lstrip().startswith(">>>"):
            yield from paragraph
            continue
        indent = paragraph[0][: -len(paragraph[0].lstrip())]
        yield from (indent + "```pycon", *paragraph, indent + "```")


def convert_tables(lines: Iterable[str]) -> Iterator[str]:
    """Turn tables between lines of equal signs into tables of Markdown, with an empty header."""
    inside = False
    for line in lines:
        if RULE.match(line):
            inside = not inside
            if inside:
                columns = len(line.split())
                yield from ("", "|" + "   |" * columns, "|" + " - |" * columns)
            continue
        yield "| " + " | ".join(re.split(r"  +", line.strip(), maxsplit=columns - 1)) + " |" if inside else line


class DocstringLinks(griffe.Extension):
    """Convert the docstrings of all objects."""

    def __init__(self) -> None:
        super().__init__()
        self.names = full_names()
        self.full = set(self.names.values())

    def target(self, name: str) -> str | None:
        """Return the full name of a public name, which can be written with and without its package."""
        if name in self.full:
            return name
        return self.names.get(name.removeprefix("kalmanssl."))

    def link(self, match: re.Match[str]) -> str:
        """Return the link of a name, or the text as it was if it is not public."""
        name = match[1]
        target = self.target(name)
        if target is not None:
            return f"[`{name}`][{target}]"
        owner, _, attribute = name.rpartition(".")
        target = self.target(owner)
        if target is not None:  # a method, or an attribute that may be described by its class alone
            return f'<autoref optional identifier="{target}.{attribute}"><code>{name}</code></autoref>'
        return match[0]

    def edit(self, line: str) -> str:
        """Edit a line of prose."""
        line = PRIME.sub(lambda match: match[1] or r"'\_", re.sub(r"::$", ":", line))
        return NAME.sub(self.link, line)

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Edit the docstring of an object."""
        if not obj.docstring:
            return
        lines = convert_tables(fence_examples(obj.docstring.value.splitlines()))
        in_code, edited = False, []
        for line in lines:
            in_code ^= line.lstrip().startswith("```")
            edited.append(line if in_code else self.edit(line))
        obj.docstring.value = "\n".join(edited)
