"""Rows on disk, each by what it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kept import Lines, Row, finite

from kalmanssl.errors import InputError

__all__ = ["Folder", "key_of"]


def key_of(row: Row) -> tuple[Any, ...]:
    """What a row is about; a later row replaces an earlier one."""
    if "case" in row:
        return row["method"], row["case"], row["noise"]
    return row["method"], tuple(row["size"]), row["noise"], row["task"]


class Folder:
    """Rows on disk, appended as they come.

    Parameters
    ----------
    path : Path
        New, empty, or begun with the same settings.
    settings : dict
        What rows must have in common to stand in one table.
    overwrite : bool
        Whether rows that are measured again replace those that are there.

    Raises
    ------
    InputError
        If the folder holds other files, or results of other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any], *, overwrite: bool) -> None:
        self.path, self.settings, self.overwrite = path, settings, overwrite
        self._lines = Lines(path)
        if self._lines.settings not in (None, settings):
            raise InputError(f"{path} holds results of other settings (settings.json): give another --out")
        self.rows = {key_of(row): row for row in self._lines.rows}
        self._fresh: set[tuple[Any, ...]] = set()
        self._lines.begin(settings, self.rows.values())

    def lacks(self, key: tuple[Any, ...]) -> bool:
        """Whether this is still to be measured, because it is new, failed or is to be overwritten."""
        if self.overwrite:
            return key not in self._fresh
        return key not in self.rows or "failed" in self.rows[key]

    def add(self, rows: list[Row]) -> None:
        """Keep the rows that were lacking."""
        for row in rows:
            key = key_of(row)
            if self.lacks(key):
                self._fresh.add(key)
                self.rows[key] = finite(row)
                self._lines.add(self.rows[key])
