"""What identifies a row of results, and what all rows of a file have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from kept import Results

from identifiability.experiment import Experiment, Setting

__all__ = ["open_results", "settings_of"]


def settings_of(preset: str, experiments: Iterable[Experiment]) -> dict[str, Any]:
    """Return what all rows of a file have in common: the preset, and the data, models and training it stands for."""
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


def open_results(folder: Path, settings: dict[str, Any], machine: dict[str, Any]) -> Results:
    """Open, or begin, the results of a folder; an `InputError` says why it cannot be used."""
    return Results(folder, settings, machine, key=("experiment", "setting", "seed"))
