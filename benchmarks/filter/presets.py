"""How much is measured: what a preset means, which methods are asked for, and what is timed of whom."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

from kalmanssl.errors import InputError

from .figure import SWEEPS, SWEPT
from .methods import METHODS, OURS
from .problems import NOISES, TASKS, Cell, Size

__all__ = ["PRESETS", "Part", "Preset", "choose_methods", "plan"]


class Part(StrEnum):
    """What is measured."""

    sizes = "sizes"
    sweep = "sweep"
    accuracy = "accuracy"


class Preset(NamedTuple):
    """What a preset means."""

    sizes: tuple[Size, ...]
    repeats: int
    limit_s: float  # of one call, wall
    swept: tuple[str, ...]
    swept_work: float  # `Size.work` of the largest
    left_out: tuple[str, ...]


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


def choose_methods(asked: list[str] | None, preset: Preset) -> list[str]:
    """Names that are asked for: in full, or else a part that several may have."""
    if not asked:
        return [name for name in METHODS if name not in preset.left_out]
    chosen: dict[str, None] = {}
    for part in asked:
        found = [part] if part in METHODS else [name for name in METHODS if part.lower() in name.lower()]
        if not found:
            raise InputError(f"--methods {part}: there are {'; '.join(METHODS)}")
        chosen |= dict.fromkeys(found)
    return [name for name in METHODS if name in chosen]


def plan(sizes: list[Size], methods: list[str], preset: Preset, parts: set[Part]) -> list[tuple[Cell, list[str]]]:
    """All that is to be timed, in order, and of whom."""
    todo = []
    if Part.sizes in parts:
        timed = [name for name in methods if METHODS[name].timed]
        todo = [(Cell(size, noise, task), timed) for size in sizes for noise in NOISES for task in TASKS]
    if Part.sweep in parts:
        swept = [name for name in preset.swept if name in methods]
        every = dict.fromkeys(size for one in SWEEPS.values() for size in one if size.work <= preset.swept_work)
        todo += [(Cell(size, "varying", "gradients"), swept) for size in every]
    return todo
