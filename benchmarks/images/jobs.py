"""A run as a job for a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from kept import Row

from images import baselines, categories, experiment, timing
from images.combinations import COMBINATIONS, combination
from images.data import load
from images.presets import PRESETS, Preset

__all__ = ["Job", "all_jobs", "prepare", "work"]


class Job(NamedTuple):
    """One run: its key among the results, and where things are."""

    part: str
    combination: str
    seed: int
    preset: str
    out: Path
    data: Path | None


def all_jobs(preset: str, out: Path, data: Path | None, seeds: int | None) -> list[Job]:
    """Return all that the suite does; `seeds` is how many, as the preset has if not given."""
    plan = PRESETS[preset]
    parts: list[tuple[str, list[str], int]] = [
        ("baselines", list(baselines.BASELINES), 1),  # random weights alone have a seed, and one is enough
        ("combinations", list(COMBINATIONS), seeds or plan.seeds),
        ("categories", list(categories.CATEGORIES), seeds or plan.seeds),
        ("timing", list(timing.TIMED), 1),
    ]
    return [
        Job(part, name, seed, preset, out, data)
        for part, names, count in parts
        for seed in range(count)
        for name in names
    ]


def prepare(jobs: list[Job]) -> None:
    """Decode the images that jobs need before several of them do so at once.

    Raises
    ------
    InputError
        If images are not there.
    """
    for job in {job.part: job for job in jobs}.values():
        plan: Preset = PRESETS[job.preset]
        if job.part in ("baselines", "combinations"):
            load(plan.data, plan.train, plan.test, job.out, job.data)
        elif job.part == "categories":
            load(plan.categories.data, plan.categories.train, plan.categories.test, job.out)


def work(job: Job, say: Callable[[Row], None]) -> Row:
    """Run one job; a process of its own may do so."""
    torch.set_num_threads(1)  # several at once would only wait for each other
    plan = PRESETS[job.preset]
    if job.part == "baselines":
        return baselines.run(job.combination, plan, job.seed, job.out, job.data)
    if job.part == "categories":
        return categories.run(job.combination, plan.categories, job.seed, job.out)
    if job.part == "timing":
        return timing.run(job.combination)
    return experiment.run(combination(job.combination), plan, job.seed, job.out, job.data, say)
