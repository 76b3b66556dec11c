"""Sessions with different cells: what shared dynamics cost, and decoding of a session whose labels were not used.

Each experiment has several sessions of one track. A model with an encoder for each session and shared dynamics is
fitted on the labeled sessions, which are matched by their positions, and a decoder on their latents and positions. The
new session is aligned without labels: only its encoder is fitted. Its test part is then decoded, and so is that of
every labeled session. With at least two labeled sessions, a second decoder is calibrated for new sessions: each labeled
session is left out in turn and aligned without labels with a model of the others (`kalmanssl.cross_fit`). With a few
minutes of labels at the start of its training part, the new session is aligned once more; the calibrated levels are
then updated with these labels, too. For comparison, a model and a decoder are fitted on each session alone with its own
labels (for seed 0). All latents are filtered, so nothing looks ahead.

The method and the settings of the match (`kalmanssl.alignment.MatchSettings`) were chosen with the training parts and
positions of these calcium sessions in pairs and of these halves of hc-11. The test parts were not used, but the
sessions are not new to the method.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from measure import Stopwatch, machine_facts
from results_store import Results, Row
from suite import RESULTS, cli_errors, err_console, print_table
from thread_limits import limit_threads

from decoding.methods import FULL, QUICK, Preset
from decoding.options import DataFolder, Quick, Threads, data_folder
from decoding.recordings import CALCIUM_SPLITS, RECORDINGS, load
from kalmanssl.data import Recording, running_bins
from kalmanssl.decoding import cross_fit, quantile_crps, score_decoding

__all__ = ["EXPERIMENTS", "SIMULATED_EXPERIMENTS", "main"]

CM = 100.0  # centimeters in the unit of the recordings
END_ZONES = (-0.15, 1.10)  # of the track of hc-11, m
COLUMNS = (
    "session", "decoded with", "bins", "median cm", "mean cm", "R²", "CRPS cm", "covers 95 %", "width cm", "margin",
    "CPU s",
)  # fmt: skip
MINUTES = (1, 2, 5)  # of labels of the new session


@dataclass(frozen=True)
class Session:
    """A session: training and test part, and the bins of the test part that are scored; None for all."""

    train: Recording
    test: Recording
    scored: np.ndarray | None = None

    @property
    def name(self) -> str:
        """Name of the session."""
        return self.train.session


@dataclass(frozen=True)
class Experiment:
    """Labeled sessions, and a new one whose labels are not used; None if all have labels."""

    labeled: Callable[[Path], list[Session]]
    new: Callable[[Path], Session] | None = None


def _calcium(number: int) -> Callable[[Path], Session]:
    """Return a function that reads a session of calcium imaging."""

    def read(folder: Path) -> Session:
        data = load(f"calcium {number}", folder)
        parts = (replace(part, session=f"calcium {number}") for part in (data.train, data.test))
        return Session(*parts)

    return read


def _all_calcium(numbers: tuple[int, ...]) -> Callable[[Path], list[Session]]:
    """Return a function that reads several sessions of calcium imaging."""
    return lambda folder: [_calcium(number)(folder) for number in numbers]


def _halves(train: Recording, test: Recording, scored: np.ndarray | None) -> tuple[Session, Session]:
    """Divide the cells into halves: one in the first half of the training time, the other one in the second half."""
    order = np.random.default_rng(0).permutation(train.n_units)
    first, second = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    early, late = train.split(at=float(train.time[0] + train.time[-1]) / 2)
    return (
        Session(*(_select(part, first, "cells A, first half") for part in (early, test)), scored),
        Session(*(_select(part, second, "cells B, second half") for part in (late, test)), scored),
    )


def _select(recording: Recording, units: np.ndarray, session: str) -> Recording:
    """Return some units of a recording as a session."""
    return replace(recording.select_units([recording.unit_ids[unit] for unit in units]), session=session)


def _hippocampus(number: int) -> Callable[[Path], Session]:
    """Return a function that reads half of the cells of hc-11; the running bins of the test part are scored."""

    def read(folder: Path) -> Session:
        data = load(next(iter(RECORDINGS)), folder)
        return _halves(data.train, data.test, running_bins(data.test.behavior["position"], end_zones=END_ZONES))[number]

    return read


def _simulated(seed: int) -> Callable[[Path], Session]:
    """Return a function that simulates place cells; each session has other cells and other runs."""

    def read(folder: Path) -> Session:
        from kalmanssl.datasets import place_cells

        recording = place_cells(n_units=50, duration=260.0, random_state=seed, n_interneurons=0, replay_rate=0.0)
        named = replace(recording, session=f"simulated {seed}", spike_times=None)
        return Session(*named.split(at=float(named.time[0]) + 180.0))

    return read


EXPERIMENTS: dict[str, Experiment] = {
    "calcium, all labeled": Experiment(_all_calcium(tuple(CALCIUM_SPLITS))),
    **{
        f"calcium, {new} without labels": Experiment(
            _all_calcium(tuple(number for number in CALCIUM_SPLITS if number != new)), _calcium(new)
        )
        for new in CALCIUM_SPLITS
    },
    "hc-11, cells B without labels": Experiment(lambda folder: [_hippocampus(0)(folder)], _hippocampus(1)),
    "hc-11, cells A without labels": Experiment(lambda folder: [_hippocampus(1)(folder)], _hippocampus(0)),
}
"""Experiments on recordings by name."""

SIMULATED_EXPERIMENTS = {"simulated": Experiment(lambda folder: [_simulated(1)(folder)], _simulated(2))}
"""A small experiment for tests."""


def main(
    data: DataFolder = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run is resumed.")] = RESULTS
    / "decoding"
    / "sessions",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    only: Annotated[str, typer.Option(help="Experiments whose names contain this text.")] = "",
    threads: Threads = 1,
    quick: Quick = False,
) -> None:
    """Run the benchmark."""
    with cli_errors(out):
        folder = Path() if quick else data_folder(data)
        settings = {"quick": quick, "threads": threads}
        results = Results(out, settings, machine_facts(threads), ("experiment", "seed"), ())
        limit_threads(threads)
        experiments = SIMULATED_EXPERIMENTS if quick else EXPERIMENTS
        for seed in range(seeds):
            for name, experiment in experiments.items():
                if only in name and results.is_pending(name, seed):
                    err_console.print(f"{name}, seed {seed}", markup=False, highlight=False)
                    rows = _measure(experiment, folder, seed, QUICK if quick else FULL)
                    results.add({"experiment": name, "seed": seed} | rows)
        for name in experiments:
            for row in results.good(name):
                print_table([(f"{name}, seed {row['seed']}", *COLUMNS[1:]), *(_line(s) for s in row["scores"])])
                if "alignment" in row:
                    err_console.print(row["alignment"], markup=False, highlight=False)


def _measure(experiment: Experiment, folder: Path, seed: int, preset: Preset) -> Row:
    """Run one experiment."""
    labeled = experiment.labeled(folder)
    new = None if experiment.new is None else experiment.new(folder)
    scores, row = [], {}
    with Stopwatch() as stopwatch:
        model = _model(seed, preset)
        if len(labeled) > 1:
            model.fit([s.train for s in labeled], "position")
        else:
            model.fit(labeled[0].train)
        decoder = _decoder(seed, preset, model, labeled)
    shared = stopwatch.cpu
    for session in labeled:
        scores.append(_score(session, "labels of these sessions", decoder, model, shared))
    if new is None:
        for session in labeled:
            with Stopwatch() as stopwatch:
                own = _decoder(seed, preset, model, [session])
            scores.append(_score(session, "shared dynamics, own labels", own, model, stopwatch.cpu))
    else:
        row, found = _new_session(new, labeled, decoder, model, seed, preset)
        scores += found
    for session in labeled if new is None else [new]:
        if seed == 0:
            with Stopwatch() as stopwatch:
                alone = _model(seed, preset).fit(session.train)
                own = _decoder(seed, preset, alone, [session])
            scores.append(_score(session, "this session alone", own, alone, stopwatch.cpu))
        scores.append(_chance(session))
    return row | {"scores": scores}


def _new_session(
    new: Session, labeled: list[Session], decoder: Any, model: Any, seed: int, preset: Preset
) -> tuple[Row, list[Row]]:
    """Align a new session without labels, and with a few, and score it; return facts and scores."""
    row, scores = {}, []
    trains = [session.train for session in labeled]
    with Stopwatch() as stopwatch:
        aligned = model.align_session(new.train, trains)
    alignment = aligned.alignments_[new.name]
    row["alignment"] = str(alignment)
    scores.append(_score(new, "no labels of this session", decoder, aligned, stopwatch.cpu))
    scores[-1] |= _numbers_of(alignment)
    if len(labeled) > 1:
        with Stopwatch() as stopwatch:
            held_out = cross_fit(model, trains, y="position")
            decoder = _decoder(seed, preset, model, labeled, held_out)
        scores.append(_score(new, "no labels, calibrated on left-out sessions", decoder, aligned, stopwatch.cpu))
        row["left_out"] = [{"session": fit.left_out, **_numbers_of(fit.alignment)} for fit in held_out]
    with Stopwatch() as stopwatch:
        own = _decoder(seed, preset, aligned, [new])
    scores.append(_score(new, "aligned encoder, own labels", own, aligned, stopwatch.cpu))
    for minutes in MINUTES if seed == 0 else ():
        known = new.train.time < new.train.time[0] + 60 * minutes
        y = np.where(known, new.train.behavior["position"].reshape(len(new.train), -1)[:, 0], np.nan)
        fitted_y = [one.behavior["position"].reshape(len(one), -1)[:, 0] for one in trains]
        with Stopwatch() as stopwatch:
            helped = model.align_session(new.train, trains, y, fitted_y)
        how = f"{minutes} min of labels for the alignment"
        scores.append(_score(new, how, decoder, helped, stopwatch.cpu))
        scores[-1] |= _numbers_of(helped.alignments_[new.name])
        scores[-1]["labeled_s"] = float(known.sum()) * new.train.bin_size
        updated = copy.deepcopy(decoder).update(helped.transform(new.train), y)
        scores.append(_score(new, f"{how}, and updated levels", updated, helped, stopwatch.cpu))
    return row, scores


def _numbers_of(alignment: Any) -> dict[str, float | None]:
    """Return the numbers that say without labels how well a session is aligned."""
    return {
        "margin": alignment.margin,
        "transition_distance": alignment.transition_distance,
        "other_transition_distance": alignment.other_transition_distance,
    }


def _model(seed: int, preset: Preset) -> Any:
    """Return an unfitted model."""
    from kalmanssl import KalmanSSL

    return KalmanSSL(random_state=seed, progress=False, **preset.model)


def _decoder(seed: int, preset: Preset, model: Any, sessions: list[Session], held_out_fits: Sequence[Any] = ()) -> Any:
    """Fit a decoder on the latents of sessions."""
    from kalmanssl import PositionDecoder

    latents = [model.transform(session.train) for session in sessions]
    positions = [session.train.behavior["position"] for session in sessions]
    return PositionDecoder(random_state=seed, **preset.decoder).fit(latents, positions, held_out_fits=held_out_fits)


def _score(session: Session, how: str, decoder: Any, model: Any, cpu: float) -> Row:
    """Decode the test part of a session and score it."""
    decoded = decoder.predict(model.transform(session.test))
    found = score_decoding(decoded, session.test.behavior["position"], session.scored)
    row = {"session": session.name, "decoded_with": how, "bins": found["bins"], "r2": found["r2"], "cpu_s": cpu}
    row |= {name: CM * found[name] for name in ("median_error", "mean_error", "crps")}
    return row | {"coverage": found["coverage"]["95"], "width": CM * found["width"]["95"]}


def _chance(session: Session) -> Row:
    """Score the distribution of the training positions, which does not depend on the activity."""
    known = session.train.behavior["position"].reshape(len(session.train), -1)[:, 0]
    known = known[np.isfinite(known)]
    truth = session.test.behavior["position"].reshape(len(session.test), -1)[:, 0]
    keep = np.isfinite(truth) if session.scored is None else np.isfinite(truth) & session.scored
    truth, levels = truth[keep], np.arange(0.005, 1, 0.01)
    quantiles = np.tile(np.quantile(known, levels), (len(truth), 1))
    lower, middle, upper = np.quantile(known, [0.025, 0.5, 0.975])
    return {
        "session": session.name, "decoded_with": "occupancy only", "bins": len(truth), "cpu_s": 0.0,
        "r2": float(1 - np.square(truth - known.mean()).sum() / np.square(truth - truth.mean()).sum()),
        "median_error": CM * float(np.median(np.abs(truth - middle))),
        "mean_error": CM * float(np.abs(truth - middle).mean()),
        "crps": CM * float(quantile_crps(quantiles, levels, truth).mean()),
        "coverage": float(((lower <= truth) & (truth <= upper)).mean()), "width": CM * float(upper - lower),
    }  # fmt: skip


def _line(row: Row) -> tuple[str, ...]:
    """Return one line of the table."""
    numbers = (f"{row[key]:.3g}" for key in ("median_error", "mean_error", "r2", "crps", "coverage", "width"))
    margin = f"{row['margin']:.2g}" if row.get("margin") is not None else ""
    return (row["session"], row["decoded_with"], str(row["bins"]), *numbers, margin, f"{row['cpu_s']:.0f}")
