"""Results of a suite, kept as they come so that a run can be stopped and goes on: in one file, or line by line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kalmanssl.errors import InputError

__all__ = ["Lines", "Results", "Row", "finite"]

Row = dict[str, Any]


class Results:
    """Rows of results by what identifies them, in `results.json` of a folder.

    Parameters
    ----------
    folder : Path
        New, empty, or begun with the same settings.
    settings : dict
        What all rows have in common, `preset` among it.
    machine : dict
        Facts about the machine, kept beside.
    key : sequence of str
        Entries of a row that identify it.
    beside : sequence of str
        Patterns of other files that the suite keeps in the folder.

    Raises
    ------
    InputError
        If the folder holds other files, results of other settings, or a file that is no set of results.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        machine: dict[str, Any],
        key: Sequence[str],
        beside: Sequence[str] = (),
    ) -> None:
        self.path, self.settings, self.machine, self.key = folder / "results.json", settings, machine, tuple(key)
        self.rows: dict[tuple[Any, ...], Row] = {}
        if self.path.exists():
            self._read()
        else:
            _refuse_other_files(folder, beside)
        folder.mkdir(parents=True, exist_ok=True)

    def _read(self) -> None:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            began, known = found["settings"], {self._key(row): row for row in found["results"]}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{self.path} is no file of results ({error}): give another --out") from error
        if began != json.loads(json.dumps(self.settings)):
            raise InputError(
                f"{self.path} holds results of other settings (preset {began.get('preset')!r}, or the same with other "
                "data or training): give another --out"
            )
        self.rows = known

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.key)

    def lacks(self, *key: Any) -> bool:
        """Whether this is still to be run, because it is new or has failed."""
        return key not in self.rows or "failed" in self.rows[key]

    def add(self, row: Row) -> None:
        """Keep a row, in place of an earlier one of the same key, and write the file."""
        self.rows[self._key(row)] = finite(row)
        whole = {"settings": self.settings, "machine": self.machine, "results": list(self.rows.values())}
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(whole) + "\n", encoding="utf-8")
        os.replace(beside, self.path)

    def of(self, *key: Any) -> list[Row]:
        """Rows whose key begins so, those that failed included."""
        return [row for known, row in self.rows.items() if known[: len(key)] == key]

    def good(self, *key: Any) -> list[Row]:
        """Rows whose key begins so, without those that failed."""
        return [row for row in self.of(*key) if "failed" not in row]


class Lines:
    """Rows of results, a line of `results.jsonl` each, and the settings that they have in common (`settings.json`).

    `settings` is None in a folder that is not begun; `damaged` says that a line was left out, such as the last one of
    a run that was killed. An `InputError` says if the folder, which may be new, holds other files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.card = folder, folder / "results.jsonl", folder / "settings.json"
        if not self.card.exists():
            _refuse_other_files(folder)
        self.settings: dict[str, Any] | None = json.loads(self.card.read_text()) if self.card.exists() else None
        self.rows: list[Row] = []
        self.damaged = False
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                self.rows.append(json.loads(line))
            except json.JSONDecodeError:
                self.damaged = True

    def begin(self, settings: dict[str, Any], rows: Iterable[Row]) -> None:
        """Make the folder, with these settings and the rows that stay."""
        self.rows = list(rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.card.write_text(json.dumps(settings, indent=2) + "\n")
        self.path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, row: Row) -> None:
        """Keep a row behind the others."""
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def _refuse_other_files(folder: Path, beside: Sequence[str] = ()) -> None:
    if folder.exists() and any(not any(one.match(name) for name in beside) for one in folder.iterdir()):
        raise InputError(f"{folder} holds other files: give an empty or a new folder with --out")


def finite(value: Any) -> Any:
    """Make NaN and infinity null, which is all that JSON has for them."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
