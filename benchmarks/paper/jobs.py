"""The runs of the suite as jobs, and the file of their results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measure import Stopwatch
from parallel import Logger
from results_store import Results, Row

from kalmanssl.errors import CollapseError, InputError, first_line
from paper.item import PRESETS, Item, Part, Rows
from paper.items import ITEMS

__all__ = ["Job", "chosen_items", "jobs_of", "open_results", "parts_of", "rows_of", "work"]


class Job(NamedTuple):
    """One run: its key among the results, and the preset."""

    part: str
    seed: int
    preset: str


def chosen_items(names: Sequence[str] | None) -> list[Item]:
    """Return the items of these names, all of them without names.

    Raises
    ------
    InputError
        If there is no item of a name.
    """
    for name in names or ():
        if name not in ITEMS:
            raise InputError(f"--only {name}: there is no such item; choose from {', '.join(ITEMS)}", parameter="only")
    return [item for name, item in ITEMS.items() if not names or name in names]


def parts_of(items: Iterable[Item]) -> dict[str, Part]:
    """Return the parts of items by name; a part that several items use is listed once."""
    return {part.name: part for item in items for part in item.parts}


def jobs_of(items: Iterable[Item], preset: str, results: Results, seeds: int | None = None) -> list[Job]:
    """Return the runs that are still to be done: the first seed of all parts first, and long runs last."""
    parts = list(parts_of(items).values())
    jobs = [
        (part, seed)
        for long in (False, True)
        for seed in range(seeds or PRESETS[preset])
        for part in parts
        if part.long == long and seed < part.n_seeds(preset, seeds)
    ]
    return [Job(part.name, seed, preset) for part, seed in jobs if _is_pending(part, seed, preset, results)]


def _is_pending(part: Part, seed: int, preset: str, results: Results) -> bool:
    """Return whether a run is new, failed, or was made with other settings."""
    if results.is_pending(part.name, seed):
        return True
    return bool(results.rows[part.name, seed].get("settings") != _settings(part, preset))


def _settings(part: Part, preset: str) -> Any:
    """Return the settings of a part as they are read from JSON."""
    return json.loads(json.dumps(part.settings.get(preset)))


def work(job: Job, logger: Logger) -> Row:
    """Run one job; a run that fails returns the reason, so that the others continue.

    A collapse of the latents is a result, and such a run is not made again.
    """
    torch.set_num_threads(1)
    part = parts_of(ITEMS.values())[job.part]
    row: Row = {"part": part.name, "seed": job.seed, "settings": _settings(part, job.preset)}
    with Stopwatch() as stopwatch:
        try:
            found = part.run(job.preset, job.seed, lambda step: logger(step | {"part": part.name, "seed": job.seed}))
        except CollapseError as error:
            return row | {"collapsed": first_line(error)}
        except Exception as error:
            return row | {"failed": f"{type(error).__name__}: {first_line(error)}"}
    return row | {"cpu_s": stopwatch.cpu} | found


def open_results(folder: Path, preset: str, machine: dict[str, Any]) -> Results:
    """Open the results of a folder, or begin them."""
    return Results(folder, {"preset": preset}, machine, ("part", "seed"), ("page.html",))


def rows_of(item: Item, results: Results) -> Rows:
    """Return the rows of an item that did not fail or collapse, by the name of the part."""
    found = {part.name: [row for row in results.good(part.name) if "collapsed" not in row] for part in item.parts}
    return {name: sorted(rows, key=lambda row: row["seed"]) for name, rows in found.items() if rows}
