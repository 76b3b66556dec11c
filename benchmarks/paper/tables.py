"""Tables of the page: ours beside the published number and the baseline, with a verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pages import mean_and_sd
from results_store import Results

from paper.item import MET, MISSED, Item, Rows, Target, judge, values_of
from paper.jobs import rows_of

__all__ = ["COLUMNS", "OVERVIEW_COLUMNS", "command", "item_table", "overview"]

COLUMNS = ("figure", "ours", "seeds", "published", "source", "baseline", "verdict", "remark")
OVERVIEW_COLUMNS = ("item", "in the paper", "met", "not met", "no published number", "CPU minutes", "command")


def command(item: Item, preset: str) -> str:
    """Return the command that makes an item alone."""
    return f"kalmanssl bench paper --preset {preset} --only {item.name}"


def item_table(item: Item, results: Results) -> list[tuple[str, ...]]:
    """Return the heading and the rows of the table of an item; empty without results."""
    rows = rows_of(item, results)
    lines = [
        _line(target, rows, sum("collapsed" in row for row in results.of(target.part)))
        for target in item.targets
        if values_of(rows, target.part, target.figure)
    ]
    lines += [
        (f"{row['part']}, seed {row['seed']}", "", "", "", "", "", end, row[end])
        for part in item.parts
        for row in results.of(part.name)
        for end in ("failed", "collapsed")
        if end in row
    ]
    return [COLUMNS, *lines] if lines else []


def _line(target: Target, rows: Rows, collapsed: int) -> tuple[str, ...]:
    """Return the row of one published number; `collapsed` is the number of further seeds that collapsed."""
    values = values_of(rows, target.part, target.figure)
    verdict, remark = judge(values, target), target.why
    baseline = ""
    if target.baseline is not None:
        found = values_of(rows, *target.baseline)
        if found:
            baseline = f"{target.baseline[0]}: {mean_and_sd(found)}"
            if target.kind == "at least" and np.mean(values) <= np.mean(found):
                verdict += "; not better than the baseline"
    published = _range(target.published) + (
        f" ({target.kind}, ± {target.tolerance:g})" if target.published is not None else ""
    )
    seeds = f"{len(values)}, {collapsed} collapsed" if collapsed else str(len(values))
    return (target.label, mean_and_sd(values), seeds, published, target.source, baseline, verdict, remark)


def _range(published: float | tuple[float, float] | None) -> str:
    if published is None:
        return "-"
    return f"{published[0]:g} to {published[1]:g}" if isinstance(published, tuple) else f"{published:g}"


def overview(items: Sequence[Item], results: Results) -> list[tuple[str, ...]]:
    """Return the heading and a row for each item with results: counts of the verdicts, time, and command."""
    lines: list[tuple[str, ...]] = [OVERVIEW_COLUMNS]
    for item in items:
        rows = rows_of(item, results)
        verdicts = [judge(v, t) for t in item.targets if (v := values_of(rows, t.part, t.figure))]
        if verdicts:
            counts = [sum(v == MET for v in verdicts), sum(v == MISSED for v in verdicts)]
            counts.append(len(verdicts) - sum(counts))
            minutes = sum(row.get("cpu_s", 0.0) for found in rows.values() for row in found) / 60
            preset = results.settings["preset"]
            lines.append((item.title, item.figure, *map(str, counts), f"{minutes:.1f}", command(item, preset)))
    return lines
