"""Decoders of other packages, used as in their documentation."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from measure import Stopwatch

from decoding.baselines.state_space import segment_starts
from decoding.predictions import GridPrediction, Prediction
from decoding.tasks import Task
from kalmanssl.data import Recording

__all__ = ["PACKAGES", "Package"]

WINDOW = 0.25  # s, for Bayes in a sliding window
CELLS = {1: 60, 2: 20}  # along each dimension, for tuning curves of pynapple
CENTIMETERS = 100.0
PLACE_BIN = 2.0  # cm, default of replay_trajectory_classification


@dataclass(frozen=True)
class Package:
    """A decoder of another package.

    Attributes
    ----------
    name, look_ahead : str
        As `decoding.methods.Method`.
    module, install : str
        Module to import, and name for pip.
    suits : callable
        Returns whether it can decode the behavior of a task.
    decode : callable
        `decode(task)` returns the prediction of the test part, and CPU seconds of the fit and of decoding.
    """

    name: str
    look_ahead: str
    module: str
    install: str
    suits: Callable[[Task], bool]
    decode: Callable[[Task], tuple[Prediction, float, float]]


def decode_pynapple(task: Task) -> tuple[Prediction, float, float]:
    """Decode with Bayes' rule in a centered window of 250 ms (`decode_bayes` of pynapple).

    Tuning curves have 60 bins, or 20 by 20; the prior is the occupancy. Calcium events are given as a `TsdFrame` of
    zeros and ones.
    """
    import pynapple as nap

    data, period = task.data, task.target.period
    with Stopwatch() as fitting:
        rows = np.flatnonzero(task.fit_mask)
        behavior = nap.TsdFrame(t=data.train.time[rows], d=task.train[rows], time_support=_epochs(data.train, rows))
        curves = nap.compute_tuning_curves(
            _activity(task, data.train),
            behavior,
            bins=CELLS[task.dims],
            range=[(0, period)] if period else None,
            epochs=behavior.time_support,
        )
    width = data.test.bin_size
    with Stopwatch() as decoding:
        probability = nap.decode_bayes(
            curves,
            _activity(task, data.test),
            epochs=_epochs(data.test, np.arange(len(data.test.time))),
            bin_size=width,
            sliding_window_size=max(round(WINDOW / width), 1),
            uniform_prior=False,
        )[1]
        mass = np.nan_to_num(np.asarray(probability.d)[_nearest(np.asarray(probability.t), data.test.time)])
    centers = [np.asarray(curves.coords[name]) for name in curves.dims[1:]]
    return GridPrediction(tuple(map(_edges, centers)), _normalized(mass), period), fitting.cpu, decoding.cpu


def _epochs(rec: Recording, rows: np.ndarray) -> Any:
    """Return the intervals that the bins cover."""
    import pynapple as nap

    starts = np.flatnonzero(segment_starts(rec.time[rows], rec.bin_size))
    stops = np.append(starts[1:], len(rows)) - 1
    half = rec.bin_size / 2
    return nap.IntervalSet(rec.time[rows[starts]] - half, rec.time[rows[stops]] + half)


def _activity(task: Task, rec: Recording) -> Any:
    """Return spike times, or events of the frames."""
    import pynapple as nap

    if rec.spike_times is None:
        return nap.TsdFrame(t=rec.time, d=(rec.activity > 0).astype(float) if task.data.events else rec.activity)
    support = _epochs(rec, np.arange(len(rec.time)))
    return nap.TsGroup({i: nap.Ts(t=times) for i, times in enumerate(rec.spike_times)}, time_support=support)


def _nearest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the index of the nearest time for each wanted one."""
    right = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    return np.where(wanted - times[right - 1] < times[right] - wanted, right - 1, right)


def _edges(centers: np.ndarray) -> np.ndarray:
    """Return the edges of equal cells."""
    half = (centers[1] - centers[0]) / 2
    return np.append(centers - half, centers[-1] + half)


def _normalized(mass: np.ndarray) -> np.ndarray:
    """Return probabilities with sum one for each bin; uniform where all are zero."""
    flat = mass.reshape(len(mass), -1)
    total = flat.sum(axis=1, keepdims=True)
    return np.where(total > 0, flat / np.where(total > 0, total, 1.0), 1 / flat.shape[1]).reshape(mass.shape)


def _state_space(task: Task) -> tuple[dict[bool, Prediction], float, float]:
    """Decode with continuous and fragmented movement (`SortedSpikesClassifier` of replay_trajectory_classification).

    Denovellis et al. 2021, eLife 10:e64505. As documented, activity says whether there was a spike in a bin, positions
    are in centimeters, and tuning curves are kernel density estimates; other arguments have their defaults. The
    variance of a step is that of the training part, since the default is meant for bins of 2 ms.
    """
    with _without_output():
        from replay_trajectory_classification import Environment, RandomWalk, SortedSpikesClassifier, Uniform

    train, test = task.data.train, task.data.test
    step = np.diff(CENTIMETERS * task.train, axis=0)[~segment_starts(train.time, train.bin_size)[1:]]
    walk = RandomWalk(movement_var=float((step**2).mean()))
    with _without_output(), Stopwatch() as fitting:
        model = SortedSpikesClassifier(
            environments=Environment(place_bin_size=PLACE_BIN),
            continuous_transition_types=[[walk, Uniform()], [Uniform(), Uniform()]],
        )
        rows = np.flatnonzero(task.fit_mask)
        model.fit(CENTIMETERS * task.train[rows], (train.activity[rows] > 0).astype(int))
    with _without_output(), Stopwatch() as decoding:
        spikes = (test.activity > 0).astype(int)
        found = [model.predict(spikes[segment], time=test.time[segment]) for segment in test.segments()]
    names = {False: "causal_posterior", True: "acausal_posterior"}
    both: dict[bool, Prediction] = {}
    for smooth, name in names.items():
        mass = np.concatenate([_position_mass(part[name]) for part in found])
        edges = _edges(found[0].position.values / CENTIMETERS)
        both[smooth] = GridPrediction((edges,), _normalized(mass))
    return both, fitting.cpu, decoding.cpu


@contextmanager
def _without_output() -> Iterator[None]:
    """Hide progress bars, notes on missing GPUs, and warnings of numba about the speed of products."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _position_mass(posterior: Any) -> np.ndarray:
    """Return the probability of each position, summed over the states of movement, (time, positions)."""
    return np.nan_to_num(posterior.sum("state").transpose("time", "position").values)


def decode_state_space(task: Task, smooth: bool) -> tuple[Prediction, float, float]:
    """Return the filter or the smoother of `replay_trajectory_classification`; both are computed together."""
    both, fit, decoding = task.data.cache.get(
        ("replay_trajectory_classification", task.target.name, task.fitted_on), lambda: _state_space(task)
    )
    return both[smooth], fit, decoding


PACKAGES = [
    Package("pynapple, Bayes, centered 250 ms", "yes", "pynapple", "pynapple", lambda task: True, decode_pynapple),
    *(
        Package(
            f"replay_trajectory_classification, {'smoother' if smooth else 'filter'}",
            "yes" if smooth else "no",
            "replay_trajectory_classification",
            "replay_trajectory_classification",
            lambda task: task.on_line,
            partial(decode_state_space, smooth=smooth),
        )
        for smooth in (False, True)
    ),
]
