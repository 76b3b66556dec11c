"""The methods of the decoding benchmark, each as a job: one fit that gives one or more rows.

To add a peer, write a class with `fit(train, running)` and `predict(test)` (see `hc11.peers`) and add a job to
`all_jobs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

from measure import Stopwatch, shortest_time

from hc11.peers import (
    CebraTime,
    GridStateSpace,
    NeighborDecoder,
    PCAEmbedding,
    PlaceFieldBayes,
    Selection,
    Smoothed,
    choose,
)
from hc11.peers.embeddings import Smoothing
from hc11.peers.predictive import Prediction
from hc11.recording import Data
from kalmanssl.data import Recording

__all__ = ["FULL", "OURS", "QUICK", "Job", "Outcome", "Preset", "all_jobs", "run_cebra", "run_ours"]

OURS = "kalmanssl"


@dataclass(frozen=True)
class Preset:
    """Amount of work: candidates for the settings of the peers, and lengths of the trainings.

    `model` and `decoder` are arguments of our model and decoder that differ from the defaults.
    """

    model: dict[str, Any] = field(default_factory=dict)
    decoder: dict[str, Any] = field(default_factory=dict)
    folds: int = 5
    field_sd: Sequence[float] = (0.03, 0.05, 0.08, 0.12)
    prior_bins: Sequence[float] = (1.0, 3.0, 10.0)
    walk_sd: Sequence[float] = (0.02, 0.03, 0.05, 0.08)
    temper: Sequence[float] = (0.1, 0.15, 0.25, 0.4, 0.7, 1.0)
    neighbors: Sequence[int] = (5, 10, 20, 30, 50, 80)
    cebra_iterations: int = 2000


FULL = Preset()
QUICK = Preset(
    model={"epochs": 2, "steps_per_epoch": 10},
    decoder={"regressor": "linear"},
    folds=2,
    field_sd=(0.05,),
    prior_bins=(3.0,),
    walk_sd=(0.03, 0.05),
    temper=(0.25, 0.7),
    neighbors=(10, 30),
    cebra_iterations=20,
)


@dataclass(frozen=True)
class Outcome:
    """The prediction of one method on the test part, its chosen settings, and its cost in seconds."""

    method: str
    prediction: Prediction
    chosen: dict[str, Any]
    select_cpu_s: float
    fit_cpu_s: float
    decode_cpu_s: float
    minute_wall_s: float


@dataclass(frozen=True)
class Job:
    """One fit that gives one or more rows.

    Attributes
    ----------
    rows : dict
        Name of each row, and whether it uses later bins: "no", "5 bins" or "yes".
    seeded : bool
        Whether the outcome depends on a seed; otherwise it runs once.
    run : callable
        `run(data, seed)` returns an outcome for every row.
    missing : str
        Why it cannot run here and how to correct that; empty if it can.
    """

    rows: dict[str, str]
    seeded: bool
    run: Callable[[Data, int], list[Outcome]]
    missing: str = ""


def all_jobs(preset: Preset) -> list[Job]:
    """Return the jobs of all methods, ours first."""
    field_settings = {"field_sd": preset.field_sd, "prior_bins": preset.prior_bins}
    listed = [
        Job(
            {f"{OURS}, filter": "no", f"{OURS}, smoother": "yes"},
            True,
            lambda data, seed: run_ours(data, seed, preset),
        )
    ]
    for name, window in (("place-field Bayes, 250 ms", 0.25), ("place-field Bayes, single bins", 0.0)):
        listed.append(_peer(name, "no", PlaceFieldBayes, {"window": (window,), **field_settings}, preset))
    for direction in (False, True):
        for smooth in (False, True):
            for tempered in (False, True):
                shape = f"grid, {'position x direction' if direction else 'position'}"
                name = f"{shape}, {'smoother' if smooth else 'filter'}{', tempered' * tempered}"
                settings = {
                    "direction": (direction,),
                    "smooth": (smooth,),
                    "field_sd": preset.field_sd,
                    "prior_bins": (3.0,),
                    "walk_sd": preset.walk_sd,
                    "temper": preset.temper if tempered else (1.0,),
                }
                listed.append(_peer(name, "yes" if smooth else "no", GridStateSpace, settings, preset))
    kinds: tuple[tuple[Smoothing, float, str], ...] = (("causal", 0.2, "no"), ("centered", 0.25, "yes"))
    for kind, sd, ahead in kinds:
        for name, embedding in (("kNN", Smoothed(kind, sd)), ("PCA (8) + kNN", PCAEmbedding(kind, sd))):
            lookup = {"embedding": (embedding,), "neighbors": preset.neighbors}
            listed.append(_peer(f"{name}, {kind} {1e3 * sd:.0f} ms", ahead, NeighborDecoder, lookup, preset))
    listed.append(
        Job(
            {"CEBRA-Time + kNN": "5 bins", "CEBRA-Time, centered 250 ms + kNN": "yes"},
            True,
            lambda data, seed: run_cebra(data, seed, preset),
            "" if find_spec("cebra") else "cebra is not installed: pip install 'kalmanssl[benchmarks]'",
        )
    )
    return listed


def run_ours(data: Data, seed: int, preset: Preset) -> list[Outcome]:
    """Fit latents on the training part without labels, and decoders on its running bins."""
    from kalmanssl import KalmanSSL, PositionDecoder, cross_fit

    with Stopwatch() as learning:
        model = KalmanSSL(random_state=seed, progress=False, **preset.model).fit(data.train)
        smoothed = model.transform(data.train, smooth=True)
        held_out_fits = cross_fit(model, data.train)
    outcomes = []
    for smooth, name in ((False, f"{OURS}, filter"), (True, f"{OURS}, smoother")):
        with Stopwatch() as fitting:
            decoder = PositionDecoder(random_state=seed, **preset.decoder).fit(
                model.transform(data.train, smooth=smooth),
                data.position,
                where=data.running_train,
                smoothed=smoothed,
                held_out_fits=held_out_fits,
            )

        def decode(rec: Recording, smooth: bool = smooth, decoder: PositionDecoder = decoder) -> Prediction:
            return decoder.predict(model.transform(rec, smooth=smooth))

        outcomes.append(_outcome(name, decode, data, preset.model | preset.decoder, 0.0, learning.cpu + fitting.cpu))
    return outcomes


def run_cebra(data: Data, seed: int, preset: Preset) -> list[Outcome]:
    """Fit an embedding of the running bins without labels; decode from it as it is, and smoothed."""
    embedding = CebraTime(iterations=preset.cebra_iterations, random_state=seed)
    with Stopwatch() as learning:
        embedding.fit(data.train, data.running_train)
        embedded = replace(data, train=_embed(embedding, data.train))
    outcomes = []
    kinds: tuple[tuple[Smoothing | None, str], ...] = (
        (None, "CEBRA-Time + kNN"),
        ("centered", "CEBRA-Time, centered 250 ms + kNN"),
    )
    for kind, name in kinds:
        candidates = {"embedding": (Smoothed(kind, 0.25, root=False),), "neighbors": preset.neighbors}
        selection, selecting, decoder, fitting = _select_and_fit(NeighborDecoder, candidates, embedded, preset)

        def decode(rec: Recording, decoder: NeighborDecoder = decoder) -> Prediction:
            return decoder.predict(_embed(embedding, rec))

        chosen = {"neighbors": selection.best["neighbors"]}
        outcomes.append(_outcome(name, decode, data, chosen, selecting, learning.cpu + fitting))
    return outcomes


def _embed(embedding: CebraTime, rec: Recording) -> Recording:
    """Return a recording with the embedding as its channels."""
    return replace(rec, activity=embedding.transform(rec), kind="signal", spike_times=None)


def _peer(
    name: str, look_ahead: str, make: Callable[..., Any], candidates: Mapping[str, Sequence[Any]], preset: Preset
) -> Job:
    """Return the job of a peer whose settings are chosen among candidates."""

    def run(data: Data, seed: int) -> list[Outcome]:
        selection, selecting, decoder, fitting = _select_and_fit(make, candidates, data, preset)
        chosen = {key: value for key, value in selection.best.items() if len(candidates[key]) > 1}
        return [_outcome(name, decoder.predict, data, chosen, selecting, fitting)]

    return Job({name: look_ahead}, False, run)


def _select_and_fit(
    make: Callable[..., Any], candidates: Mapping[str, Sequence[Any]], data: Data, preset: Preset
) -> tuple[Selection, float, Any, float]:
    """Choose the settings of a peer and fit it; also return the CPU seconds of both."""
    with Stopwatch() as selecting:
        selection = choose(make, candidates, data.train, data.running_train, preset.folds)
    with Stopwatch() as fitting:
        decoder = make(**selection.best).fit(data.train, data.running_train)
    return selection, selecting.cpu, decoder, fitting.cpu


def _outcome(
    name: str,
    decode: Callable[[Recording], Prediction],
    data: Data,
    chosen: dict[str, Any],
    select_cpu_s: float,
    fit_cpu_s: float,
) -> Outcome:
    """Decode the test part, and time that."""
    with Stopwatch() as decoding:
        prediction = decode(data.test)
    minute = data.first_minute
    wall = shortest_time(lambda: decode(minute))
    return Outcome(name, prediction, chosen, select_cpu_s, fit_cpu_s, decoding.cpu, wall)
