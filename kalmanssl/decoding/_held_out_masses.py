"""Distributions of the readouts of a decoder on the held-out bins of all folds, and the choice of a movement prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.decoding.grids import group_dimensions
from kalmanssl.decoding.held_out import (
    Fold,
    HeldOutMass,
    MovementChoice,
    MovementSettings,
    choose_movement,
    measure_movement,
)
from kalmanssl.decoding.movement import Familiarity, MovementStatistics
from kalmanssl.decoding.readouts import EnsembleReadout

if TYPE_CHECKING:
    from kalmanssl.decoding._numeric_decoder import DriftingReadout, NumericDecoder

__all__ = ["choose_movements", "held_out_masses", "held_out_network_masses", "movement_candidates"]


def held_out_masses(
    decoder: NumericDecoder,
    folds: Sequence[Fold],
    readouts: Sequence[DriftingReadout],
    networks: Sequence[list[np.ndarray]] | None = None,
) -> list[list[HeldOutMass]]:
    """Return the distributions on the held-out bins of each fold, one for each group of dimensions.

    Parameters
    ----------
    decoder : NumericDecoder
    folds : sequence of Fold
    readouts : sequence of DriftingReadout
        One for each fold.
    networks : sequence of list of (time, *shape), optional
        From `held_out_network_masses`, so that the networks are not evaluated again.
    """
    known = [None] * len(folds) if networks is None else networks
    return [_fold_masses(decoder, *given) for given in zip(folds, readouts, known, strict=True)]


def held_out_network_masses(
    decoder: NumericDecoder, folds: Sequence[Fold], readouts: Sequence[DriftingReadout]
) -> list[list[np.ndarray]]:
    """Return the distributions of the networks of each readout on the held-out bins of its fold, over each grid."""
    masses = []
    for fold, fitted in zip(folds, readouts, strict=True):
        assert isinstance(fitted.readout, EnsembleReadout)
        masses.append(decoder.network_masses(fitted.readout, fold.test_input))
    return masses


def _fold_masses(
    decoder: NumericDecoder, fold: Fold, fitted: DriftingReadout, networks: list[np.ndarray] | None
) -> list[HeldOutMass]:
    masses = decoder.bin_masses(fitted, fold.test_input, with_average=True, networks=networks)
    s, used = fold.samples, fold.scored_bins
    # With equal weights most bins are at rest; with balanced ones a few rests can decide.
    weight = (1 + s.weight[used]) / 2
    return [
        HeldOutMass(
            replace(mass, occupancy=measure_movement(s, fold.train, grid, dims, decoder.periods, "walk").occupancy[0]),
            fold.scored,
            s.behavior[used][:, dims],
            weight,
            s.block[used],
        )
        for mass, grid, dims in zip(masses, decoder.grids, group_dimensions(len(decoder.periods)), strict=True)
    ]


def movement_candidates(
    decoder: NumericDecoder, folds: Sequence[Fold], settings: MovementSettings
) -> list[dict[str, list[MovementStatistics]]]:
    """Return the movement statistics of each fold by kind of movement prior, for each group of dimensions."""
    return [
        {
            kind: [measure_movement(fold.samples, fold.train, grid, dims, decoder.periods, kind) for fold in folds]
            for kind in settings.kinds
            if kind != "none"
        }
        for grid, dims in zip(decoder.grids, group_dimensions(len(decoder.periods)), strict=True)
    ]


def choose_movements(
    decoder: NumericDecoder,
    candidates: Sequence[dict[str, list[MovementStatistics]]],
    masses: Sequence[list[HeldOutMass]],
    settings: MovementSettings,
) -> list[MovementChoice]:
    """Choose the movement priors of each group of dimensions, and their powers of familiarity.

    `candidates` are from `movement_candidates`, and `masses` from `held_out_masses`.
    """
    first = [part[0] for part in masses]  # all groups have the same distances
    scored = [part.readout.distance[part.scored] for part in first if part.readout.distance is not None]
    usual = Familiarity.from_held_out(np.concatenate(scored)) if scored else Familiarity()
    return [
        choose_movement(grid, statistics, [part[number] for part in masses], decoder.smooth, settings, usual)
        for number, (grid, statistics) in enumerate(zip(decoder.grids, candidates, strict=True))
    ]
