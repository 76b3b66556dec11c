"""Choice of how nearest neighbors are searched, together with the movement prior, on held-out bins."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.decoding._held_out_masses import (
    choose_movements,
    held_out_masses,
    held_out_network_masses,
    movement_candidates,
)
from kalmanssl.decoding.held_out import Fold, HeldOutMass, MovementChoice, is_lower
from kalmanssl.decoding.readouts import EnsembleReadout, NeighborVariant

if TYPE_CHECKING:
    from kalmanssl.decoding._numeric_decoder import DriftingReadout, NumericDecoder

__all__ = ["choose_neighbors"]

_MAX_KEPT = 1 << 26  # entries of distributions of networks, 256 MB


def choose_neighbors(
    decoder: NumericDecoder, folds: list[Fold], readouts: list[DriftingReadout], timed: bool
) -> tuple[NeighborVariant, list[list[HeldOutMass]], list[MovementChoice]]:
    """Choose the movement prior, and the variant of the neighbors by the CRPS with the best movement prior of each.

    The variant of the decoder is kept unless another is better by the standard errors that the choice of a movement
    prior demands. The networks of `readouts` are evaluated once, unless what they return needs too much memory.

    Parameters
    ----------
    decoder : NumericDecoder
    folds : list of Fold
    readouts : list of DriftingReadout
        One for each fold.
    timed : bool
        Whether the bins have times; without them there is no movement prior.

    Returns
    -------
    variant : NeighborVariant
    masses : list of list of HeldOutMass
        Distributions with this variant on the held-out bins of each fold, for each group of dimensions.
    choices : list of MovementChoice
        One for each group of dimensions.
    """
    is_ensemble = all(isinstance(fitted.readout, EnsembleReadout) for fitted in readouts)
    changes = _changes(decoder) if is_ensemble else []
    n_entries = sum(int(fold.test.sum()) for fold in folds) * sum(grid.size for grid in decoder.grids)
    networks = held_out_network_masses(decoder, folds, readouts) if changes and n_entries <= _MAX_KEPT else None
    chosen, settings = decoder.neighbor_variant, decoder.movement_settings_for(timed)
    candidates = movement_candidates(decoder, folds, settings)
    masses = held_out_masses(decoder, folds, readouts, networks)
    choices = choose_movements(decoder, candidates, masses, settings)
    for change in changes:
        variant = replace(chosen, **change)
        changed = [_with_variant(decoder, fold, fitted, variant) for fold, fitted in zip(folds, readouts, strict=True)]
        new_masses = held_out_masses(decoder, folds, changed, networks)
        new_choices = choose_movements(decoder, candidates, new_masses, settings)
        old, new = (np.sum([choice.score for choice in part], axis=0) for part in (choices, new_choices))
        if is_lower(new, old, decoder.movement_settings.min_standard_errors):
            chosen, readouts, masses, choices = variant, changed, new_masses, new_choices
    return chosen, masses, choices


def _changes(decoder: NumericDecoder) -> list[dict[str, bool]]:
    """Return the changes of the variant that are tried, one after another."""
    changes: list[dict[str, bool]] = []
    if decoder.context.is_used:
        changes.append({"uses_context": False})
    if any(len(grid.axes) > 1 for grid in decoder.grids):
        changes.append({"broad": True})
    return changes


def _with_variant(
    decoder: NumericDecoder, fold: Fold, fitted: DriftingReadout, variant: NeighborVariant
) -> DriftingReadout:
    """Return a readout of a fold with other neighbors."""
    assert isinstance(fitted.readout, EnsembleReadout)
    bins = partial(decoder.fitted_bins, fold.samples, fold.train, fitted.drift, variant.uses_context)
    return replace(fitted, readout=fitted.readout.with_variant(variant, bins))
