"""Rows that other suites have stored in the repository, for runs that are too expensive to be made again here."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from parallel import Logger
from results_store import Row
from suite import RESULTS

from kalmanssl.errors import InputError
from paper.item import Part

__all__ = ["stored_part", "stored_rows", "stored_settings"]


@cache
def _content(folder: str) -> dict[str, Any]:
    path = RESULTS / folder / "results.json"
    if not path.is_file():
        raise InputError(f"{path} does not exist: run the suite first, see benchmarks/README.md", parameter="results")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def stored_rows(folder: str, **key: Any) -> list[Row]:
    """Return the stored rows with these entries that did not fail, sorted by seed."""
    rows = [row for row in _content(folder)["results"] if all(row.get(name) == value for name, value in key.items())]
    return sorted((row for row in rows if "failed" not in row), key=lambda row: row.get("seed", 0))


def stored_settings(folder: str) -> dict[str, Any]:
    """Return the settings of stored results."""
    return dict(_content(folder)["settings"])


def stored_part(name: str, folder: str, command: str, pick: Callable[[Row], Row], n_seeds: int, /, **key: Any) -> Part:
    """Return a part whose rows are read from the results of another suite, one for each stored seed.

    Parameters
    ----------
    name, folder : str
        Name of the part, and folder below `benchmarks/results`.
    command : str
        Command that made the results, for the page.
    pick : callable
        Returns flat numbers, and optionally `drawn`, from a stored row.
    n_seeds : int
        Number of stored seeds.
    **key
        Entries of the rows.
    """

    def run(preset: str, seed: int, logger: Logger | None) -> Row:
        rows = stored_rows(folder, **key, seed=seed)
        if not rows:
            raise InputError(f"{folder} has no row of {key} with seed {seed}: run {command}", parameter="results")
        return pick(rows[0])

    described = f"Rows stored in benchmarks/results/{folder}, made by: {command}"
    return Part(name, run, seeds=n_seeds, source=described)
