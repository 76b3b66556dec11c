"""Time of a training step: `KalmanSSL` on a simulated hippocampal recording, and the models of `identifiability`."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from identifiability.experiments import EXPERIMENTS
from identifiability.matcher import EPOCHS, Matcher, VideoBatches
from results_store import Row

from gpu.timing import Stamps, measured_memory, wait_for
from kalmanssl import KalmanSSL
from kalmanssl.datasets import dot_videos, place_cells
from kalmanssl.estimator import _stages
from kalmanssl.training import train

__all__ = ["MODELS", "PLACE_CELLS", "run_training"]

PLACE_CELLS = "KalmanSSL, place cells"
IDENTIFIABILITY = (
    ("square", "kNN"),
    ("square", "stop-gradient"),
    ("noise", None),
    ("dimensions", None),
    ("sphere", "kNN"),
)
"""Experiments and settings of the suite `identifiability`; None is the first setting."""

MODELS = (PLACE_CELLS, *(name if setting is None else f"{name}, {setting}" for name, setting in IDENTIFIABILITY))
STEPS = 60  # of the models of `identifiability`, a multiple of `EPOCHS`


def run_training(name: str, device: torch.device, *, quick: bool) -> Row:
    """Train a model for some steps and return the time of one, and of a whole short fit.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    device : torch.device
    quick : bool
        A small recording and few steps.
    """
    return _place_cells(device, quick) if name == PLACE_CELLS else _identifiability(name, device, quick)


def _place_cells(device: torch.device, quick: bool) -> Row:
    """Fit `KalmanSSL` with its defaults, for fewer epochs, to as many cells and bins as hc-11 has (Achilles)."""
    size = {"n_units": 12, "duration": 60.0} if quick else {"n_units": 120, "duration": 2000.0}
    recording = place_cells(**size)
    epochs = 2 if quick else 4
    row: Row = {"units": size["n_units"], "bins": len(recording)}
    model = KalmanSSL(epochs=epochs, device=str(device), progress=False, random_state=0)
    with _stamped() as stamps, measured_memory(device, row):
        start = time.perf_counter()
        model.fit(recording)
        wait_for(device)
        row["fit_s"] = time.perf_counter() - start
    return row | stamps.row() | {"batch": model.batch_size, "loss": model.history_["loss"][-1]}


@contextmanager
def _stamped() -> Iterator[Stamps]:
    """Note the times of the training steps of a fit inside."""
    stamps, original = Stamps(), _stages.train
    _stages.train = functools.partial(original, on_step=stamps)  # type: ignore[assignment]
    try:
        yield stamps
    finally:
        _stages.train = original


def _identifiability(name: str, device: torch.device, quick: bool) -> Row:
    """Train a model of the suite `identifiability` with the batch of its full size."""
    experiment_name, _, setting_name = name.partition(", ")
    experiment = EXPERIMENTS[experiment_name]
    setting = experiment.setting(setting_name) if setting_name else experiment.settings[0]
    plan = replace(setting.plans.get("full", experiment.sizes["full"].plan), steps=EPOCHS if quick else STEPS)
    data: dict[str, Any] = {**experiment.data, **setting.data, "random_state": 0}
    train_videos = dot_videos(n_videos=4 * plan.batch, **data)
    matcher = setting.make(train_videos.motion.dims, plan, 0)
    assert isinstance(matcher, Matcher)
    model = matcher.initial_model(train_videos.videos).train()
    row: Row = {"batch": plan.batch, "frames": train_videos.videos.shape[1], "pixels": train_videos.videos.shape[2]}
    stamps, history = Stamps(), {}
    batches = VideoBatches(train_videos.videos, plan, 0)
    with measured_memory(device, row):
        train(model, batches, plan.training(), history, seed=0, device=str(device), progress=False, on_step=stamps)
    return row | stamps.row() | {"loss": history["loss"][-1]}
