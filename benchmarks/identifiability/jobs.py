"""The runs of the suite as jobs, the file of their results, and models of the user."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from parallel import Logger
from results_store import Results, Row

from identifiability.experiment import Experiment, Make, Setting
from identifiability.experiments import EXPERIMENTS
from identifiability.matcher import Plan
from identifiability.run import run
from kalmanssl.errors import InputError

__all__ = ["Job", "open_results", "settings_of", "with_model", "work"]


class Job(NamedTuple):
    """One run; `model` is a model of the user, FILE.py:FUNCTION, that is added to the experiment."""

    experiment: str
    setting: str
    seed: int
    preset: str
    model: str | None


def work(job: Job, logger: Logger) -> Row:
    """Run one job."""
    torch.set_num_threads(1)
    experiment = EXPERIMENTS[job.experiment]
    if job.model is not None:
        experiment = with_model(experiment, job.model)
    return run(experiment, experiment.setting(job.setting), job.preset, job.seed, logger)


def with_model(experiment: Experiment, where: str) -> Experiment:
    """Add a model of the user, FILE.py:FUNCTION, to an experiment: one setting for each kind of data."""
    make = _load_model(where)
    name = where.rpartition(":")[2]
    kinds: list[dict[str, Any]] = []
    for setting in experiment.settings:
        if dict(setting.data) not in kinds:
            kinds.append(dict(setting.data))
    added = [
        Setting(", ".join([name, *(f"{key} {value}" for key, value in kind.items())]), make, kind) for kind in kinds
    ]
    return replace(experiment, settings=(*experiment.settings, *added))


def _load_model(where: str) -> Make:
    """Import the function that makes a model of the user."""
    file, _, name = where.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise InputError(f"--model {where}: expected FILE.py:FUNCTION of an existing file", parameter="model")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--model {where}: {path} is not a Python file", parameter="model")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    make = getattr(module, name, None)
    if not callable(make):
        raise InputError(f"--model {where}: {path} has no function {name!r}", parameter="model")

    def checked(dims: int, plan: Plan, seed: int) -> Any:
        model = make(dims, seed)
        for method in ("fit", "transform"):
            if not callable(getattr(model, method, None)):
                raise InputError(
                    f"--model {where}: it returned a {type(model).__name__}, which has no {method}(videos)",
                    parameter="model",
                )
        return model

    return checked


def settings_of(preset: str, experiments: Iterable[Experiment]) -> dict[str, Any]:
    """Return what all rows of a file have in common: the preset, with its data, models and training plans."""
    described = {
        one.name: {
            "data": dict(one.data),
            **asdict(one.sizes[preset]),
            "settings": {setting.name: _describe(setting, preset) for setting in one.settings},
        }
        for one in experiments
    }
    return {"preset": preset, "experiments": described}


def _describe(setting: Setting, preset: str) -> dict[str, Any]:
    """Return what a setting is made of; two settings that differ must have different descriptions."""
    description: dict[str, Any] = {"data": dict(setting.data)}
    if preset in setting.plans:
        description["plan"] = asdict(setting.plans[preset])
    if is_dataclass(setting.make) and not isinstance(setting.make, type):
        fields = {name: value for name, value in asdict(setting.make).items() if not callable(value)}
        description["model"] = {"type": type(setting.make).__name__, **fields}
    return description


def open_results(folder: Path, settings: dict[str, Any], machine: dict[str, Any]) -> Results:
    """Open the results of a folder, or begin them."""
    return Results(folder, settings, machine, key=("experiment", "setting", "seed"))
