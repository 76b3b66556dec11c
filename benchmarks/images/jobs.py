"""The runs of the suite as jobs, and the file of their results."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from parallel import Logger
from results_store import Results, Row

from images import baselines, categories, experiment, timing
from images.combinations import COMBINATIONS
from images.data import load
from images.presets import PRESETS

__all__ = ["Job", "all_jobs", "decode_images", "open_results", "settings_of", "work"]


class Job(NamedTuple):
    """One run: its key among the results, the preset, and the folders of the results and of the images."""

    part: str
    combination: str
    seed: int
    preset: str
    out: Path
    data: Path | None


def all_jobs(preset: str, out: Path, data: Path | None, seeds: int | None) -> list[Job]:
    """Return all runs of a preset; `seeds` is their number, by default that of the preset."""
    plan = PRESETS[preset]
    parts: list[tuple[str, list[str], int]] = [
        ("baselines", list(baselines.BASELINES), 1),  # only "random weights" depends on a seed, and one is enough
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


def decode_images(jobs: list[Job]) -> None:
    """Decode the images that the jobs need, before several processes would do it at the same time.

    Raises
    ------
    InputError
        If the images are not found.
    """
    for job in {job.part: job for job in jobs}.values():
        plan = PRESETS[job.preset]
        if job.part in ("baselines", "combinations"):
            load(plan.data, plan.train, plan.test, job.out, job.data)
        elif job.part == "categories":
            load(plan.categories.data, plan.categories.train, plan.categories.test, job.out)


def work(job: Job, logger: Logger) -> Row:
    """Run one job."""
    torch.set_num_threads(1)
    plan = PRESETS[job.preset]
    if job.part == "baselines":
        return baselines.run(job.combination, plan, job.seed, job.out, job.data)
    if job.part == "categories":
        return categories.run(job.combination, plan.categories, job.seed, job.out)
    if job.part == "timing":
        return timing.run(job.combination)
    return experiment.run(COMBINATIONS[job.combination], plan, job.seed, job.out, job.data, logger)


def settings_of(preset: str) -> dict[str, Any]:
    """Return what all rows of a file have in common: the preset and the arguments of every recipe."""
    plan = PRESETS[preset]
    recipes = {name: {"recipe": one.recipe, **plan.arguments(one)} for name, one in COMBINATIONS.items()}
    return {"preset": preset, "plan": asdict(plan), "recipes": recipes}


def open_results(folder: Path, settings: dict[str, Any], machine: dict[str, Any]) -> Results:
    """Open the results of a folder, or begin them. Decoded images and features are stored next to them."""
    return Results(folder, settings, machine, ("part", "combination", "seed"), ("*.npz", "features"))
