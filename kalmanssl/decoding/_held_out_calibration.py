"""Calibration of a decoder, and its judgment of bins, from its distributions on the held-out bins of all folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.decoding.calibration import Calibration, HeldOutErrors, RegionCalibration, Trust, agreement_of
from kalmanssl.decoding.grids import likelier_mass_at, marginal_predictives
from kalmanssl.decoding.held_out import Fold, HeldOutMass, fold_weights, scored_sessions

if TYPE_CHECKING:
    from kalmanssl.decoding._numeric_decoder import NumericDecoder

__all__ = ["calibrate"]


def calibrate(
    decoder: NumericDecoder, folds: Sequence[Fold], masses: Sequence[list[HeldOutMass]]
) -> tuple[list[Calibration], list[RegionCalibration], Trust]:
    """Learn from the errors on held-out bins.

    Parameters
    ----------
    decoder : NumericDecoder
        Its movement priors are used, with statistics of the behavior in each fold.
    folds : sequence of Fold
    masses : sequence of list of HeldOutMass
        For each fold the distributions of its readout over each grid.

    Returns
    -------
    calibrations : list of Calibration
        One for each dimension.
    regions : list of RegionCalibration
        One for each grid.
    trust : Trust
    """
    errors: list[list[HeldOutErrors]] = [[] for _ in decoder.periods]
    levels: list[list[np.ndarray]] = [[] for _ in decoder.grids]
    distances, agreements = [], []
    fold_weight = fold_weights(folds)
    for fold, parts, own in zip(folds, masses, fold_weight, strict=True):
        s, used, scored = fold.samples, fold.scored_bins, fold.scored
        posteriors = [_posterior(decoder, fold, part, number)[scored] for number, part in enumerate(parts)]
        for number, (part, posterior) in enumerate(zip(parts, posteriors, strict=True)):
            flat = posterior.reshape(len(posterior), decoder.grids[number].size)
            levels[number].append(likelier_mass_at(flat, decoder.grids[number].cell(part.truth)))
        for dim, predictive in enumerate(marginal_predictives(decoder.grids, posteriors)):
            errors[dim].append(
                HeldOutErrors(
                    predictive=predictive,
                    truth=s.behavior[used][:, dim],
                    lag=fold.lag[scored],
                    block=s.block[used],
                    weight=s.weight[used],
                    session=fold.scored_sessions,
                    fold_weight=own,
                )
            )
        distance = parts[0].readout.distance  # all grids have the same
        distances.append(np.zeros(len(used)) if distance is None else distance[scored])
        agreements.append(agreement_of([part.readout.mass[scored] for part in parts], posteriors))
    calibrations = [Calibration.fit(part, decoder.calibration_settings) for part in errors]
    blocks = np.concatenate([fold.block for fold in errors[0]])
    session = scored_sessions(folds)
    weight = np.repeat(fold_weight, [len(fold.block) for fold in errors[0]])
    regions = [RegionCalibration.fit(np.concatenate(part), blocks, session, weight) for part in levels]
    level = [
        np.concatenate([calibration.score(fold.predictive, fold.lag, fold.truth) for fold in part])
        for calibration, part in zip(calibrations, errors, strict=True)
    ]
    trust = Trust.fit(np.concatenate(distances), np.concatenate(agreements), np.stack(level, axis=1), blocks)
    return calibrations, regions, trust


def _posterior(decoder: NumericDecoder, fold: Fold, part: HeldOutMass, number: int) -> np.ndarray:
    """Return the posterior over a grid (decoded bins, *shape), with statistics of the behavior in the fitted bins."""
    return decoder.movement_from(number, fold.samples, fold.train).posterior(part.readout, decoder.smooth)
