"""A run as a job for a process of its own, and models of somebody else."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from kept import Row

from identifiability.catalog import EXPERIMENTS
from identifiability.experiment import Experiment, Make, Setting, run
from identifiability.runner import Plan
from kalmanssl.errors import InputError

__all__ = ["Job", "load_model", "with_model", "work"]


class Job(NamedTuple):
    """One run; `model` is a user's model, FILE.py:FUNCTION, that its experiment has beside its own."""

    experiment: str
    setting: str
    seed: int
    preset: str
    model: str | None


def load_model(where: str) -> Make:
    """Return the maker of a user's model, given as FILE.py:FUNCTION."""
    file, _, name = where.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise InputError(f"--model {where}: expected FILE.py:FUNCTION of a file that is there")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--model {where}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    make = getattr(module, name, None)
    if not callable(make):
        raise InputError(f"--model {where}: {path} has no function {name!r}")

    def checked(dims: int, plan: Plan, seed: int) -> Any:
        model = make(dims, seed)
        for method in ("fit", "transform"):
            if not callable(getattr(model, method, None)):
                raise InputError(
                    f"--model {where}: it returned a {type(model).__name__}, which has no {method}(videos)"
                )
        return model

    return checked


def with_model(experiment: Experiment, where: str) -> Experiment:
    """Add a user's model to each kind of data of an experiment."""
    make = load_model(where)
    name = where.rpartition(":")[2]
    kinds: list[dict[str, Any]] = []
    for setting in experiment.settings:
        if dict(setting.data) not in kinds:
            kinds.append(dict(setting.data))
    own = [Setting(", ".join([name, *(f"{key} {value}" for key, value in kind.items())]), make, kind) for kind in kinds]
    return replace(experiment, settings=(*experiment.settings, *own))


def work(job: Job, say: Callable[[Row], None]) -> Row:
    """Run one job; a process of its own may do so."""
    torch.set_num_threads(1)  # several at once would only wait for each other
    experiment = EXPERIMENTS[job.experiment]
    if job.model is not None:
        experiment = with_model(experiment, job.model)
    return run(experiment, experiment.setting(job.setting), job.preset, job.seed, say)
