"""Results of a suite: rows in one JSON file that is rewritten after every row, so that a stopped run can be resumed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kalmanssl.errors import InputError

__all__ = ["Results", "Row", "extends"]

Row = dict[str, Any]


class Results:
    """The rows in `results.json` of a folder, each identified by some of its entries.

    Parameters
    ----------
    folder : Path
        New, empty, or begun with the same settings.
    settings : dict
        What all rows have in common, including `preset`. Those below the first level may have entries that a file was
        begun without, such as a new experiment.
    machine : dict
        Facts about the machine, stored with the rows.
    key : sequence of str
        Entries that identify a row; an entry that a row does not have counts as None.
    other_files : sequence of str
        Patterns of other files that the suite stores in the folder.
    overwrite : bool
        Whether rows of an earlier run count as pending and are replaced when they have been run again.

    Attributes
    ----------
    rows : dict
        Rows by their key.
    extra : dict
        Further entries of the file, next to `settings`, `machine` and `results`.

    Raises
    ------
    InputError
        If the folder has other files, results of other settings, or a `results.json` that cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        machine: dict[str, Any],
        key: Sequence[str],
        other_files: Sequence[str] = (),
        *,
        overwrite: bool = False,
    ) -> None:
        self.path, self.settings, self.machine, self.key = folder / "results.json", settings, machine, tuple(key)
        self.rows: dict[tuple[Any, ...], Row] = {}
        self.extra: dict[str, Any] = {}
        self._replaced: set[tuple[Any, ...]] = set()
        if self.path.exists():
            self._read()
            self._replaced = set(self.rows) if overwrite else set()
        elif folder.exists() and any(not any(file.match(p) for p in other_files) for file in folder.iterdir()):
            raise InputError(f"{folder} has other files: give an empty or a new folder with --out", parameter="out")
        folder.mkdir(parents=True, exist_ok=True)

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            settings, rows = content["settings"], {self.key_of(row): row for row in content["results"]}
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.path} is not a file of results ({error}): give another --out", parameter="out"
            ) from error
        current = json.loads(json.dumps(self.settings))
        if set(settings) != set(current) or not extends(current, settings):
            raise InputError(
                f"{self.path} has results of other settings (preset {settings.get('preset')!r}, or the same preset "
                "with other data or training): give another --out",
                parameter="out",
            )
        self.rows = rows

    def key_of(self, row: Row) -> tuple[Any, ...]:
        """Return the entries that identify a row."""
        values = (row.get(name) for name in self.key)
        return tuple(tuple(value) if isinstance(value, list) else value for value in values)

    def is_pending(self, *key: Any) -> bool:
        """Return whether a row is still to be computed: it is new, failed, or is to be overwritten."""
        return key not in self.rows or key in self._replaced or "failed" in self.rows[key]

    def add(self, row: Row) -> None:
        """Store a row, in place of an earlier one of the same key, and write the file."""
        key = self.key_of(row)
        self.rows[key] = _finite(row)
        self._replaced.discard(key)
        self.write()

    def write(self) -> None:
        """Write the file; NaN and infinity become null, since JSON has no other word for them."""
        content = {"settings": self.settings, "machine": self.machine, **self.extra, "results": [*self.rows.values()]}
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(_finite(content)) + "\n", encoding="utf-8")
        os.replace(temporary, self.path)

    def of(self, *key: Any) -> list[Row]:
        """Return the rows whose key begins with these entries, including those that failed."""
        return [row for known, row in self.rows.items() if known[: len(key)] == key]

    def good(self, *key: Any) -> list[Row]:
        """Return the rows whose key begins with these entries, without those that failed."""
        return [row for row in self.of(*key) if "failed" not in row]


def extends(new: Any, stored: Any) -> bool:
    """Return whether settings have all entries of stored ones, with the same values."""
    if isinstance(new, dict) and isinstance(stored, dict):
        return all(name in new and extends(new[name], value) for name, value in stored.items())
    return bool(new == stored)


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by None."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
