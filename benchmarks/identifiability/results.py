"""Results on disk: one JSON file, rewritten after every run, so that a suite can be stopped and started again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from identifiability.experiment import Experiment, Setting
from identifiability.measures import Row
from kalmanssl.errors import InputError

__all__ = ["Results", "settings_of"]

Key = tuple[str, str, int]


def settings_of(preset: str, experiments: Iterable[Experiment]) -> dict[str, Any]:
    """What all rows of a file must have in common: the preset, and the data, models and training it stands for."""
    plans = {
        one.name: {
            "data": dict(one.data),
            **asdict(one.sizes[preset]),
            "settings": {s.name: _described(s, preset) for s in one.settings},
        }
        for one in experiments
    }
    return {"preset": preset, "experiments": plans}


def _described(setting: Setting, preset: str) -> dict[str, Any]:
    described: dict[str, Any] = {"data": dict(setting.data)}
    if preset in setting.plans:
        described["plan"] = asdict(setting.plans[preset])
    if is_dataclass(setting.make):
        described["model"] = repr(setting.make)
    return described


class Results:
    """Rows by experiment, setting and seed.

    Parameters
    ----------
    folder : Path
        New, empty, or begun with the same settings.
    settings : dict
        See `settings_of`.
    machine : dict
        Facts about the machine, kept beside.

    Raises
    ------
    InputError
        If the folder holds other files, results of other settings, or a file that is no set of results.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], machine: dict[str, Any]) -> None:
        self.path, self.settings, self.machine = folder / "results.json", settings, machine
        self.rows: dict[Key, Row] = {}
        if self.path.exists():
            self._read()
        elif folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} holds other files: give an empty or a new folder with --out")
        folder.mkdir(parents=True, exist_ok=True)

    def _read(self) -> None:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            began, rows = found["settings"], found["results"]
            known = {(row["experiment"], row["setting"], row["seed"]): row for row in rows}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{self.path} is no file of results ({error}): give another --out") from error
        if began != json.loads(json.dumps(self.settings)):
            raise InputError(
                f"{self.path} holds results of other settings (preset {began.get('preset')!r}, or the same with other "
                "data or training): give another --out"
            )
        self.rows = known

    def lacks(self, key: Key) -> bool:
        """Whether this is still to be run, because it is new or has failed."""
        return key not in self.rows or "failed" in self.rows[key]

    def add(self, row: Row) -> None:
        """Keep a row, in place of an earlier one of the same key, and write the file."""
        self.rows[row["experiment"], row["setting"], row["seed"]] = _finite(row)
        whole = {"settings": self.settings, "machine": self.machine, "results": list(self.rows.values())}
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(whole) + "\n", encoding="utf-8")
        os.replace(beside, self.path)

    def of(self, experiment: str, setting: str) -> list[Row]:
        """Rows of all seeds."""
        return [row for (e, s, _), row in self.rows.items() if (e, s) == (experiment, setting)]


def _finite(value: Any) -> Any:
    """Make NaN and infinity null, which is all that JSON has for them."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
