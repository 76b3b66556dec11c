"""The methods of the benchmark.

To add a method, write a `decoding.selection.Decoder` in `decoding/baselines` and add it to `all_methods` with
candidates for its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
from measure import Stopwatch

from decoding.baselines.cebra_time import cebra_features
from decoding.baselines.features import Smoothing, smoothed_counts
from decoding.baselines.kalman_decoder import KalmanDecoder
from decoding.baselines.movement_prior import MovementPrior
from decoding.baselines.neighbors import Features, NeighborDecoder
from decoding.baselines.packages import PACKAGES
from decoding.baselines.place_fields import GridStateSpace, PlaceFieldBayes
from decoding.baselines.ridge import lagged_ridge, pca_ridge
from decoding.ours import decode_ours, latent_features
from decoding.paper import Readout, decode_paper
from decoding.predictions import Prediction
from decoding.selection import Decoder, choose
from decoding.tasks import Task
from kalmanssl.decoding import EnsembleReadoutSettings, MLPReadoutSettings, MovementSettings

__all__ = ["FULL", "OURS", "QUICK", "Method", "Outcome", "Preset", "all_methods"]

OURS = "kalmanssl"
Candidates = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Preset:
    """Amount of work: candidates for settings, and lengths of trainings.

    `model` and `decoder` are arguments of our model and decoder that differ from the defaults, and `paper` are those of
    the model that differ from the configuration of the LDM paper.
    """

    model: dict[str, Any] = field(default_factory=dict)
    decoder: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, Any] = field(default_factory=dict)
    folds: int = 5
    max_bins_2d: int = 1500
    neighbors: Sequence[int] = (5, 10, 20, 40, 80, 160)
    votes: Sequence[int] = (10, 20, 40, 80, 160)
    walk: Sequence[float] = (0.0075, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5)
    power: Sequence[float] = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    divide: Sequence[float] = (0.0, 0.5, 1.0)
    jump: Sequence[float] = (1e-3, 1e-2, 0.1)
    penalty: Sequence[float] = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)
    average: Sequence[int] = (1, 2, 4, 8, 16)
    lag: Sequence[int] = (0, 2, 4, 6)
    noise: Sequence[float] = (1.0, 3.0, 10.0, 30.0)
    window: Sequence[float] = (0.15, 0.25, 0.4, 0.6)
    field_sd: Sequence[float] = (0.01, 0.02, 0.03, 0.05, 0.08)
    prior_bins: Sequence[float] = (1.0, 3.0, 10.0)
    cebra_iterations: int = 2000


FULL = Preset()
QUICK_NETWORKS = MLPReadoutSettings(n_networks=1, n_steps=60, min_steps=30, n_cells_joint=24)
QUICK_MOVEMENT = MovementSettings(
    width_factors=(1.0, 4.0), powers=(0.1, 0.4), jumps=(1e-4, 0.1), familiarity_powers=(0.0, 1.0), n_rounds=1
)
QUICK = Preset(
    model={"latent_dim": 8, "state_dim": 16, "batch_size": 32, "epochs": 2, "steps_per_epoch": 10},
    decoder={"readout_settings": EnsembleReadoutSettings(QUICK_NETWORKS), "movement_settings": QUICK_MOVEMENT},
    paper={"epochs": 2, "steps_per_epoch": 10, "window": 50},
    folds=2,
    max_bins_2d=300,
    neighbors=(10, 40),
    votes=(40,),
    walk=(0.03, 0.1),
    power=(0.1, 0.4),
    divide=(1.0,),
    jump=(1e-3,),
    penalty=(1e-2, 0.1),
    average=(1, 4),
    lag=(0, 2),
    noise=(3.0,),
    window=(0.25,),
    field_sd=(0.03,),
    prior_bins=(3.0,),
    cebra_iterations=20,
)


@dataclass(frozen=True)
class Outcome:
    """What one method gives.

    Attributes
    ----------
    prediction : Prediction
        Prediction of the whole test part.
    chosen : dict
        Settings that were chosen among candidates.
    select_cpu_s, fit_cpu_s, decode_cpu_s : float
        CPU seconds of the choice, of the fit with the chosen settings, and of decoding the test part.
    """

    prediction: Prediction
    chosen: dict[str, Any]
    select_cpu_s: float
    fit_cpu_s: float
    decode_cpu_s: float


@dataclass(frozen=True)
class Method:
    """A method of the benchmark.

    Attributes
    ----------
    name : str
    look_ahead : str
        Later bins that it uses: "no", "5 bins" or "yes".
    run : callable
        `run(task, seed)` decodes the test part.
    group : "baseline", "cebra", "package", "ours" or "paper"
    seeded : bool
        Whether the outcome depends on a seed; otherwise it runs once.
    suits : callable
        Returns whether the method can decode the behavior of a task.
    missing : str
        Why it cannot run here and how to correct that; empty if it can.
    """

    name: str
    look_ahead: str
    run: Callable[[Task, int], Outcome]
    group: str = "baseline"
    seeded: bool = False
    suits: Callable[[Task], bool] = lambda task: True
    missing: str = ""


def all_methods(preset: Preset) -> list[Method]:
    """Return all methods, ours first."""
    return [*_ours(preset), *_paper(preset), *_baselines(preset), *_cebra(preset), *_packages()]


def _baselines(preset: Preset) -> list[Method]:
    """Return the methods that are implemented here."""

    def method(name: str, ahead: str, make: Callable[[Task], Decoder], candidates: Candidates, **more: Any) -> Method:
        return Method(name, ahead, lambda task, seed: select_and_decode(make, candidates, task, preset), **more)

    look = {"neighbors": preset.neighbors}
    walk = {
        "neighbors": preset.votes,
        "walk power": tuple(product(preset.walk, preset.power)),
        "divide": preset.divide,
        "jump": preset.jump,
    }
    fields = {"field_sd": preset.field_sd, "prior_bins": preset.prior_bins}
    grid = {"walk power": tuple(product(preset.walk[:5], preset.power)), **fields}
    kalman = {"window": preset.average, "lag": preset.lag, "noise": preset.noise}
    penalty = {"penalty": preset.penalty}
    causal, centered = _counts("causal"), _counts("centered")
    one = {"suits": lambda task: task.dims == 1}
    return [
        method("neighbors, causal 200 ms", "no", lambda t: NeighborDecoder(t, causal), look),
        method("neighbors, centered 250 ms", "yes", lambda t: NeighborDecoder(t, centered), look),
        method("neighbors + movement prior, filter", "no", lambda t: MovementPrior(t, causal, False), walk),
        method("neighbors + movement prior, smoother", "yes", lambda t: MovementPrior(t, centered, True), walk),
        method("ridge on lags of 1 s, causal", "no", lambda t: lagged_ridge(t, "causal"), penalty),
        method("ridge on lags of 1 s, centered", "yes", lambda t: lagged_ridge(t, "centered"), penalty),
        method("PCA (16) + ridge, causal", "no", lambda t: pca_ridge(t, "causal"), penalty),
        method("PCA (16) + ridge, centered", "yes", lambda t: pca_ridge(t, "centered"), penalty),
        method("Kalman decoder", "no", KalmanDecoder, kalman),
        method("tuning curves, Bayes", "no", PlaceFieldBayes, {"window": preset.window, **fields}, **one),
        method("tuning curves, state space, filter", "no", lambda t: GridStateSpace(t, False), grid, **one),
        method("tuning curves, state space, smoother", "yes", lambda t: GridStateSpace(t, True), grid, **one),
    ]


def _counts(kind: Smoothing) -> Features:
    """Return smoothed square roots of counts as features."""
    return Features(kind, lambda data, part: smoothed_counts(data, part, kind))


def _ours(preset: Preset) -> list[Method]:
    """Return our filter and smoother, and nearest neighbors on our latents."""

    def ours(smooth: bool) -> Callable[[Task, int], Outcome]:
        def run(task: Task, seed: int) -> Outcome:
            prediction, fit, decode = decode_ours(task, seed, smooth, preset.model, preset.decoder)
            return Outcome(prediction, {}, 0.0, fit, decode)

        return run

    def neighbors(task: Task, seed: int) -> Outcome:
        features = latent_features(seed, preset.model)
        candidates = {"neighbors": preset.neighbors, "metric": ("cosine", "euclidean")}
        return select_and_decode(lambda t: NeighborDecoder(t, features), candidates, task, preset)

    shared: dict[str, Any] = {"group": "ours", "seeded": True, "suits": lambda task: task.fitted_on == "all"}
    return [
        Method(f"{OURS}, filter", "no", ours(False), **shared),
        Method(f"{OURS}, smoother", "yes", ours(True), **shared),
        Method(f"{OURS}, neighbors on filtered latents", "no", neighbors, **shared),
    ]


def _paper(preset: Preset) -> list[Method]:
    """Return the configuration of the LDM paper with its two decoders."""

    def run(readout: Readout) -> Callable[[Task, int], Outcome]:
        def decode(task: Task, seed: int) -> Outcome:
            prediction, fit, decoding = decode_paper(task, seed, readout, preset.paper)
            return Outcome(prediction, {}, 0.0, fit, decoding)

        return decode

    shared: dict[str, Any] = {"group": "paper", "seeded": True}
    return [
        Method("LDM paper's configuration, MLP", "no", run("MLP"), **shared),
        Method("LDM paper's configuration, linear", "no", run("linear"), **shared),
    ]


def _cebra(preset: Preset) -> list[Method]:
    """Return nearest neighbors on CEBRA-Time, as it is and smoothed."""

    def run(smoothed: bool) -> Callable[[Task, int], Outcome]:
        def decode(task: Task, seed: int) -> Outcome:
            features = cebra_features(task, seed, preset.cebra_iterations, smoothed)
            candidates = {"neighbors": preset.neighbors}
            return select_and_decode(lambda t: NeighborDecoder(t, features), candidates, task, preset)

        return decode

    shared: dict[str, Any] = {
        "group": "cebra",
        "seeded": True,
        "missing": "" if find_spec("cebra") else "cebra is not installed: pip install 'kalmanssl[benchmarks]'",
    }
    return [
        Method("CEBRA-Time + neighbors", "5 bins", run(False), **shared),
        Method("CEBRA-Time, centered 250 ms + neighbors", "yes", run(True), **shared),
    ]


def _packages() -> list[Method]:
    """Return the decoders of other packages, with the settings of their documentation."""

    def run(decode: Callable[..., Any]) -> Callable[[Task, int], Outcome]:
        def decode_task(task: Task, seed: int) -> Outcome:
            prediction, fit, decoding = decode(task)
            return Outcome(prediction, {}, 0.0, fit, decoding)

        return decode_task

    return [
        Method(
            package.name,
            package.look_ahead,
            run(package.decode),
            group="package",
            suits=package.suits,
            missing=""
            if find_spec(package.module)
            else f"{package.module} is not installed: pip install {package.install}",
        )
        for package in PACKAGES
    ]


def select_and_decode(make: Callable[[Task], Decoder], candidates: Candidates, task: Task, preset: Preset) -> Outcome:
    """Choose the settings of a decoder on blocks of the training part, fit it and decode the test part."""
    cache = task.data.cache
    cache.take_reused()
    with Stopwatch() as selecting:
        selection = choose(make, candidates, task, preset.folds, preset.max_bins_2d if task.dims > 1 else None)
    select_cpu_s = selecting.cpu + cache.take_reused()
    with Stopwatch() as fitting:
        decoder = make(task)
        decoder.fit(np.flatnonzero(task.fit_mask))
        if hasattr(decoder, "calibrate"):
            decoder.calibrate(selection.held_out)
    fit_cpu_s = fitting.cpu + cache.take_reused()
    with Stopwatch() as decoding:
        ready = decoder.prepare("test", slice(0, len(task.data.test.time)))
        prediction = decoder.decode(ready, **selection.best)
    chosen = {**selection.best, "held_out_crps": task.target.factor * selection.crps, "tried": selection.tried}
    return Outcome(prediction, chosen, select_cpu_s, fit_cpu_s, decoding.cpu + cache.take_reused())
