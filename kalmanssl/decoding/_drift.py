"""Fields that move: the shift of place fields with experience, and how to decode in spite of it.

Place fields shift against the direction of motion as an animal goes over the same ground (Mehta, Barnes & McNaughton
1997, PNAS 94:8918). A decoder that was fitted on earlier time then reads positions ahead of the animal on later time,
by an amount that can be learned from the earlier time alone: two bins with like latents at different times lie
apart by ::

    y_i - y_j = rate * d_i * (t_i - t_j)

with d_i the direction of motion. The rate is fitted robustly over pairs of neighbors in latent space and carried on
into time that was not seen, if that helps on held-out later blocks (`improves_held_out`). `Calibration` accounts for
the drift that remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors

from kalmanssl.decoding._predictive import wrap

__all__ = ["Drift", "TrainTestBlock", "improves_held_out", "motion_direction"]

_NEIGHBORS = 25
_APART = 5.0  # seconds; closer pairs are of the same passage and tell nothing about drift
_BINS = 4000  # bins that the rate is learned from, evenly spread over the fitted part
_WORTH = 0.99  # the error on later blocks must fall below this share of what it is without
_TOLERANCE = 1.345 * 1.4826  # of Huber's loss, in median absolute deviations
_LAG = 1.0  # seconds to either side over which the direction of motion is taken: of a passage, not of a moment


@dataclass(frozen=True)
class TrainTestBlock:
    """Latents (time, state), behavior (time, dims) and time (seconds) of a fitted part, and of bins after it."""

    known: tuple[np.ndarray, np.ndarray, np.ndarray]
    later: tuple[np.ndarray, np.ndarray, np.ndarray]


class Drift:
    """Drift of the behavior along the direction of motion.

    Attributes
    ----------
    rate : float
        Units of the behavior per second; 0 without drift.
    center, scale : (state,)
        Moments that latents are standardized with.
    weight, offset : (state, dims), (dims,)
        Linear readout of the direction of motion from latents on the unit sphere.
    """

    def __init__(
        self, rate: float, center: np.ndarray, scale: np.ndarray, weight: np.ndarray, offset: np.ndarray
    ) -> None:
        self.rate = rate
        self.center = center
        self.scale = scale
        self.weight = weight
        self.offset = offset

    @classmethod
    def none(cls, features: int, dims: int) -> Drift:
        """No drift."""
        return cls(0.0, np.zeros(features), np.ones(features), np.zeros((features, dims)), np.zeros(dims))

    @classmethod
    def learn(
        cls, mean: np.ndarray, behavior: np.ndarray, time: np.ndarray, periods: tuple[float | None, ...]
    ) -> Drift:
        """Learn from latents (time, state), behavior (time, dims) and time (seconds, increasing)."""
        direction = motion_direction(behavior, time, periods).astype(np.float32)
        picked = np.unique(np.linspace(0, len(mean) - 1, min(len(mean), _BINS)).astype(int))
        center, scale = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        latents, direction = _on_sphere(mean[picked], center, scale), direction[picked]
        rate = _rate(latents, behavior[picked], time[picked], direction, periods)
        return cls(rate, center, scale, *_direction_readout(latents, direction))

    def displacement(self, mean: np.ndarray, age: np.ndarray) -> np.ndarray:
        """Behavior minus what it would be at the end of the fitted part, (time, dims).

        Parameters
        ----------
        mean : (time, state)
        age : (time,)
            Time since the end of the fitted part, seconds; negative inside it.
        """
        if self.rate == 0:
            return np.zeros((len(mean), len(self.offset)))
        direction = _on_sphere(mean, self.center, self.scale) @ self.weight + self.offset
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1.0)
        return self.rate * direction * age[:, None]

    def state(self) -> dict[str, Any]:
        """Arguments that make it again."""
        return dict(vars(self))


def _direction_readout(latents: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight and offset of a ridge regression of the direction of motion, stretched to the length that directions have.

    Latents of a state-space model hold the motion, so that a linear readout tells it, and at every bin within a
    fraction of a millisecond.
    """
    ridge = RidgeCV(alphas=np.logspace(-2, 3, 11)).fit(latents, direction)
    told = ridge.predict(latents).reshape(direction.shape)
    stretch = float((direction**2).sum() / max(float((direction * told).sum()), 1e-12)) if direction.any() else 0.0
    weight = stretch * ridge.coef_.reshape(direction.shape[1], -1).T
    return weight, stretch * np.atleast_1d(ridge.intercept_)


