"""Pages of reports in tests: the run that they show, and what they contain."""

from __future__ import annotations

import html as markup
import re
from dataclasses import replace
from html.parser import HTMLParser

from kalmanssl.datasets import place_cells
from kalmanssl.runs import Run

SECTIONS = [
    "decoded",
    "scores",
    "errors",
    "latents",
    "assumptions",
    "noise",
    "dynamics",
    "training",
    "settings",
    "notes",
]


def sections_of(run):
    """Return the sections that the page must have; alarms come first, if there are any."""
    return [*(["alarms"] if run.evaluation.alarms else []), *SECTIONS]


class Outline(HTMLParser):
    """The ids, sections and figures of a page; every tag must be closed."""

    void = frozenset({"meta", "br", "img", "link", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.sections: list[str] = []
        self.figures: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "section":
            self.sections.append(found["id"])
        if tag == "svg":
            self.figures.append(found.get("aria-label", ""))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def simulated():
    return place_cells(n_units=20, n_interneurons=0, duration=240.0).split(at=3780.0)


def assumptions_of(html):
    """Return the paragraphs of the section on assumptions, and the rows of its table, as text."""
    section = re.search(r'<section id="assumptions">.*?</section>', html, flags=re.DOTALL).group()

    def text_of(tag):
        found = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", section, flags=re.DOTALL)
        return [markup.unescape(re.sub(r"<[^>]*>", "", part)).strip() for part in found]

    cells = text_of("td")
    return text_of("p"), [tuple(cells[i : i + 3]) for i in range(0, len(cells), 3)]


def with_assumptions(run, assumptions):
    return Run(run.settings, run.model, run.decoder, run.metadata, replace(run.evaluation, assumptions=assumptions))
