"""Drift of place fields along the direction of motion, and its correction.

Place fields shift against the direction of motion as an animal repeats a path (Mehta, Barnes & McNaughton 1997, PNAS
94:8918). A decoder that was fitted on earlier time then reads positions ahead of the animal, farther and farther ::

    y_t - decoded_t = rate * d_t * (t - end of the fit)

where d_t is the direction of motion as it can be read from the latents. The rate is learned from held-out bins in
movement, after the part that each readout was fitted on. It cannot be learned within that part: an encoder that was
fitted to it has already compensated for most of the drift there. The drift is corrected only if the rate is clearly not
zero and the displacement is not small against the resolution of the behavior: of a position that is known in steps of
4 cm, a drift of 1 cm cannot be corrected, and the attempt moves predictions away from the values that occur. Beyond the
longest time that was held out, the displacement stays the same, since fields do not shift forever. `Calibration`
accounts for the drift that remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeCV

from kalmanssl.decoding._circular import Periods, difference
from kalmanssl.utils.segments import segment_index
from kalmanssl.utils.validation import check_condition, check_integer, check_positive

__all__ = ["Drift", "DriftErrors", "DriftSettings", "drift_rate", "motion_direction", "resolution"]

_MAD_TO_SD = 1.4826  # standard deviation of a Gaussian in units of its median absolute deviation
_REST, _MOVING = (
    0.25,
    0.75,
)  # length of the direction as read from latents below which a bin rests, and above which it moves
_MIN_BLOCKS = 5  # blocks of time with bins in movement, for an error of the rate


@dataclass(frozen=True)
class DriftSettings:
    """Settings of the drift correction.

    Attributes
    ----------
    max_bins : int
        Bins in movement, and bins at rest, evenly spaced, from which the readout of the direction is learned.
    min_standard_errors : float
        The drift is corrected if the rate is this many standard errors, over blocks of time, from zero.
    huber_threshold : float
        Threshold of Huber's loss in the regression for the rate, in robust standard deviations.
    direction_half_width : float
        The direction of motion at a bin is that of the displacement from this long before to this long after it,
        seconds.
    ridge_alphas : tuple of float
        Penalties for the ridge regression of the direction on the latents; the best by leave-one-out error is used.
    """

    max_bins: int = 4000
    min_standard_errors: float = 2.0
    huber_threshold: float = 1.345
    direction_half_width: float = 1.0
    ridge_alphas: tuple[float, ...] = tuple(np.logspace(-2, 3, 11).tolist())

    def __post_init__(self) -> None:
        check_integer("max_bins", self.max_bins, 2)
        for name in ("min_standard_errors", "huber_threshold", "direction_half_width"):
            check_positive(name, getattr(self, name))
        object.__setattr__(self, "ridge_alphas", tuple(self.ridge_alphas))  # a saved state has a list
        for alpha in self.ridge_alphas:
            check_positive("ridge_alphas", alpha)
        check_condition("ridge_alphas", self.ridge_alphas, len(self.ridge_alphas) > 0, "at least one number")


@dataclass(frozen=True)
class DriftErrors:
    """Held-out bins in movement after the part that a readout was fitted on.

    Attributes
    ----------
    error : (bins, dims)
        Behavior minus what was decoded.
    direction : (bins, dims)
        Direction of motion as read from the latents, at most of length one.
    age : (bins,)
        Time since the end of the fit, seconds.
    block : (bins,) int
        Block of time of each bin; one that several folds score has the same number.
    """

    error: np.ndarray
    direction: np.ndarray
    age: np.ndarray
    block: np.ndarray

    @property
    def displacement(self) -> np.ndarray:
        """What a drift of rate 1 displaces the behavior by, (bins, dims)."""
        return self.direction * self.age[:, None]


@dataclass(frozen=True, eq=False)
class Drift:
    """Drift of the behavior along the direction of motion.

    Attributes
    ----------
    rate : float
        Units of the behavior per second; 0 without drift.
    longest_age : float
        Time since the end of the fit after which the displacement stays the same, seconds.
    center, scale : (state,)
        Mean and standard deviation by which latents are standardized.
    weight, offset : (state, dims), (dims,)
        Linear readout of the direction of motion from standardized latents of unit length.
    """

    rate: float
    longest_age: float
    center: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    offset: np.ndarray

    @classmethod
    def zero(cls, features: int, dims: int) -> Drift:
        """Return a drift of rate 0."""
        return cls(0.0, 0.0, np.zeros(features), np.ones(features), np.zeros((features, dims)), np.zeros(dims))

    @classmethod
    def along_motion(
        cls,
        mean: np.ndarray,
        behavior: np.ndarray,
        time: np.ndarray,
        moving: np.ndarray,
        periods: Periods,
        settings: DriftSettings | None = None,
    ) -> Drift:
        """Learn to read the direction of motion from latents; it is zero at rest. The rate is 1.

        Parameters
        ----------
        mean : (time, state)
        behavior : (time, dims)
        time : (time,)
            Seconds, increasing.
        moving : (time,) bool
        periods : tuple of float or None
        settings : DriftSettings, optional
        """
        s = settings or DriftSettings()
        center, scale = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        direction = motion_direction(behavior, time, periods, s.direction_half_width).astype(np.float32)
        direction[~moving] = 0.0
        picked = np.sort(np.concatenate([_evenly(np.flatnonzero(part), s.max_bins) for part in (moving, ~moving)]))
        latents = _unit_latents(mean[picked], center, scale)
        return cls(1.0, np.inf, center, scale, *_direction_readout(latents, direction[picked], s.ridge_alphas))

    def with_rate(self, rate: float, longest_age: float) -> Drift:
        """Return the drift with another rate, which displaces no more after `longest_age` seconds."""
        return replace(self, rate=rate, longest_age=longest_age)

    def displacement(self, mean: np.ndarray, age: np.ndarray) -> np.ndarray:
        """Return the behavior minus what it would be at the end of the fitted part, (time, dims).

        Parameters
        ----------
        mean : (time, state)
        age : (time,)
            Time since the end of the fitted part, seconds; there is no displacement inside it, where it is negative.
        """
        if self.rate == 0:
            return np.zeros((len(mean), len(self.offset)))
        direction = _unit_latents(mean, self.center, self.scale) @ self.weight + self.offset
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction *= np.clip((length - _REST) / (_MOVING - _REST), 0.0, 1.0) / np.maximum(length, _REST)
        return self.rate * direction * np.clip(age, 0.0, self.longest_age)[:, None]

    def to_state(self) -> dict[str, Any]:
        """Return the arguments that make this drift again."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Drift:
        """Make a drift from what `to_state` returned; that of earlier versions has no longest age."""
        return cls(**{"longest_age": np.inf} | state)


