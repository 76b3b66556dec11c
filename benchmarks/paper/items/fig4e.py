"""Fig. 4E-G: laps of a rat on a track as rotations of the latents."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from results_store import Row

from paper.drawing import bars, panels
from paper.item import Item, Rows, Target
from paper.stored import stored_part, stored_rows

__all__ = ["ITEM"]

COMMAND = "kalmanssl bench decoding ring --data FOLDER"
KEYS = (
    "position_r2",
    "spectral_radius",
    "period",
    "lap_time",
    "turns_per_lap",
    "one_turn_laps",
    "phase_r2",
    "radius_variation",
)
MODELS = [(name, bins) for name in ("LDM paper", "default") for bins in ("running", "all")]


def _pick(row: Row) -> Row:
    return {key: float(row[key]) for key in KEYS if row.get(key) is not None}


def _label(name: str, bins: str) -> str:
    return f"ring: {name}, {bins} bins"


PARTS = tuple(
    stored_part(_label(name, bins), "ring", COMMAND, _pick, 3, name=name, fitted_on=bins) for name, bins in MODELS
)


def _targets(name: str, bins: str) -> list[Target]:
    part = _label(name, bins)
    why = "The paper shows the circle and gives no number that we have."
    if bins == "all":
        why += " Bins at rest are most of the recording, and the slowest rotation need not be that of the laps."
    figures = {
        "position_r2": "R² of the position",
        "turns_per_lap": "turns per lap",
        "one_turn_laps": "share of laps with one turn",
        "phase_r2": "R² of the phase from the position",
        "radius_variation": "variation of the radius",
    }
    return [Target(f"{name}, fitted on {bins} bins: {text}", part, figure, why=why) for figure, text in figures.items()]


def _draw(rows: Rows) -> list[Figure]:
    figure, axes = panels(4, 4.4, 3.4)
    labels = [(f"{name}, {bins}", _label(name, bins)) for name, bins in MODELS]
    bars(axes[0], rows, [(short, part, "one_turn_laps") for short, part in labels], "share of laps with one turn")
    bars(axes[1], rows, [(short, part, "position_r2") for short, part in labels], "R² of the position")
    for ax, name in zip(axes[2:], ("LDM paper", "default"), strict=True):
        example = _example(name)
        if example is not None:
            real, imaginary, position = (np.array(example[key]) for key in ("real", "imaginary", "position"))
            ax.scatter(real, imaginary, c=position, s=3, cmap="twilight")
            ax.set(aspect="equal")
            ax.set_title(f"{name}, running bins (color: position)", fontsize=8)
    return [figure]


def _example(name: str) -> dict[str, Any] | None:
    found = stored_rows("ring", name=name, fitted_on="running", seed=0)
    return found[0].get("example") if found else None


ITEM = Item(
    name="fig4e",
    figure="Fig. 4E-G",
    title="Laps of a track as rotations",
    shown="The latents of hippocampal activity lie on a circle that a rat goes around once per lap, with almost "
    "linear dynamics, and the covariance of the filter gives intervals of the position.",
    parts=PARTS,
    targets=tuple(target for name, bins in MODELS for target in _targets(name, bins)),
    draw=_draw,
    found="The published recording (running and rest, 45 minutes) and its decoder are not described well enough to "
    "copy. On our part of the recording most laps are one turn of the latents if the model is fitted on running bins, "
    "more of them with our default than with the configuration of the paper. On all bins this configuration finds a "
    "rotation that has nothing to do with laps. Stored rows have no baseline; for decoding beside other methods see "
    "kalmanssl bench decoding accuracy.",
)
