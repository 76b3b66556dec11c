"""Decoding of behaviour from latents, with intervals that hold on time the decoder has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from kalmanssl.calibration import Calibration, LaterErrors, blocks_of_time, rolling_origins
from kalmanssl.errors import InputError
from kalmanssl.mlp_readout import MLPReadout
from kalmanssl.path import LatentPath
from kalmanssl.predictive import quantile_crps, wrap
from kalmanssl.readouts import LinearReadout, Predictive, Readout, SklearnReadout

__all__ = ["DecodedPosition", "PositionDecoder"]

_TAIL = np.array([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04])
_LEVELS = np.concatenate([_TAIL, np.linspace(0.05, 0.95, 37), 1 - _TAIL[::-1]])


@dataclass(frozen=True)
class DecodedPosition:
    """A predictive distribution of the behaviour at every bin.

    Arrays are (time,) for behaviour of one dimension given as a vector, (time, dims) otherwise.

    Attributes
    ----------
    time : (time,)
        Bin centres in the recording's clock, seconds.
    level : float
        Level of `lower` and `upper`.
    table : (time, dims, levels)
        Quantiles at `levels`. On circular dimensions they lie on the turn of the median and may leave [0, period).
    levels : (levels,)
        Probabilities of the quantiles in `table`.
    points : (time, dims)
        Point estimates.
    periods : tuple of float or None
        Period of each dimension, None on the line.
    flat : bool
        True if the behaviour was given as (time,).
    """

    time: np.ndarray
    level: float
    table: np.ndarray
    levels: np.ndarray
    points: np.ndarray
    periods: tuple[float | None, ...]
    flat: bool

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: slice | np.ndarray) -> DecodedPosition:
        return DecodedPosition(
            self.time[index],
            self.level,
            self.table[index],
            self.levels,
            self.points[index],
            self.periods,
            self.flat,
        )

    def _shaped(self, columns: np.ndarray) -> np.ndarray:
        return columns[:, 0] if self.flat else columns

    @property
    def mean(self) -> np.ndarray:
        """Point estimate, within [0, period) on circular dimensions."""
        return self._shaped(self.points)

    @property
    def lower(self) -> np.ndarray:
        """Lower end of the central interval at `level`."""
        return self.interval(self.level)[0]

    @property
    def upper(self) -> np.ndarray:
        """Upper end of the central interval at `level`."""
        return self.interval(self.level)[1]

    @property
    def median(self) -> np.ndarray:
        """Median of the predictive distribution."""
        return self.quantile(0.5)

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of the central interval at `level`, a number inside (0, 1)."""
        _check_level(level)
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def quantile(self, q: float) -> np.ndarray:
        """Quantile at probability `q`, a number inside (0, 1); linear between those of `table`."""
        _check_level(q, "q")
        right = int(np.clip(np.searchsorted(self.levels, q), 1, len(self.levels) - 1))
        low, high = self.levels[right - 1], self.levels[right]
        share = float(np.clip((q - low) / (high - low), 0, 1))
        return self._shaped((1 - share) * self.table[:, :, right - 1] + share * self.table[:, :, right])

    def error(self, truth: np.ndarray) -> np.ndarray:
        """Point estimate minus `truth`, the short way round on circular dimensions; NaN where the truth is."""
        truth = self._columns(truth)
        return self._shaped(
            np.stack(
                [wrap(self.points[:, dim] - truth[:, dim], period) for dim, period in enumerate(self.periods)],
                1,
            )
        )

    def crps(self, truth: np.ndarray) -> np.ndarray:
        """Continuous ranked probability score at every bin, in the unit of the behaviour; NaN where the truth is."""
        truth = self._near(truth)
        scores = [
            quantile_crps(self.table[:, dim].astype(float), self.levels, truth[:, dim]) for dim in range(truth.shape[1])
        ]
        return self._shaped(np.stack(scores, axis=1))

    def pit(self, truth: np.ndarray) -> np.ndarray:
        """Predictive probability of lying below `truth`: uniform if the predictions are calibrated."""
        truth = self._near(truth)
        result = np.full(truth.shape, np.nan)
        for dim in range(truth.shape[1]):
            quantiles, value = self.table[:, dim].astype(float), truth[:, dim]
            known = np.flatnonzero(np.isfinite(value))
            right = np.clip((quantiles[known] < value[known, None]).sum(axis=1), 1, len(self.levels) - 1)
            low, high = quantiles[known, right - 1], quantiles[known, right]
            share = np.clip((value[known] - low) / np.maximum(high - low, 1e-12), 0, 1)
            levels = self.levels[right - 1] + share * (self.levels[right] - self.levels[right - 1])
            levels[value[known] < quantiles[known, 0]] = 0.0
            levels[value[known] > quantiles[known, -1]] = 1.0
            result[known, dim] = levels
        return self._shaped(result)

    def _columns(self, truth: np.ndarray) -> np.ndarray:
        truth = np.asarray(truth, dtype=float)
        columns = truth[:, None] if truth.ndim == 1 else truth
        if columns.shape != self.points.shape:
            raise InputError(
                f"truth has shape {truth.shape}, the decoded behaviour {self.mean.shape}: give one value for each"
            )
        return columns

    def _near(self, truth: np.ndarray) -> np.ndarray:
        """The truth on the turn of the median."""
        truth = self._columns(truth)
        middle = self.table[:, :, len(self.levels) // 2]
        near = [
            middle[:, dim] + wrap(truth[:, dim] - middle[:, dim], period) if period else truth[:, dim]
            for dim, period in enumerate(self.periods)
        ]
        return np.stack(near, axis=1)


class PositionDecoder(BaseEstimator):
    """Decoder of behaviour from latents, with calibrated intervals.

    Fitted twice over: on the first blocks of the training part to see how it errs on the later ones, for the
    calibration, and on all of it for the predictions.

    Parameters
    ----------
    level : float
        Level of the interval, inside (0, 1).
    regressor : "mlp", "linear" or a regressor of scikit-learn
        "mlp": an ensemble of small networks with a histogram as output; "linear": ridge with the analytic interval;
        or anything with `fit` and `predict`, whose residual noise is learned from out-of-block errors.
    posterior : "quadrature" or "samples"
        How "mlp" averages over the latent posterior: three nodes along the direction that moves the output most, or
        `n_samples` random draws, which is much slower and agrees to within sampling error.
    n_samples : int
        Draws per bin for `posterior="samples"`.
    period : float or sequence of float or None, optional
        Period of circular behaviour, one per dimension (None for those on the line).
    calibrate : bool
        Whether to calibrate; without it, intervals are what the readout believes.
    random_state : int, optional
        Seed of the networks and samples.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> position = np.cumsum(rng.normal(size=600)) / 10
    >>> latents = np.stack([position, rng.normal(size=600)], axis=1) + 0.1 * rng.normal(size=(600, 2))
    >>> decoder = PositionDecoder(regressor="linear").fit(latents[:500], position[:500])
    >>> decoder.predict(latents[500:]).lower.shape
    (100,)
    """

    def __init__(
        self,
        level: float = 0.95,
        regressor: Any = "mlp",
        *,
        posterior: str = "quadrature",
        n_samples: int = 1000,
        period: float | Sequence[float | None] | None = None,
        calibrate: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.level = level
        self.regressor = regressor
        self.posterior = posterior
        self.n_samples = n_samples
        self.period = period
        self.calibrate = calibrate
        self.random_state = random_state

    def fit(
        self,
        path: LatentPath | np.ndarray,
        position: np.ndarray,
        where: np.ndarray | None = None,
        time: np.ndarray | None = None,
    ) -> PositionDecoder:
        """Learn to decode and calibrate.

        Parameters
        ----------
        path : LatentPath or (time, features) array
            Latents; an array has no posterior covariance.
        position : (time,) or (time, dims)
            Behaviour; bins with NaN are left out.
        where : (time,) bool, optional
            Bins to learn from, such as `running_bins`.
        time : (time,), optional
            Seconds, for an array; a path brings its own. Without it, lags are not known and intervals do not grow.

        Raises
        ------
        InputError
            For lengths that differ, settings that make no sense, no or constant behaviour.
        """
        _check_level(self.level)
        mean, cov, clock = _latents(path, time)
        columns, self.flat_ = _behavior(position, len(mean))
        self.periods_ = _periods(self.period, columns.shape[1])
        usable = np.isfinite(columns).all(axis=1) & np.isfinite(mean).all(axis=1)
        if where is not None:
            where = np.asarray(where)
            if where.dtype != bool or where.shape != (len(mean),):
                raise InputError(
                    f"where is {where.dtype} of shape {where.shape}: it must be bool of shape ({len(mean)},)"
                )
            usable &= where
        if usable.sum() < 10:
            raise InputError(
                f"only {usable.sum()} of {len(mean)} bins have a known position and latents: at least 10 are needed"
            )
        mean, columns = mean[usable], columns[usable]
        cov = None if cov is None else cov[usable]
        constant = np.flatnonzero(np.ptp(columns, axis=0) == 0)
        if len(constant):
            raise InputError(
                f"position is constant ({columns[0, constant[0]]:g}) in dimension {constant[0]}: nothing to decode"
            )
        for dim, period in enumerate(self.periods_):
            if period:
                columns[:, dim] %= period
        self.n_features_in_ = mean.shape[1]
        rng = np.random.default_rng(self.random_state)
        self.timed_ = clock is not None
        order = np.arange(len(path))[usable].astype(float) if clock is None else clock[usable]
        if np.any(np.diff(order) <= 0):
            raise InputError("time must increase: sort the bins or drop the repeated ones")
        self.calibration_ = [Calibration.none() for _ in self.periods_]
        if self.calibrate:
            self._calibrate(mean, cov, columns, order, rng)
        self.end_ = float(order[-1])
        self.readout_ = self._readout().fit(mean, cov, columns, rng)
        return self

    def _calibrate(
        self,
        mean: np.ndarray,
        cov: np.ndarray | None,
        columns: np.ndarray,
        order: np.ndarray,
        rng: np.random.Generator,
    ) -> None:
        block = blocks_of_time(order)
        errors: list[list[LaterErrors]] = [[] for _ in self.periods_]
        for origin in rolling_origins(block):
            readout = self._readout().fit(mean[:origin], None if cov is None else cov[:origin], columns[:origin], rng)
            later = readout.predict(mean[origin:], None if cov is None else cov[origin:])
            lag = order[origin:] - order[origin - 1]
            for dim, predictive in enumerate(later):
                errors[dim].append(LaterErrors(predictive, columns[origin:, dim], lag, block[origin:]))
        if not errors[0]:
            warnings.warn(
                f"{len(mean)} bins are too few to set later blocks apart: intervals are not calibrated",
                stacklevel=3,
            )
            return
        blocks = len(np.unique(np.concatenate([fold.block for fold in errors[0]])))
        if blocks + 1 < 1 / (1 - self.level):
            warnings.warn(
                f"calibrated on {blocks} blocks of time: too few to vouch for a level of {self.level:g}",
                stacklevel=3,
            )
        self.calibration_ = [Calibration.learn(folds) for folds in errors]

    def _readout(self) -> Readout:
        if self.posterior not in ("quadrature", "samples"):
            raise InputError(f'posterior={self.posterior!r} is neither "quadrature" nor "samples"')
        if isinstance(self.regressor, str):
            if self.regressor == "linear":
                return LinearReadout(self.periods_)
            if self.regressor == "mlp":
                samples = self.n_samples if self.posterior == "samples" else None
                return MLPReadout(self.periods_, n_samples=samples)
            raise InputError(
                f'regressor={self.regressor!r} is not known: give "mlp", "linear" or a regressor of scikit-learn'
            )
        if not (hasattr(self.regressor, "fit") and hasattr(self.regressor, "predict")):
            raise InputError(
                f"regressor is a {type(self.regressor).__name__} without fit and predict: give an instance such as "
                "KNeighborsRegressor()"
            )
        return SklearnReadout(self.regressor, self.periods_)

    def predict(self, path: LatentPath | np.ndarray, time: np.ndarray | None = None) -> DecodedPosition:
        """Decode.

        Parameters
        ----------
        path : LatentPath or (time, features) array
            Latents of the same model.
        time : (time,), optional
            Seconds, for an array.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If the number of features is not that of the fit, or latents are not finite.
        """
        if not hasattr(self, "readout_"):
            raise NotFittedError("this PositionDecoder is not fitted yet: call fit(path, position) first")
        mean, cov, clock = _latents(path, time)
        if mean.shape[1] != self.n_features_in_:
            raise InputError(
                f"path has {mean.shape[1]} features, the decoder was fitted on {self.n_features_in_}: "
                "use latents of the same model"
            )
        bad = ~np.isfinite(mean).all(axis=1)
        if bad.any():
            raise InputError(f"path is not finite at {bad.sum()} bins, the first is bin {np.argmax(bad)}")
        lag = np.full(len(mean), np.nan) if clock is None or not self.timed_ else clock - self.end_
        table, points = [], []
        for predictive, calibration, period in zip(
            self.readout_.predict(mean, cov), self.calibration_, self.periods_, strict=True
        ):
            quantiles = calibration.apply(predictive, lag, _LEVELS)
            table.append(quantiles.astype(np.float32))
            point = _point(predictive, quantiles)
            points.append(point % period if period else point)
        clock = np.arange(len(mean), dtype=float) if clock is None else clock
        return DecodedPosition(
            clock, self.level, np.stack(table, 1), _LEVELS, np.stack(points, 1), self.periods_, self.flat_
        )


def _point(predictive: Predictive, quantiles: np.ndarray) -> np.ndarray:
    return quantiles[:, len(_LEVELS) // 2]


def _check_level(level: float, name: str = "level") -> None:
    if not (np.isscalar(level) and 0 < float(level) < 1):  # type: ignore[arg-type]
        raise InputError(f"{name}={level!r} must be a number between 0 and 1, such as 0.95")


def _latents(
    path: LatentPath | np.ndarray, time: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    if isinstance(path, LatentPath):
        return np.asarray(path.mean, dtype=float), np.asarray(path.cov), np.asarray(path.time, dtype=float)
    mean = np.asarray(path, dtype=float)
    if mean.ndim != 2:
        raise InputError(f"path has shape {mean.shape}: give a LatentPath or an array (time, features)")
    if time is not None:
        time = np.asarray(time, dtype=float)
        if time.shape != (len(mean),):
            raise InputError(f"time has shape {time.shape}, path {len(mean)} bins: give one time for each bin")
    return mean, None, time


def _behavior(position: np.ndarray, bins: int) -> tuple[np.ndarray, bool]:
    position = np.array(position, dtype=float)
    if position.ndim not in (1, 2):
        raise InputError(f"position has shape {position.shape}: give (time,) or (time, dims)")
    if len(position) != bins:
        raise InputError(f"position has {len(position)} bins and path {bins}: cut both to the same bins")
    return position.reshape(bins, -1), position.ndim == 1


def _periods(period: float | Sequence[float | None] | None, dims: int) -> tuple[float | None, ...]:
    if period is None or np.isscalar(period):
        periods: tuple[float | None, ...] = (period,) * dims  # type: ignore[assignment]
    else:
        periods = tuple(period)  # type: ignore[arg-type]
    if len(periods) != dims:
        raise InputError(f"period has {len(periods)} entries and position {dims} dimensions: give one for each")
    for value in periods:
        if value is not None and not value > 0:
            raise InputError(f"period={value!r} must be positive, or None for behaviour on a line")
    return periods