def drift_rate(errors: Sequence[DriftErrors], resolution: float = 0.0, settings: DriftSettings | None = None) -> float:
    """Return the rate of the drift, units of the behavior per second, or 0 if it is not clear.

    A Huber regression of the errors on the direction of motion, and on the direction times the age, tells whether they
    grow with the age; errors along the direction that do not grow are a lag, and no drift. The rate is that of a
    regression on the direction times the age alone, since it is zero at the end of the fit. Each fold by itself must
    show a rate of this sign, by more than one standard error: parts of the behavior that one fold has not seen yet
    cause errors that grow, too. The rate is reduced by the factor 1 - (standard error / rate)^2, since a rate that is
    hardly larger than its error is more often too large than too small.

    Parameters
    ----------
    errors : sequence of DriftErrors
        Of all folds.
    resolution : float
        The typical displacement must be at least half of this.
    settings : DriftSettings, optional
    """
    s = settings or DriftSettings()
    errors = [part for part in errors if len(part.age) and part.direction.any()]
    if not errors:
        return 0.0
    every = DriftErrors(*(np.concatenate([getattr(part, one.name) for part in errors]) for one in fields(DriftErrors)))
    if len(np.unique(every.block)) < _MIN_BLOCKS or np.ptp(every.age) == 0:
        return 0.0
    growth, growth_error = _regress(every, s, with_lag=True)
    rate, rate_error = _regress(every, s)
    of_folds = [_regress(part, s) for part in errors]
    moved = abs(rate) * float(np.median(np.linalg.norm(every.displacement, axis=1)))
    is_clear = min(abs(growth) / growth_error, abs(rate) / rate_error) > s.min_standard_errors
    is_in_all = growth * rate > 0 and all(own * np.sign(rate) > own_error for own, own_error in of_folds)
    if not (is_clear and is_in_all) or moved < 0.5 * resolution:
        return 0.0
    return rate * max(0.0, 1 - (rate_error / rate) ** 2)


def _regress(errors: DriftErrors, s: DriftSettings, with_lag: bool = False) -> tuple[float, float]:
    """Return the coefficient of the displacement in the errors, and its standard error over blocks of time.

    Huber regression by iteratively reweighted least squares; `with_lag` adds the direction of motion to the regressors.
    """
    block = np.unique(errors.block, return_inverse=True)[1].repeat(errors.error.shape[1])
    y = errors.error.ravel()
    X = np.stack([*([errors.direction.ravel()] if with_lag else []), errors.displacement.ravel()], axis=1)
    tolerance = max(s.huber_threshold * _MAD_TO_SD * float(np.median(np.abs(y))), 1e-12)
    weight, inverse, coefficients = np.ones(len(y)), np.zeros((0, 0)), np.zeros(0)
    for _ in range(20):  # enough to converge
        weighted = weight[:, None] * X
        inverse = np.linalg.pinv(X.T @ weighted)
        coefficients = inverse @ (weighted.T @ y)
        weight = 1 / np.maximum(np.abs(y - X @ coefficients) / tolerance, 1.0)
    score = (weight * (y - X @ coefficients))[:, None] * X
    by_block = np.stack([np.bincount(block, column) for column in score.T], axis=1)
    cov = inverse @ (by_block.T @ by_block) @ inverse
    return float(coefficients[-1]), max(float(np.sqrt(cov[-1, -1])), 1e-300)


def resolution(behavior: np.ndarray) -> float:
    """Return the median difference between consecutive distinct values, the largest over dimensions (time, dims)."""
    steps = (np.diff(np.unique(column)) for column in behavior.T)
    return max((float(np.median(step)) for step in steps if len(step)), default=0.0)


def _evenly(index: np.ndarray, max_count: int) -> np.ndarray:
    """Return at most `max_count` of the indices, evenly spaced."""
    if len(index) <= max_count:
        return index
    return index[np.linspace(0, len(index) - 1, max_count).astype(int)]


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


def _unit_latents(mean: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return standardized latents divided by their length."""
    standard = ((mean - center) / scale).astype(np.float32)
    return standard / np.maximum(np.linalg.norm(standard, axis=1, keepdims=True), 1e-12)