def improves_held_out(blocks: Sequence[TrainTestBlock], periods: tuple[float | None, ...]) -> bool:
    """Whether neighbors tell the behavior of later bins better with the drift of the earlier ones than without."""
    with_drift, without = [], []
    for block in blocks:
        (mean, behavior, time), (later_mean, later_behavior, later_time) = block.known, block.later
        if len(mean) <= _NEIGHBORS:
            continue
        drift = Drift.learn(mean, behavior, time, periods)
        reference, points = (_on_sphere(m, drift.center, drift.scale) for m in (mean, later_mean))
        near = _neighbors(reference, points)
        off = _difference(behavior[near], later_behavior[:, None], periods)
        direction = motion_direction(behavior, time, periods)
        moved = drift.rate * direction[near] * (later_time[:, None] - time[near])[..., None]
        without.append(np.abs(off.mean(axis=1)).ravel())
        with_drift.append(np.abs((off + moved).mean(axis=1)).ravel())
    if not without:
        return False
    return bool(np.concatenate(with_drift).mean() < _WORTH * np.concatenate(without).mean())


def _rate(
    latents: np.ndarray,
    behavior: np.ndarray,
    time: np.ndarray,
    direction: np.ndarray,
    periods: tuple[float | None, ...],
) -> float:
    """Huber regression over pairs of neighbors of different passages, by reweighted least squares."""
    near, apart = _neighbors_apart(latents, time)
    shift = _difference(behavior[:, None], behavior[near], periods)[apart].ravel()
    effect = (direction[:, None] * (time[:, None] - time[near])[..., None])[apart].ravel()
    if not (effect**2).sum() > 0:
        return 0.0
    tolerance = max(_TOLERANCE * float(np.median(np.abs(shift))), 1e-12)
    rate, weight = 0.0, np.ones(len(shift))
    for _ in range(20):
        rate = float((weight * shift * effect).sum() / (weight * effect**2).sum())
        weight = 1 / np.maximum(np.abs(shift - rate * effect) / tolerance, 1.0)
    return rate


def motion_direction(behavior: np.ndarray, time: np.ndarray, periods: tuple[float | None, ...]) -> np.ndarray:
    """Unit vector of motion at every bin, (time, dims), zero where nothing moves; never taken over a gap.

    Parameters
    ----------
    behavior : (time, dims)
    time : (time,)
        Seconds, increasing.
    periods : tuple of float or None
        One per dimension; None for a dimension on the line.
    """
    step = np.median(np.diff(time))
    reach = max(1, round(_LAG / step))
    index = np.arange(len(time))
    stretch = np.concatenate([[0], np.cumsum(np.diff(time) > 1.5 * step)])
    first, stop = (np.searchsorted(stretch, stretch, side=side) for side in ("left", "right"))
    later, earlier = np.minimum(index + reach, stop - 1), np.maximum(index - reach, first)
    # Small steps are added up: within two seconds an animal can go round more than half of a circle.
    traveled = np.zeros(behavior.shape)
    traveled[1:] = np.cumsum(_difference(behavior[1:], behavior[:-1], periods), axis=0)
    moved = traveled[later] - traveled[earlier]
    speed = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.divide(moved, speed, out=np.zeros_like(moved), where=speed > 0)


def _difference(a: np.ndarray, b: np.ndarray, periods: tuple[float | None, ...]) -> np.ndarray:
    difference = a - b
    return np.stack([wrap(difference[..., dim], period) for dim, period in enumerate(periods)], axis=-1)


def _on_sphere(mean: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    standard = ((mean - center) / scale).astype(np.float32)
    return standard / np.maximum(np.linalg.norm(standard, axis=1, keepdims=True), 1e-12)


def _neighbors(reference: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Indices of the nearest reference points, (time, neighbors); on the sphere their order is that of the cosine."""
    search = NearestNeighbors(n_neighbors=min(_NEIGHBORS, len(reference)), algorithm="brute").fit(reference)
    return search.kneighbors(points, return_distance=False)


def _neighbors_apart(latents: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (time, neighbors) of the nearest bins of other passages, and which of them are that."""
    distance = 1 - latents @ latents.T
    distance[np.abs(time[:, None] - time) <= _APART] = np.inf
    count = min(_NEIGHBORS, len(latents) - 1)
    near = np.argpartition(distance, count, axis=1)[:, :count]
    return near, np.isfinite(np.take_along_axis(distance, near, axis=1))
