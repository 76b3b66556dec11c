"""Folds for the calibration: bins that a readout is fitted on, and held-out bins that it is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kalmanssl.data import Covariances, Latents
from kalmanssl.decoding._blocks import blocks_of_time, rolling_origins
from kalmanssl.decoding._calibration import CalibrationSettings
from kalmanssl.decoding._cross_fitting import HeldOutFit
from kalmanssl.decoding._inputs import MIN_BINS, check_latents
from kalmanssl.errors import InputError

__all__ = ["Fold", "Samples", "held_out_folds", "rolling_folds"]


@dataclass(frozen=True)
class Samples:
    """Bins to fit a readout on or to score it on.

    Attributes
    ----------
    fit_mean : (time, features), fit_cov : Covariances or None
        Latents that the readout is fitted on: smoothed ones if they were given, else the same as `mean` and `cov`.
    mean : (time, features), cov : Covariances or None
        Latents that are decoded.
    behavior : (time, dims)
    time : (time,)
        Seconds, or the number of the bin if times are not known.
    block : (time,) int
        Block of time of each bin.
    """

    fit_mean: np.ndarray
    fit_cov: Covariances | None
    mean: np.ndarray
    cov: Covariances | None
    behavior: np.ndarray
    time: np.ndarray
    block: np.ndarray

    @classmethod
    def from_latents(
        cls,
        latents: Latents | np.ndarray,
        smoothed: Latents | None,
        behavior: np.ndarray,
        time: np.ndarray,
        usable: np.ndarray,
        min_blocks: int,
    ) -> Samples:
        """Return the usable bins of latents and of their smoothed version."""
        mean, cov, _ = check_latents(latents)
        fit_mean, fit_cov, _ = (mean, cov, None) if smoothed is None else check_latents(smoothed)
        if fit_mean.shape != mean.shape:
            raise InputError(
                f"smoothed has {fit_mean.shape[0]} bins and {fit_mean.shape[1]} features, "
                f"latents {mean.shape[0]} and {mean.shape[1]}: give both over the same bins, from the same model",
                parameter="smoothed",
            )
        block = np.zeros(len(mean), dtype=int)
        block[usable] = blocks_of_time(time[usable], min_blocks)
        return cls(fit_mean, fit_cov, mean, cov, behavior, time, block)[usable]

    def __getitem__(self, index: slice | np.ndarray) -> Samples:
        selected: dict[str, Any] = {name: None if value is None else value[index] for name, value in vars(self).items()}
        return Samples(**selected)


Fold = tuple[Samples, Samples]
"""Training and test part of a fold."""


def rolling_folds(samples: Samples, settings: CalibrationSettings) -> list[Fold]:
    """Return folds that are fitted on the bins before a border of blocks and scored on all bins after it."""
    origins = rolling_origins(samples.block, settings.n_folds, settings.first_fold_fraction)
    return [(samples[:origin], samples[origin:]) for origin in origins]


def held_out_folds(
    held_out_fits: Sequence[HeldOutFit],
    latents: Latents | np.ndarray,
    smoothed: Latents | None,
    behavior: np.ndarray,
    time: np.ndarray,
    usable: np.ndarray,
    min_blocks: int,
) -> list[Fold]:
    """Return one fold for each held-out fit, fitted on the bins of its model's fit and scored on the others."""
    folds = []
    for fit in held_out_fits:
        target, fit_target = _matching_latents(fit, latents, smoothed)
        samples = Samples.from_latents(target, fit_target, behavior, time, usable, min_blocks)
        start, stop = fit.fit_interval
        inside = (samples.time >= start) & (samples.time <= stop)
        if inside.sum() < MIN_BINS or inside.all():
            raise InputError(
                f"a held-out fit on {start:g} to {stop:g} s leaves {inside.sum()} bins to fit on and "
                f"{(~inside).sum()} to score: choose a part of the training time",
                parameter="held_out_fits",
            )
        folds.append((samples[inside], samples[~inside]))
    return folds


def _matching_latents(
    fit: HeldOutFit, latents: Latents | np.ndarray, smoothed: Latents | None
) -> tuple[Latents, Latents | None]:
    """Return the latents of a held-out fit that correspond to `latents` and to `smoothed`."""
    if not isinstance(latents, Latents):
        raise InputError("held_out_fits need a Latents as latents, not an array", parameter="held_out_fits")
    if len(fit.latents) != len(latents) or not np.allclose(fit.latents.time, latents.time):
        raise InputError(
            "the latents of a held-out fit have other bins than latents: transform the same recording",
            parameter="held_out_fits",
        )
    target = fit.smoothed if latents.smoothed else fit.latents
    return target, None if smoothed is None else fit.smoothed
