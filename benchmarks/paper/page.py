"""The page of the results: an overview, and a section for each item with its table and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pages import Section, write_page
from results_store import Results

from paper.item import Item
from paper.jobs import jobs_of, rows_of
from paper.tables import command, item_table, overview

__all__ = ["write_paper_page"]

INTRODUCTION = (
    'The figures and tables of "Understanding Self-Supervised Learning via Latent Distribution Matching" (Mikulasch & '
    "Zenke 2026, arXiv 2605.03517), made again.",
    "Ours: mean ± standard deviation over seeds. Met: the mean is at least (at most, equal to) the published number, "
    "up to the tolerance of the row (±) or twice the standard deviation over seeds if that is larger, but no more "
    "than two tolerances, so that a fit that fails counts. Collapsed: training stopped since all latents carried the "
    "same signal; such a seed is named and is not part of the mean.",
    "Sources of published numbers: text (the paper's text), table (its tables), notebook (output of a published "
    "notebook), plot (read off a plot), re-run (the published code or its equations were run again; not a number of "
    "the paper), theorem (what the theorem says). Baseline: random weights, principal components, or another linear "
    "method on the same data.",
)


def write_paper_page(items: Sequence[Item], results: Results, path: Path) -> None:
    """Write all items that have results as one page."""
    preset = results.settings["preset"]
    first = [*INTRODUCTION, f"Preset {preset}. All of it: kalmanssl bench paper --preset {preset}"]
    pending = len(jobs_of(items, preset, results))
    if pending:
        first.append(f"{pending} runs are still to be made (further seeds, failed runs); the same command makes them.")
    sections = [Section(text=first, table=overview(items, results))]
    for item in items:
        rows, table = rows_of(item, results), item_table(item, results)
        if not table:
            continue
        sources = dict.fromkeys(part.source for part in item.parts if part.source and part.name in rows)
        text = [f"In the paper: {item.shown}", f"Found: {item.summary(rows)}", *sources]
        text.append(f"Command: {command(item, preset)}")
        sections.append(
            Section(f"{item.figure}: {item.title}", [t for t in text if t != "Found: "], table, item.draw(rows))
        )
    write_page(path, "The paper, made again", sections)
