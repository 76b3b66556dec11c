"""Decoding of behavior from latents, with intervals that hold on time the decoder has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from kalmanssl.data import Latents
from kalmanssl.decoding._calibration import Calibration, HeldOutErrors, blocks_of_time, rolling_origins
from kalmanssl.decoding._drift import Drift, TrainTestBlock, improves_held_out
from kalmanssl.decoding._mlp_readout import MLPReadout
from kalmanssl.decoding._readouts import Covariances, LinearReadout, Readout, SklearnReadout
from kalmanssl.decoding._results import DecodedPosition, check_level
from kalmanssl.errors import InputError

__all__ = ["DecodedPosition", "HeldOutFit", "PositionDecoder"]

_TAIL = np.array([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04])
_LEVELS = np.concatenate([_TAIL, np.linspace(0.05, 0.95, 37), 1 - _TAIL[::-1]])


@dataclass(frozen=True)
class HeldOutFit:
    """What another model, fitted on only a part of the training time, makes of all of it.

    Its latents of the rest are latents of data it has not seen, as those of the test will be.

    Made by `kalmanssl.cross_fit`.

    Attributes
    ----------
    path, smoothed : Latents
        Filtered and smoothed path, over the same bins as the path that the decoder is fitted on.
    fitted : (start, stop)
        What the model was fitted on, seconds.
    """

    path: Latents
    smoothed: Latents
    fitted: tuple[float, float]


class PositionDecoder(BaseEstimator):
    """Decoder of behavior from latents, with calibrated intervals.

    Fitted several times over: on the first part of the training time to see how it errs on the later part, for the
    calibration, and on all of it for the predictions. Where bins have a time, the drift of the code is learned and
    carried on, if that would have helped on the later part (`kalmanssl.decoding`).

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
        Period of circular behavior, one per dimension (None for those on the line).
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
        path: Latents | np.ndarray,
        position: np.ndarray,
        where: np.ndarray | None = None,
        time: np.ndarray | None = None,
        *,
        smoothed: Latents | None = None,
        held_out_fits: Sequence[HeldOutFit] = (),
    ) -> PositionDecoder:
        """Learn to decode and calibrate.

        Parameters
        ----------
        path : Latents or (time, features) array
            Latents of the kind that will be decoded; an array has no posterior covariance.
        position : (time,) or (time, dims)
            Behavior; bins with NaN are left out.
        where : (time,) bool, optional
            Bins to learn from, such as `running_bins`.
        time : (time,), optional
            Seconds, for an array; a path brings its own. Without it, lags are not known and intervals do not grow.
        smoothed : Latents, optional
            Smoothed path over the same bins. The readout then learns from it, also for the decoding of filtered
            paths: a filtered latent lags behind by an amount that depends on speed, which a readout would take for
            part of the code.
        held_out_fits : sequence of HeldOutFit
            Latents from models that were fitted on a first part of the time only. Without them the calibration sees
            latents that were fitted on the very bins it is scored on, and comes out somewhat narrow.

        Raises
        ------
        InputError
            For lengths that differ, settings that make no sense, no or constant behavior.
        """
        check_level(self.level)
        mean, _, clock = _latents(path, time)
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
        constant = np.flatnonzero(np.ptp(columns[usable], axis=0) == 0)
        if len(constant):
            raise InputError(
                f"position is constant ({columns[usable][0, constant[0]]:g}) in dimension {constant[0]}: "
                "nothing to decode"
            )
        for dim, period in enumerate(self.periods_):
            if period:
                columns[:, dim] %= period
        self.n_features_in_ = mean.shape[1]
        rng = np.random.default_rng(self.random_state)
        self.timed_ = clock is not None
        order = np.arange(len(mean), dtype=float) if clock is None else clock
        if np.any(np.diff(order[usable]) <= 0):
            raise InputError("time must increase: sort the bins or drop the repeated ones")
        samples = _Samples.of(path, smoothed, columns, order, usable)
        self.calibration_ = [Calibration.none() for _ in self.periods_]
        self.drifts_ = False
        if self.calibrate:
            rehearsed = [_rehearsed(r, path, smoothed) for r in held_out_fits]
            self._calibrate(_folds(samples, rehearsed, columns, order, usable), rng, bool(rehearsed))
        self.end_ = float(samples.time[-1])
        self.drift_, self.readout_ = self._fitted(samples, rng)
        return self

    def _fitted(self, samples: _Samples, rng: np.random.Generator) -> tuple[Drift, Readout]:
        """The drift of the behavior, and a readout of the behavior as it would be at the last bin."""
        mean, cov, columns = samples.learned_mean, samples.learned_cov, samples.columns
        drift = Drift.none(mean.shape[1], columns.shape[1])
        if self.drifts_:
            drift = Drift.learn(mean, columns, samples.time, self.periods_)
            columns = columns - drift.displacement(mean, samples.time - samples.time[-1])
            for dim, period in enumerate(self.periods_):
                if period:
                    columns[:, dim] %= period
        return drift, self._readout().fit(mean, cov, columns, rng)

    def _calibrate(self, folds: list[tuple[_Samples, _Samples]], rng: np.random.Generator, rehearsed: bool) -> None:
        if not folds:
            warnings.warn("too few bins to set later blocks apart: intervals are not calibrated", stacklevel=3)
            return
        if self.timed_:
            tried = [
                TrainTestBlock((known.learned_mean, known.columns, known.time), (later.mean, later.columns, later.time))
                for known, later in folds
            ]
            self.drifts_ = improves_held_out(tried, self.periods_)
        errors: list[list[HeldOutErrors]] = [[] for _ in self.periods_]
        for known, later in folds:
            drift, readout = self._fitted(known, rng)
            age = later.time - known.time[-1]
            moved = drift.displacement(later.mean, age)
            lag = np.maximum(age, known.time[0] - later.time)
            for dim, predictive in enumerate(readout.predict(later.mean, later.cov)):
                shifted = predictive.shift(moved[:, dim])
                errors[dim].append(HeldOutErrors(shifted, later.columns[:, dim], lag, later.block))
        blocks = len(np.unique(np.concatenate([fold.block for fold in errors[0]])))
        if blocks + 1 < 1 / (1 - self.level):
            warnings.warn(
                f"calibrated on {blocks} blocks of time: too few to vouch for a level of {self.level:g}",
                stacklevel=3,
            )
        self.calibration_ = [Calibration.learn(errors_of_dim, each=rehearsed) for errors_of_dim in errors]

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

    def predict(self, path: Latents | np.ndarray, time: np.ndarray | None = None) -> DecodedPosition:
        """Decode.

        Parameters
        ----------
        path : Latents or (time, features) array
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
        moved = self.drift_.displacement(mean, np.nan_to_num(lag))
        for dim, predictive in enumerate(self.readout_.predict(mean, cov)):
            period = self.periods_[dim]
            predictive = predictive.shift(moved[:, dim])
            table.append(self.calibration_[dim].apply(predictive, lag, _LEVELS).astype(np.float32))
            points.append(predictive.mean() % period if period else predictive.mean())
        clock = np.arange(len(mean), dtype=float) if clock is None else clock
        return DecodedPosition(
            clock, self.level, np.stack(table, 1), _LEVELS, np.stack(points, 1), self.periods_, self.flat_
        )

    def state(self) -> dict[str, Any]:
        """Everything that `from_state` makes this decoder again from.

        Returns
        -------
        dict
            Nested dicts and lists of arrays, numbers, strings and None.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            For a regressor of scikit-learn, which cannot be saved without pickle.
        """
        if not hasattr(self, "readout_"):
            raise NotFittedError("this PositionDecoder is not fitted yet: call fit(path, position) first")
        readout = self.readout_.state()
        settings = self.get_params()
        settings["period"] = list(self.periods_)
        return {
            "settings": settings,
            "features": self.n_features_in_,
            "flat": self.flat_,
            "timed": self.timed_,
            "end": self.end_,
            "drift": self.drift_.state(),
            "calibration": [calibration.state() for calibration in self.calibration_],
            "readout": readout,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> PositionDecoder:
        """Make the decoder again that gave `state`."""
        decoder = cls(**state["settings"])
        decoder.periods_ = tuple(state["settings"]["period"])
        decoder.n_features_in_ = int(state["features"])
        decoder.flat_, decoder.timed_ = bool(state["flat"]), bool(state["timed"])
        decoder.end_ = float(state["end"])
        decoder.drift_ = Drift(**state["drift"])
        decoder.calibration_ = [Calibration(**values) for values in state["calibration"]]
        decoder.readout_ = decoder._readout().load(state["readout"])
        return decoder


@dataclass(frozen=True)
class _Samples:
    """Bins to learn from: what the readout learns from, what will be decoded, and the behavior."""

    learned_mean: np.ndarray
    learned_cov: Covariances | None
    mean: np.ndarray
    cov: Covariances | None
    columns: np.ndarray
    time: np.ndarray
    block: np.ndarray

    @classmethod
    def of(
        cls,
        path: Latents | np.ndarray,
        smoothed: Latents | None,
        columns: np.ndarray,
        time: np.ndarray,
        usable: np.ndarray,
    ) -> _Samples:
        """The usable bins of a path and of its smoothed version."""
        mean, cov, _ = _latents(path, None)
        learned_mean, learned_cov, _ = (mean, cov, None) if smoothed is None else _latents(smoothed, None)
        if learned_mean.shape != mean.shape:
            raise InputError(
                f"smoothed has {learned_mean.shape[0]} bins and {learned_mean.shape[1]} features, "
                f"path {mean.shape[0]} and {mean.shape[1]}: give both over the same bins, from the same model"
            )
        block = np.zeros(len(mean), dtype=int)
        block[usable] = blocks_of_time(time[usable])
        return cls(learned_mean, learned_cov, mean, cov, columns, time, block)[usable]

    def __getitem__(self, index: slice | np.ndarray) -> _Samples:
        cut: dict[str, Any] = {name: None if value is None else value[index] for name, value in vars(self).items()}
        return _Samples(**cut)


def _rehearsed(
    held_out_fit: HeldOutFit, path: Latents | np.ndarray, smoothed: Latents | None
) -> tuple[Latents, Latents | None, tuple[float, float]]:
    """What stands for `path` and `smoothed` in a held_out_fit."""
    if not isinstance(path, Latents):
        raise InputError("held_out_fits go with a Latents, not with an array")
    if len(held_out_fit.path) != len(path) or not np.allclose(held_out_fit.path.time, path.time):
        raise InputError("the path of a held_out_fit has other bins than the path: transform the same recording")
    target = held_out_fit.smoothed if path.smoothed else held_out_fit.path
    return target, None if smoothed is None else held_out_fit.smoothed, held_out_fit.fitted


def _folds(
    samples: _Samples,
    rehearsed: Sequence[tuple[Latents, Latents | None, tuple[float, float]]],
    columns: np.ndarray,
    time: np.ndarray,
    usable: np.ndarray,
) -> list[tuple[_Samples, _Samples]]:
    """Pairs of a fitted part, and bins outside it."""
    if not rehearsed:
        origins = rolling_origins(samples.block)
        return [(samples[:origin], samples[origin:]) for origin in origins]
    folds = []
    for path, smoothed, (start, stop) in rehearsed:
        bins = _Samples.of(path, smoothed, columns, time, usable)
        inside = (bins.time >= start) & (bins.time <= stop)
        if inside.sum() < 10 or inside.all():
            raise InputError(
                f"a held_out_fit on {start:g} to {stop:g} s leaves {inside.sum()} bins to learn from and "
                f"{(~inside).sum()} to score: choose a part of the training time"
            )
        folds.append((bins[inside], bins[~inside]))
    return folds


def _latents(
    path: Latents | np.ndarray, time: np.ndarray | None
) -> tuple[np.ndarray, Covariances | None, np.ndarray | None]:
    if isinstance(path, Latents):
        return np.asarray(path.mean, dtype=float), Covariances(path.covs, path.cov_index), np.asarray(path.time)
    mean = np.asarray(path, dtype=float)
    if mean.ndim != 2:
        raise InputError(f"path has shape {mean.shape}: give a Latents or an array (time, features)")
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
            raise InputError(f"period={value!r} must be positive, or None for behavior on a line")
    return periods
