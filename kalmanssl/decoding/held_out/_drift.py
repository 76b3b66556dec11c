"""Drift of place fields along the direction of motion, and its correction.

Place fields shift against the direction of motion as an animal repeats a path (Mehta, Barnes & McNaughton 1997, PNAS
94:8918). A decoder that was fitted on earlier time then reads positions ahead of the animal on later time. The amount
can be learned from the earlier time alone: the positions at two bins in movement with similar latents differ by ::

    y_i - y_j = rate * d_i * (t_i - t_j)

where d_i is the direction of motion. The rate is fitted by robust regression over pairs of neighbors in latent space.
It is extrapolated to later time only if this reduces the error on held-out blocks (`improves_held_out`) and the drift
is not small against the resolution of the behavior: of a position that is known in steps of 4 cm, a drift of 1 cm
cannot be corrected, and the attempt moves predictions away from the values that occur. `Calibration` accounts for the
drift that remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors

from kalmanssl.decoding.grids import Periods, difference
from kalmanssl.utils.moments import MAD_TO_SD, evenly_spaced
from kalmanssl.utils.segments import segment_index
from kalmanssl.utils.validation import as_numbers, check_integer, check_positive

__all__ = ["Drift", "DriftSettings", "TrackedBins", "TrainTestBlock", "improves_held_out", "motion_direction"]

_ROWS = 128  # bins whose similarities to all others are computed at a time, so that they stay in the cache


@dataclass(frozen=True)
class DriftSettings:
    """Settings of the drift correction.

    Attributes
    ----------
    n_neighbors : int
        Neighbors in latent space that each bin is compared with.
    min_time_apart : float
        Smallest distance in time of two bins that are compared, seconds. Closer ones belong to the same traversal and
        carry no information about drift.
    max_bins : int
        Bins, evenly spaced, from which the rate is learned.
    max_error_ratio : float
        The drift is used if the error on held-out blocks is below this fraction of the error without it.
    huber_threshold : float
        Threshold of Huber's loss in the regression for the rate, in robust standard deviations.
    direction_half_width : float
        The direction of motion at a bin is that of the displacement from this long before to this long after it,
        seconds.
    ridge_alphas : tuple of float
        Penalties for the ridge regression of the direction on the latents; the best by leave-one-out error is used.
    """

    n_neighbors: int = 25
    min_time_apart: float = 5.0
    max_bins: int = 4000
    max_error_ratio: float = 0.99
    huber_threshold: float = 1.345
    direction_half_width: float = 1.0
    ridge_alphas: tuple[float, ...] = tuple(np.logspace(-2, 3, 11).tolist())

    def __post_init__(self) -> None:
        check_integer("n_neighbors", self.n_neighbors, 1)
        check_integer("max_bins", self.max_bins, 2)
        for name in ("min_time_apart", "max_error_ratio", "huber_threshold", "direction_half_width"):
            check_positive(name, getattr(self, name))
        alphas = as_numbers("ridge_alphas", self.ridge_alphas)
        object.__setattr__(self, "ridge_alphas", alphas)  # a saved state has a list
        for alpha in self.ridge_alphas:
            check_positive("ridge_alphas", alpha)


class TrackedBins(NamedTuple):
    """Bins with latents and known behavior.

    Attributes
    ----------
    latents : (time, state)
    behavior : (time, dims)
    time : (time,)
        Seconds, increasing.
    """

    latents: np.ndarray
    behavior: np.ndarray
    time: np.ndarray


class TrainTestBlock(NamedTuple):
    """Bins that a drift is fitted to, and later ones that it is tested on.

    Attributes
    ----------
    train, test : TrackedBins
    """

    train: TrackedBins
    test: TrackedBins


class Drift:
    """Drift of the behavior along the direction of motion.

    Attributes
    ----------
    rate : float
        Units of the behavior per second; 0 without drift.
    center, scale : (state,)
        Mean and standard deviation by which latents are standardized.
    weight, offset : (state, dims), (dims,)
        Linear readout of the direction of motion from standardized latents of unit length.
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
    def zero(cls, features: int, dims: int) -> Drift:
        """Return a drift of rate 0."""
        return cls(0.0, np.zeros(features), np.ones(features), np.zeros((features, dims)), np.zeros(dims))

    @classmethod
    def fit(
        cls,
        mean: np.ndarray,
        behavior: np.ndarray,
        time: np.ndarray,
        moving: np.ndarray,
        periods: Periods,
        settings: DriftSettings | None = None,
        session: np.ndarray | None = None,
    ) -> Drift:
        """Fit the rate to bins in movement, and the direction to all bins; it is zero at rest.

        Parameters
        ----------
        mean : (time, state)
        behavior : (time, dims)
        time : (time,)
            Seconds, increasing.
        moving : (time,) bool
        periods : tuple of float or None
        settings : DriftSettings, optional
        session : (time,) int, optional
            Number of the session of each bin, in order. Bins of different sessions are not compared.
        """
        s = settings or DriftSettings()
        session = np.zeros(len(mean), dtype=int) if session is None else session
        center, scale = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        direction = motion_direction(behavior, time, periods, s.direction_half_width).astype(np.float32)
        direction[~moving] = 0.0
        fast, rest = (np.flatnonzero(part)[evenly_spaced(int(part.sum()), s.max_bins)] for part in (moving, ~moving))
        rate = 0.0
        if len(fast) > s.n_neighbors and mean.shape[1] > 1:  # the direction of one feature is only a sign
            latents = _unit_latents(mean[fast], center, scale)
            apart = _nearest_apart(latents, time[fast], session[fast], s)
            rate = _fit_rate(apart, behavior[fast], time[fast], direction[fast], periods, s)
        picked = np.sort(np.concatenate([fast, rest]))
        latents = _unit_latents(mean[picked], center, scale)
        return cls(rate, center, scale, *_direction_readout(latents, direction[picked], s.ridge_alphas))

    def displacement(self, mean: np.ndarray, age: np.ndarray) -> np.ndarray:
        """Return the behavior minus what it would be at the end of the fitted part, (time, dims).

        Parameters
        ----------
        mean : (time, state)
        age : (time,)
            Time since the end of the fitted part, seconds; negative inside it.
        """
        if self.rate == 0:
            return np.zeros((len(mean), len(self.offset)))
        direction = _unit_latents(mean, self.center, self.scale) @ self.weight + self.offset
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1.0)
        return self.rate * direction * age[:, None]

    def to_state(self) -> dict[str, Any]:
        """Return the arguments that make this drift again."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Drift:
        """Make a drift from what `to_state` returned."""
        return cls(**state)


def improves_held_out(
    blocks: Sequence[TrainTestBlock], periods: Periods, settings: DriftSettings | None = None
) -> bool:
    """Test whether the drift of the training parts reduces the error of nearest neighbors on the test parts.

    The typical displacement must also be at least half the resolution of the behavior, the median difference between
    values that follow each other in size.

    Parameters
    ----------
    blocks : sequence of TrainTestBlock
        Training and test parts; both must contain bins in movement only.
    periods : tuple of float or None
        One per dimension of the behavior.
    settings : DriftSettings, optional
    """
    s = settings or DriftSettings()
    with_drift, without, sizes, resolutions = [], [], [], []
    for (mean, behavior, time), (test_mean, test_behavior, test_time) in blocks:
        if len(mean) <= s.n_neighbors or len(test_mean) == 0:
            continue
        drift = Drift.fit(mean, behavior, time, np.ones(len(mean), dtype=bool), periods, s)
        picked, scored = evenly_spaced(len(mean), 2 * s.max_bins), evenly_spaced(len(test_mean), s.max_bins)
        reference, points = (_unit_latents(m, drift.center, drift.scale) for m in (mean[picked], test_mean[scored]))
        near = picked[_nearest(reference, points, s.n_neighbors)]
        error = difference(behavior[near], test_behavior[scored][:, None], periods)
        direction = motion_direction(behavior, time, periods, s.direction_half_width)
        moved = drift.rate * direction[near] * (test_time[scored][:, None] - time[near])[..., None]
        without.append(np.abs(error.mean(axis=1)).ravel())
        with_drift.append(np.abs((error + moved).mean(axis=1)).ravel())
        sizes.append(np.linalg.norm(moved, axis=-1).ravel())
        resolutions.append(_resolution(behavior))
    if not without or np.median(np.concatenate(sizes)) < 0.5 * max(resolutions):
        return False
    return bool(np.concatenate(with_drift).mean() < s.max_error_ratio * np.concatenate(without).mean())


def _resolution(behavior: np.ndarray) -> float:
    """Return the median difference between consecutive distinct values, the largest over dimensions (time, dims)."""
    steps = (np.diff(np.unique(column)) for column in behavior.T)
    return max((float(np.median(step)) for step in steps if len(step)), default=0.0)


def motion_direction(behavior: np.ndarray, time: np.ndarray, periods: Periods, half_width: float = 1.0) -> np.ndarray:
    """Return the unit vector of motion at every bin, (time, dims); zero at rest. Gaps in time are never crossed.

    Parameters
    ----------
    behavior : (time, dims)
    time : (time,)
        Seconds, increasing.
    periods : tuple of float or None
        One per dimension; None for a dimension that is not circular.
    half_width : float
        Seconds before and after the bin between which the displacement is taken.
    """
    reach = max(1, round(half_width / np.median(np.diff(time))))
    index, segment = np.arange(len(time)), segment_index(time)
    first, stop = (np.searchsorted(segment, segment, side=side) for side in ("left", "right"))
    later, earlier = np.minimum(index + reach, stop - 1), np.maximum(index - reach, first)
    # Small steps are summed, since an animal can go around more than half of a circle within the window.
    traveled = np.zeros(behavior.shape)
    traveled[1:] = np.cumsum(difference(behavior[1:], behavior[:-1], periods), axis=0)
    moved = traveled[later] - traveled[earlier]
    distance = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.divide(moved, distance, out=np.zeros_like(moved), where=distance > 0)


def _direction_readout(
    latents: np.ndarray, direction: np.ndarray, ridge_alphas: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and offset of a ridge regression of the direction of motion, rescaled to undo its shrinkage.

    Latents of a state-space model contain the velocity, so a linear readout of the direction is enough.
    """
    ridge = RidgeCV(alphas=np.array(ridge_alphas)).fit(latents, direction)
    predicted = ridge.predict(latents).reshape(direction.shape)
    overlap = max(float((direction * predicted).sum()), 1e-12)
    gain = float((direction**2).sum() / overlap) if direction.any() else 0.0
    weight = gain * ridge.coef_.reshape(direction.shape[1], -1).T
    return weight, gain * np.atleast_1d(ridge.intercept_)


