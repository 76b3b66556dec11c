"""Presets, the choice of methods, and the list of everything that is timed."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

from filter.figure import SWEEPS, SWEPT
from filter.methods import METHODS, OURS
from filter.problems import NOISES, TASKS, Cell, Size
from kalmanssl.errors import InputError

__all__ = ["PRESETS", "Part", "Preset", "choose_methods", "plan"]


class Part(StrEnum):
    """Parts of the benchmark."""

    sizes = "sizes"
    sweep = "sweep"
    accuracy = "accuracy"


class Preset(NamedTuple):
    """Amount of work."""

    sizes: tuple[Size, ...]
    repeats: int
    limit_s: float  # of one call, in wall seconds
    swept: tuple[str, ...]  # methods of the sweep
    swept_work: float  # largest `Size.work` of the sweep
    left_out: tuple[str, ...]  # methods that run only if they are named


PRESETS = {
    "full": Preset(
        (Size(8, 100, 10, 5), Size(32, 100, 2, 2), Size(32, 400, 16, 8), Size(128, 400, 16, 8), Size(1, 65000, 16, 8)),
        repeats=9,
        limit_s=400.0,
        swept=SWEPT,
        swept_work=math.inf,
        left_out=(),
    ),
    "quick": Preset(
        (Size(4, 50, 4, 2),),
        repeats=3,
        limit_s=60.0,
        swept=(OURS, "careful loop"),
        swept_work=8 * 100 * 8,
        left_out=("kalmanssl, 2 threads", "dynamax, associative scan", "dynamax, diagonal noise"),
    ),
}


def choose_methods(parts: list[str] | None, preset: Preset) -> list[str]:
    """Return the methods with one of these names or, if there is no such name, with this in their name."""
    if not parts:
        return [name for name in METHODS if name not in preset.left_out]
    chosen: dict[str, None] = {}
    for part in parts:
        found = [part] if part in METHODS else [name for name in METHODS if part.lower() in name.lower()]
        if not found:
            raise InputError(f"--methods {part}: there are {'; '.join(METHODS)}", parameter="methods")
        chosen |= dict.fromkeys(found)
    return [name for name in METHODS if name in chosen]


def plan(sizes: list[Size], methods: list[str], preset: Preset, parts: set[Part]) -> list[tuple[Cell, list[str]]]:
    """Return all problems to time in order, each with its methods."""
    cells = []
    if Part.sizes in parts:
        timed = [name for name in methods if METHODS[name].timed]
        cells = [(Cell(size, noise, task), timed) for size in sizes for noise in NOISES for task in TASKS]
    if Part.sweep in parts:
        swept = [name for name in preset.swept if name in methods]
        every = dict.fromkeys(size for one in SWEEPS.values() for size in one if size.work <= preset.swept_work)
        cells += [(Cell(size, "varying", "gradients"), swept) for size in every]
    return cells
