"""What identifies a row of results, and what all rows of a file have in common."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from kept import Results

from images.combinations import COMBINATIONS
from images.presets import PRESETS

__all__ = ["open_results", "settings_of"]

BESIDE = ("*.npz", "features")  # decoded images, and features for the maps


def settings_of(preset: str) -> dict[str, Any]:
    """Return what all rows of a file must have in common: the preset, with every recipe as it is trained."""
    plan = PRESETS[preset]
    recipes = {name: str(plan.recipe(one)) for name, one in COMBINATIONS.items()}
    return {"preset": preset, "plan": asdict(plan), "recipes": recipes}


def open_results(folder: Path, settings: dict[str, Any], machine: dict[str, Any]) -> Results:
    """Open, or begin, the results of a folder; an `InputError` says why it cannot be used."""
    return Results(folder, settings, machine, key=("part", "combination", "seed"), beside=BESIDE)