def _fit_rate(
    pairs: tuple[np.ndarray, np.ndarray],
    behavior: np.ndarray,
    time: np.ndarray,
    direction: np.ndarray,
    periods: Periods,
    settings: DriftSettings,
) -> float:
    """Return the rate from Huber regression over pairs of neighbors, by iteratively reweighted least squares."""
    near, apart = pairs
    shift = difference(behavior[:, None], behavior[near], periods)[apart].ravel()
    effect = (direction[:, None] * (time[:, None] - time[near])[..., None])[apart].ravel()
    if not (effect**2).sum() > 0:
        return 0.0
    tolerance = max(settings.huber_threshold * MAD_TO_SD * float(np.median(np.abs(shift))), 1e-12)
    rate, weight = 0.0, np.ones(len(shift))
    for _ in range(20):  # enough to converge
        rate = float((weight * shift * effect).sum() / (weight * effect**2).sum())
        weight = 1 / np.maximum(np.abs(shift - rate * effect) / tolerance, 1.0)
    return rate


def _unit_latents(mean: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return standardized latents divided by their length."""
    standard = ((mean - center) / scale).astype(np.float32)
    return standard / np.maximum(np.linalg.norm(standard, axis=1, keepdims=True), 1e-12)


def _nearest(reference: np.ndarray, points: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Return the indices (time, neighbors) of the nearest reference points."""
    search = NearestNeighbors(n_neighbors=min(n_neighbors, len(reference)), algorithm="brute").fit(reference)
    return search.kneighbors(points, return_distance=False)


def _nearest_apart(
    latents: np.ndarray, time: np.ndarray, session: np.ndarray, settings: DriftSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices (time, neighbors) of the nearest bins of the session that are far enough in time.

    The second array says which of them are; there may be too few.
    """
    count = min(settings.n_neighbors, len(latents) - 1)
    first = np.searchsorted(time, time - settings.min_time_apart, side="left")
    stop = np.searchsorted(time, time + settings.min_time_apart, side="right")
    own_first, own_stop = (np.searchsorted(session, session, side=side) for side in ("left", "right"))
    near = np.empty((len(latents), count), dtype=np.int64)
    is_apart = np.empty(near.shape, dtype=bool)
    for start in range(0, len(latents), _ROWS):
        rows = slice(start, start + _ROWS)
        cosine = latents[rows] @ latents.T
        for row, (begin, end) in enumerate(zip(first[rows], stop[rows], strict=True)):
            cosine[row, begin:end] = -np.inf
            cosine[row, : own_first[start + row]] = -np.inf
            cosine[row, own_stop[start + row] :] = -np.inf
        largest, index = torch.topk(torch.from_numpy(cosine), count, dim=1, sorted=False)
        near[rows], is_apart[rows] = index.numpy(), np.isfinite(largest.numpy())
    return near, is_apart
