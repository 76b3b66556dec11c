"""The decoder of behavior from latents, with intervals that are calibrated on time it was not fitted on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from kalmanssl.data import Latents
from kalmanssl.decoding._calibration import Calibration, CalibrationSettings, HeldOutErrors
from kalmanssl.decoding._circular import wrap_to_period
from kalmanssl.decoding._cross_fitting import HeldOutFit
from kalmanssl.decoding._drift import Drift, DriftSettings, TrainTestBlock, improves_held_out
from kalmanssl.decoding._folds import Fold, Samples, held_out_folds, rolling_folds
from kalmanssl.decoding._inputs import check_behavior, check_latents, check_periods, usable_bins
from kalmanssl.decoding._linear_readout import LinearReadout, LinearReadoutSettings
from kalmanssl.decoding._mlp_readout import MLPReadout, MLPReadoutSettings
from kalmanssl.decoding._readout import Readout
from kalmanssl.decoding._results import DecodedPosition, check_level
from kalmanssl.decoding._sklearn_readout import SklearnReadout, SklearnReadoutSettings
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_condition

__all__ = ["PositionDecoder"]

_TAIL = np.array([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04])
_LEVELS = np.concatenate([_TAIL, np.linspace(0.05, 0.95, 37), 1 - _TAIL[::-1]])  # of the quantiles that are returned

ReadoutSettings = MLPReadoutSettings | LinearReadoutSettings | SklearnReadoutSettings


class PositionDecoder(BaseEstimator):
    """Decoder of behavior from latents, with calibrated intervals.

    `fit` fits a readout several times: on parts of the training time, to learn its errors on held-out time for the
    calibration, and on all of it, for the predictions. If bins have a time, a drift of the code along the direction of
    motion is fitted and extrapolated, provided that this reduces the error on held-out time.

    Parameters
    ----------
    level : float
        Nominal level of the interval, inside (0, 1).
    regressor : "mlp", "linear" or a regressor of scikit-learn
        "mlp": an ensemble of small networks whose output is a histogram (`MLPReadout`). "linear": ridge regression with
        the analytic interval (`LinearReadout`). Anything with `fit` and `predict`: its residual noise is learned by
        cross-validation (`SklearnReadout`).
    posterior : "quadrature" or "samples"
        How "mlp" averages over the latent posterior: three nodes along the direction that moves the output most, or
        `n_samples` random draws. The draws are much slower and agree to within sampling error.
    n_samples : int
        Draws per bin for `posterior="samples"`.
    period : float or sequence of float or None, optional
        Period of circular behavior, one per dimension (None for dimensions that are not circular).
    calibrate : bool
        Whether to calibrate. Without calibration the intervals are those of the readout.
    readout_settings : MLPReadoutSettings, LinearReadoutSettings or SklearnReadoutSettings, optional
        Settings of the readout that `regressor` selects.
    calibration_settings : CalibrationSettings, optional
    drift_settings : DriftSettings, optional
    random_state : int, optional
        Seed of the networks and samples.

    Attributes
    ----------
    readout_ : MLPReadout, LinearReadout or SklearnReadout
    calibration_ : list of Calibration
        One per dimension.
    drift_ : Drift
        Its rate is 0 if the drift is not used.
    periods_ : tuple of float or None
    n_features_in_ : int

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
        readout_settings: ReadoutSettings | None = None,
        calibration_settings: CalibrationSettings | None = None,
        drift_settings: DriftSettings | None = None,
        random_state: int | None = None,
    ) -> None:
        self.level = level
        self.regressor = regressor
        self.posterior = posterior
        self.n_samples = n_samples
        self.period = period
        self.calibrate = calibrate
        self.readout_settings = readout_settings
        self.calibration_settings = calibration_settings
        self.drift_settings = drift_settings
        self.random_state = random_state

    def fit(
        self,
        latents: Latents | np.ndarray,
        position: np.ndarray,
        where: np.ndarray | None = None,
        time: np.ndarray | None = None,
        *,
        smoothed: Latents | None = None,
        held_out_fits: Sequence[HeldOutFit] = (),
    ) -> PositionDecoder:
        """Fit the readout and calibrate it.

        Parameters
        ----------
        latents : Latents or (time, features) array
            Latents of the kind that will be decoded; an array has no posterior covariance.
        position : (time,) or (time, dims)
            Behavior; bins with NaN are left out.
        where : (time,) bool, optional
            Bins to fit on, such as `running_bins`.
        time : (time,), optional
            Times of the bins of an array, seconds; `Latents` have their own. Without times, lags are not known and
            intervals do not widen with them.
        smoothed : Latents, optional
            Smoothed latents over the same bins. If given, the readout is fitted on them and then decodes `latents`.
            Filtered latents lag behind by an amount that depends on speed, and a readout that is fitted on them would
            learn this lag.
        held_out_fits : sequence of HeldOutFit
            Latents from models that were fitted on a part of the time only, from `kalmanssl.cross_fit`. Without them
            the calibration uses latents that were fitted on the bins it scores, and the intervals are somewhat narrow.

        Raises
        ------
        InputError
            If lengths differ, a setting is out of range, too few bins are known or the behavior is constant.
        """
        self._check_settings()
        mean, _, known_time = check_latents(latents, time)
        behavior, self.flat_ = check_behavior(position, len(mean))
        self.periods_ = check_periods(self.period, behavior.shape[1])
        usable = usable_bins(mean, behavior, where)
        behavior = wrap_to_period(behavior, self.periods_)
        self.n_features_in_ = mean.shape[1]
        self.timed_ = known_time is not None
        order = np.arange(len(mean), dtype=float) if known_time is None else known_time
        if np.any(np.diff(order[usable]) <= 0):
            raise InputError("time must increase: sort the bins or drop the repeated ones", parameter="time")
        rng = np.random.default_rng(self.random_state)
        calibration_settings = self.calibration_settings or CalibrationSettings()
        min_blocks = calibration_settings.min_blocks
        samples = Samples.from_latents(latents, smoothed, behavior, order, usable, min_blocks)
        self.calibration_ = [Calibration.identity() for _ in self.periods_]
        self.uses_drift_ = False
        if self.calibrate:
            folds = rolling_folds(samples, calibration_settings)
            if held_out_fits:
                folds = held_out_folds(held_out_fits, latents, smoothed, behavior, order, usable, min_blocks)
            self._calibrate(folds, rng, calibration_settings, per_fold=bool(held_out_fits))
        self.end_ = float(samples.time[-1])
        self.drift_, self.readout_ = self._fit_readout(samples, rng)
        return self

    def _check_settings(self) -> None:
        check_level(self.level)
        for name, expected in (("calibration_settings", CalibrationSettings), ("drift_settings", DriftSettings)):
            value = getattr(self, name)
            check_condition(name, value, value is None or isinstance(value, expected), f"{expected.__name__} or None")

    def _fit_readout(self, samples: Samples, rng: np.random.Generator) -> tuple[Drift, Readout]:
        """Return the drift of the behavior, and a readout of the behavior as it would be at the last bin."""
        mean, cov, behavior = samples.fit_mean, samples.fit_cov, samples.behavior
        drift = Drift.zero(mean.shape[1], behavior.shape[1])
        if self.uses_drift_:
            drift = Drift.fit(mean, behavior, samples.time, self.periods_, self.drift_settings)
            behavior = behavior - drift.displacement(mean, samples.time - samples.time[-1])
            behavior = wrap_to_period(behavior, self.periods_)
        return drift, self._make_readout().fit(mean, cov, behavior, rng)

    def _calibrate(
        self, folds: list[Fold], rng: np.random.Generator, settings: CalibrationSettings, per_fold: bool
    ) -> None:
        """Decide whether the drift is used, and fit one calibration per dimension."""
        if not folds:
            warnings.warn("too few bins to hold out later blocks: intervals are not calibrated", stacklevel=3)
            return
        if self.timed_:
            blocks = [
                TrainTestBlock((train.fit_mean, train.behavior, train.time), (test.mean, test.behavior, test.time))
                for train, test in folds
            ]
            self.uses_drift_ = improves_held_out(blocks, self.periods_, self.drift_settings)
        errors: list[list[HeldOutErrors]] = [[] for _ in self.periods_]
        for train, test in folds:
            for dim, held_out in enumerate(self._held_out_errors(train, test, rng)):
                errors[dim].append(held_out)
        n_blocks = len(np.unique(np.concatenate([fold.block for fold in errors[0]])))
        if n_blocks + 1 < 1 / (1 - self.level):
            warnings.warn(
                f"calibrated on {n_blocks} blocks of time: too few to guarantee a level of {self.level:g}",
                stacklevel=3,
            )
        self.calibration_ = [Calibration.fit(errors_of_dim, per_fold, settings) for errors_of_dim in errors]

    def _held_out_errors(self, train: Samples, test: Samples, rng: np.random.Generator) -> list[HeldOutErrors]:
        """Fit a readout on the training part of a fold; return its predictions of the test part by dimension."""
        drift, readout = self._fit_readout(train, rng)
        age = test.time - train.time[-1]
        moved = drift.displacement(test.mean, age)
        lag = np.maximum(age, train.time[0] - test.time)
        return [
            HeldOutErrors(predictive.shift(moved[:, dim]), test.behavior[:, dim], lag, test.block)
            for dim, predictive in enumerate(readout.predict(test.mean, test.cov))
        ]

    def _make_readout(self) -> Readout:
        """Return an unfitted readout of the kind that `regressor` selects."""
        if self.posterior not in ("quadrature", "samples"):
            raise InputError(
                f'posterior={self.posterior!r} is neither "quadrature" nor "samples"', parameter="posterior"
            )
        settings: Any = self.readout_settings
        if isinstance(self.regressor, str):
            if self.regressor == "linear":
                self._check_readout_settings(LinearReadoutSettings)
                return LinearReadout(self.periods_, settings)
            if self.regressor == "mlp":
                self._check_readout_settings(MLPReadoutSettings)
                return MLPReadout(self.periods_, self.n_samples if self.posterior == "samples" else None, settings)
            raise InputError(
                f'regressor={self.regressor!r} is not known: give "mlp", "linear" or a regressor of scikit-learn',
                parameter="regressor",
            )
        if not (hasattr(self.regressor, "fit") and hasattr(self.regressor, "predict")):
            raise InputError(
                f"regressor is a {type(self.regressor).__name__} without fit and predict: give an instance such as "
                "KNeighborsRegressor()",
                parameter="regressor",
            )
        self._check_readout_settings(SklearnReadoutSettings)
        return SklearnReadout(self.regressor, self.periods_, settings)

    def _check_readout_settings(self, expected: type) -> None:
        if self.readout_settings is not None and not isinstance(self.readout_settings, expected):
            raise InputError(
                f"readout_settings are {type(self.readout_settings).__name__}, but regressor={self.regressor!r} takes "
                f"{expected.__name__}",
                parameter="readout_settings",
            )

    def predict(self, latents: Latents | np.ndarray, time: np.ndarray | None = None) -> DecodedPosition:
        """Decode the behavior.

        Parameters
        ----------
        latents : Latents or (time, features) array
            Latents of the same model.
        time : (time,), optional
            Times of the bins of an array, seconds.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If the number of features is not that of the fit, or latents are not finite.
        """
        check_is_fitted(self, "readout_")
        mean, cov, known_time = check_latents(latents, time)
        if mean.shape[1] != self.n_features_in_:
            raise InputError(
                f"latents has {mean.shape[1]} features, the decoder was fitted on {self.n_features_in_}: "
                "use latents of the same model",
                parameter="latents",
            )
        bad = ~np.isfinite(mean).all(axis=1)
        if bad.any():
            raise InputError(
                f"latents is not finite at {bad.sum()} bins, the first is bin {np.argmax(bad)}", parameter="latents"
            )
        lag = np.full(len(mean), np.nan) if known_time is None or not self.timed_ else known_time - self.end_
        table, points = [], []
        moved = self.drift_.displacement(mean, np.nan_to_num(lag))
        for dim, predictive in enumerate(self.readout_.predict(mean, cov)):
            predictive = predictive.shift(moved[:, dim])
            table.append(self.calibration_[dim].apply(predictive, lag, _LEVELS).astype(np.float32))
            points.append(predictive.mean())
        estimate = wrap_to_period(np.stack(points, axis=1), self.periods_)
        bin_time = np.arange(len(mean), dtype=float) if known_time is None else known_time
        return DecodedPosition(bin_time, self.level, np.stack(table, 1), _LEVELS, estimate, self.periods_, self.flat_)

    def to_state(self) -> dict[str, Any]:
        """Return everything from which `from_state` makes this decoder again.

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
        check_is_fitted(self, "readout_")
        readout = self.readout_.to_state()
        settings = self.get_params()
        settings["period"] = list(self.periods_)
        for name in ("readout_settings", "calibration_settings", "drift_settings"):
            settings[name] = None if settings[name] is None else asdict(settings[name])
        return {
            "settings": settings,
            "features": self.n_features_in_,
            "flat": self.flat_,
            "timed": self.timed_,
            "uses_drift": self.uses_drift_,
            "end": self.end_,
            "drift": self.drift_.to_state(),
            "calibration": [calibration.to_state() for calibration in self.calibration_],
            "readout": readout,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> PositionDecoder:
        """Make a fitted decoder from what `to_state` returned."""
        settings = dict(state["settings"])
        linear = settings["regressor"] == "linear"
        classes: dict[str, Any] = {
            "readout_settings": LinearReadoutSettings if linear else MLPReadoutSettings,
            "calibration_settings": CalibrationSettings,
            "drift_settings": DriftSettings,
        }
        for name, make in classes.items():
            settings[name] = None if settings[name] is None else make(**settings[name])
        decoder = cls(**settings)
        decoder.periods_ = tuple(settings["period"])
        decoder.n_features_in_ = int(state["features"])
        decoder.flat_, decoder.timed_ = bool(state["flat"]), bool(state["timed"])
        decoder.uses_drift_ = bool(state["uses_drift"])
        decoder.end_ = float(state["end"])
        decoder.drift_ = Drift.from_state(state["drift"])
        decoder.calibration_ = [Calibration.from_state(values) for values in state["calibration"]]
        decoder.readout_ = (LinearReadout if linear else MLPReadout).from_state(state["readout"])
        return decoder
