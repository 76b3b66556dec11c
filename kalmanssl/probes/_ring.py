"""Scores of how well the latents rotate once in each lap of a linear track (LDM paper, Fig. 4E)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_floats, check_features
from kalmanssl.utils.validation import check_integer, check_positive

__all__ = ["RingScores", "Rotation", "coherent_rotations", "ring_scores"]

_LEAST_ANGLE = math.pi / 2  # by which the phase turns in the decay time
_CELLS = 20  # cells of the track in which the mean phase is computed
_NEAR_ONE_TURN = 0.25  # largest deviation from one turn of a lap that follows the ring


@dataclass(frozen=True)
class Rotation:
    """A rotation of the state, given by a pair of conjugate eigenvalues of the transition matrix.

    Attributes
    ----------
    eigenvalue : complex
        The one with a positive imaginary part.
    projection : (state, 2)
        Real and imaginary part of its left eigenvector of unit norm. Without noise, the projected state is rotated and
        scaled by `eigenvalue` in every step, in the direction of increasing phase.
    period : float
        Duration of one turn, seconds.
    decay_time : float
        Time in which the radius decays to 1/e, seconds; infinite if the modulus is 1 or more.
    """

    eigenvalue: complex
    projection: np.ndarray
    period: float
    decay_time: float

    def project(self, states: np.ndarray, center: np.ndarray | None = None) -> np.ndarray:
        """Project states (time, state) relative to `center` (state,), by default zero; return (time, 2)."""
        return (states if center is None else states - center) @ self.projection


@dataclass(frozen=True)
class RingScores:
    """How well held-out laps follow a ring in latent space.

    A lap consists of two traversals of the track, one in each direction. Only bins in held-out traversals count, except
    for `coordinates` and `phase`.

    Attributes
    ----------
    rotation : Rotation
    coordinates : (time, 2)
        Projection of all states on the two dimensions of the rotation.
    phase : (time,)
        Angle of `coordinates`, radians, from -pi to pi.
    lap_time : float
        Median duration of a lap, seconds; compare with ``rotation.period``.
    radius_variation : float
        Standard deviation of the radius divided by its mean: 0 for a circle, 0.52 for a Gaussian cloud around zero.
    turns_per_lap, turns_sd : float
        Mean and standard deviation over laps of the number of turns of the phase; 1 and 0 for a ring.
    one_turn_laps : float
        Fraction of the laps with 0.75 to 1.25 turns.
    phase_r2 : float
        R² of cosine and sine of the phase, predicted by their means at each position and direction of movement in the
        other traversals: 1 if the phase is a function of position and direction, about 0 if it is unrelated to them.
    n_laps : int
        Number of held-out laps.
    """

    rotation: Rotation
    coordinates: np.ndarray
    phase: np.ndarray
    lap_time: float
    radius_variation: float
    turns_per_lap: float
    turns_sd: float
    one_turn_laps: float
    phase_r2: float
    n_laps: int


def coherent_rotations(A: Any, step: float) -> list[Rotation]:
    """Find the rotations of linear dynamics that make a quarter turn before they decay to 1/e, slowest first.

    A pair of eigenvalues that decays faster describes two decays rather than a rotation.

    Parameters
    ----------
    A : (state, state)
        Transition matrix of ``h_t = A (h_{t-1} - center) + center + noise``.
    step : float
        Duration of one step, seconds.

    Raises
    ------
    InputError
        If `A` is not a finite square matrix, or `step` is not positive.
    """
    A = check_features("A", A).astype(float)
    check_positive("step", step)
    if A.shape[0] != A.shape[1]:
        raise InputError(f"A must be a square matrix, got shape {A.shape}", parameter="A")
    values, vectors = np.linalg.eig(A.T)
    found = []
    for value, vector in zip(values, vectors.T, strict=True):
        angle, decay = float(np.angle(value)), -math.log(max(abs(value), 1e-300))
        if 0 < angle < math.pi and angle >= _LEAST_ANGLE * decay:
            projection = np.stack([vector.real, vector.imag], axis=1)
            decay_time = step / decay if decay > 0 else math.inf
            found.append(Rotation(complex(value), projection, 2 * math.pi * step / angle, decay_time))
    return sorted(found, key=lambda rotation: -rotation.period)


def ring_scores(
    states: Any,
    A: Any,
    position: Any,
    traversal: Any,
    time: Any,
    held_out: Any,
    *,
    step: float,
    center: Any = None,
    rotation: int = 0,
) -> RingScores:
    """Score how well laps on a linear track follow a ring in the plane of the slowest rotation of the dynamics.

    Parameters
    ----------
    states : (time, state)
        Posterior means of the state, ``model.transform(recording).mean``.
    A : (state, state)
        Transition matrix, ``model.model_.predictor.A``.
    position : (time,)
        Position along the track; known in all traversals.
    traversal : (time,) int
        Number of the traversal of each bin, -1 outside (`kalmanssl.data.traversals`).
    time : (time,)
        Seconds, increasing.
    held_out : (time,) bool
        Bins to score. The means of the phase at each position are computed on the other traversals.
    step : float
        Duration of one step of the dynamics, seconds: ``model.bin_size_ * model.bins_per_step_``.
    center : (state,), optional
        Fixed point of the dynamics, ``model.model_.predictor.center``; by default zero.
    rotation : int
        Which of `coherent_rotations` to use, 0 for the slowest.

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, the dynamics have no such rotation, there is no held-out lap, or
        fewer than two other traversals.
    """
    states = check_features("states", states).astype(float)
    traversal, held_out = np.asarray(traversal, dtype=int), np.asarray(held_out, dtype=bool)
    position, time = as_floats("position", position), as_floats("time", time)
    for name, values in (("position", position), ("traversal", traversal), ("time", time), ("held_out", held_out)):
        if values.shape != (len(states),):
            raise InputError(f"{name} has shape {values.shape}: {(len(states),)} is needed", parameter=name)
    if not np.isfinite(position[traversal >= 0]).all():
        raise InputError("position has NaN inside traversals: set traversal to -1 there", parameter="position")
    found = _choose(coherent_rotations(A, step), rotation)
    middle = np.zeros(states.shape[1]) if center is None else as_floats("center", center)
    for name, size in (("A", len(found.projection)), ("center", middle.size)):
        if size != states.shape[1]:
            raise InputError(f"{name} is for {size} states: states has {states.shape[1]} columns", parameter=name)
    coordinates = found.project(states, middle)
    phase = np.arctan2(coordinates[:, 1], coordinates[:, 0])
    runs = {int(number): np.flatnonzero(traversal == number) for number in np.unique(traversal[traversal >= 0])}
    scored = {number: run for number, run in runs.items() if held_out[run].all()}
    others = [run for run in runs.values() if not held_out[run].any()]
    if len(others) < 2:
        raise InputError(f"{len(others)} traversals are not held out: at least 2 are needed", parameter="held_out")
    turns, lap_times = _laps(phase, position, time, scored)
    radius = np.linalg.norm(coordinates[np.concatenate(list(scored.values()))], axis=1)
    return RingScores(
        rotation=found,
        coordinates=coordinates,
        phase=phase,
        lap_time=float(np.median(lap_times)),
        radius_variation=float(radius.std() / max(radius.mean(), 1e-300)),
        turns_per_lap=float(np.mean(turns)),
        turns_sd=float(np.std(turns)),
        one_turn_laps=float(np.mean(np.abs(np.array(turns) - 1) <= _NEAR_ONE_TURN)),
        phase_r2=_phase_r2(phase, position, others, list(scored.values())),
        n_laps=len(turns),
    )


def _choose(rotations: Sequence[Rotation], index: int) -> Rotation:
    """Return the rotation at an index; raise `InputError` if there are too few."""
    check_integer("rotation", index, 0)
    if not rotations:
        raise InputError("A has no pair of eigenvalues that makes a quarter turn before it decays", parameter="A")
    if index >= len(rotations):
        raise InputError(f"rotation must be below {len(rotations)}, the coherent rotations of A", parameter="rotation")
    return rotations[index]


def _direction(position: np.ndarray, run: np.ndarray) -> int:
    """Return 1 for a traversal toward larger positions, else 0."""
    return int(position[run[-1]] > position[run[0]])


def _laps(
    phase: np.ndarray, position: np.ndarray, time: np.ndarray, runs: Mapping[int, np.ndarray]
) -> tuple[list[float], list[float]]:
    """Return the number of turns and the duration of each lap, from the bins of each traversal by its number.

    A lap begins with any traversal, and ends where the next traversal in the same direction begins. Rest between
    traversals, in which the phase is not determined by the position, is left out of the phase.
    """
    turns, durations = [], []
    for number, first in runs.items():
        if number + 1 in runs and number + 2 in runs:
            second, third = runs[number + 1], runs[number + 2]
            directions = [_direction(position, run) for run in (first, second, third)]
            if directions[0] != directions[1] and directions[0] == directions[2]:
                angles = np.unwrap(phase[np.concatenate([first, second, third[:1]])])
                turns.append(float(angles[-1] - angles[0]) / (2 * math.pi))
                durations.append(float(time[third[0]] - time[first[0]]))
    if not turns:
        raise InputError(
            f"the {len(runs)} held-out traversals contain no lap: three consecutive ones in alternating directions are "
            "needed",
            parameter="held_out",
        )
    return turns, durations


def _phase_r2(
    phase: np.ndarray, position: np.ndarray, fitted: Sequence[np.ndarray], scored: Sequence[np.ndarray]
) -> float:
    """Return the R² of cosine and sine of the phase from their means in cells of position and direction."""
    inside = np.concatenate(fitted)
    edges = np.linspace(position[inside].min(), position[inside].max(), _CELLS + 1)[1:-1]

    def cells(runs: Sequence[np.ndarray]) -> np.ndarray:
        one_way = [_direction(position, run) * _CELLS for run in runs]
        return np.concatenate([np.digitize(position[run], edges) + way for run, way in zip(runs, one_way, strict=True)])

    vectors = np.exp(1j * phase)
    known, cell = vectors[inside], cells(fitted)
    count = np.bincount(cell, minlength=2 * _CELLS)
    total = np.bincount(cell, known.real, 2 * _CELLS) + 1j * np.bincount(cell, known.imag, 2 * _CELLS)
    means = np.where(count > 0, total / np.maximum(count, 1), known.mean())
    truth = vectors[np.concatenate(scored)]
    missed = np.abs(truth - means[cells(scored)]) ** 2
    return float(1 - missed.sum() / max((np.abs(truth - truth.mean()) ** 2).sum(), 1e-300))
