"""Choice of how nearest neighbors are searched, together with the movement prior, on held-out bins."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.decoding.held_out import Fold, HeldOutMass, MovementChoice, is_lower
from kalmanssl.decoding.readouts import EnsembleReadout

if TYPE_CHECKING:
    from kalmanssl.decoding._latent_decoder import DriftingReadout, LatentDecoder

__all__ = ["choose_neighbors"]


def choose_neighbors(
    decoder: LatentDecoder, folds: list[Fold], readouts: list[DriftingReadout], timed: bool
) -> tuple[list[list[HeldOutMass]], list[MovementChoice]]:
    """Choose the movement prior, and the variant of the neighbors by the CRPS with the best movement prior of each.

    The present variant is kept unless another is better by the standard errors that the choice of a movement prior
    demands. Neighbors of `readouts` are fitted again on the way, and `decoder.neighbor_variant` is set.

    Parameters
    ----------
    decoder : LatentDecoder
    folds : list of Fold
    readouts : list of DriftingReadout
        One for each fold.
    timed : bool
        Whether the bins have times; without them there is no movement prior.

    Returns
    -------
    masses : list of list of HeldOutMass
        Distributions on the held-out bins of each fold, for each group of dimensions.
    choices : list of MovementChoice
        One for each group of dimensions.
    """
    masses = decoder.held_out_masses(folds, readouts)
    choices = decoder.choose_movement(folds, masses, timed)
    if not all(isinstance(fitted.readout, EnsembleReadout) for fitted in readouts):
        return masses, choices
    changes: list[dict[str, bool]] = []
    if decoder.context:
        changes.append({"uses_context": False})
    if any(len(grid.axes) > 1 for grid in decoder.grids):
        changes.append({"broad": True})
    for change in changes:
        variant = replace(decoder.neighbor_variant, **change)
        for fold, fitted in zip(folds, readouts, strict=True):
            assert isinstance(fitted.readout, EnsembleReadout)
            features, behavior, weight = decoder.readout_data(fold.samples, fold.train, fitted.drift)
            fitted.readout.variant = variant
            fitted.readout.fit_neighbors(features, behavior, weight, fold.samples.mean.shape[1])
        new_masses = decoder.held_out_masses(folds, readouts)
        new_choices = decoder.choose_movement(folds, new_masses, timed)
        old, new = (np.sum([choice.score for choice in part], axis=0) for part in (choices, new_choices))
        if is_lower(new, old, decoder.movement_settings.min_standard_errors):
            decoder.neighbor_variant, masses, choices = variant, new_masses, new_choices
    return masses, choices
