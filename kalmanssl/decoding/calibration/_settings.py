"""Settings of the calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kalmanssl.utils.validation import (
    as_numbers,
    check_condition,
    check_integer,
    check_not_negative,
    check_number,
    check_positive,
)

__all__ = ["CalibrationSettings"]


@dataclass(frozen=True)
class CalibrationSettings:
    """Settings of the calibration.

    Attributes
    ----------
    min_blocks : int
        Blocks that the time is cut into at least (`kalmanssl.decoding.blocks_of_time`).
    n_folds : int
        Folds, each fitted on the bins before a border and scored on those after it. Not used with held-out fits.
    first_fold_fraction : float
        Fraction of the bins that the first fold is fitted on, inside (0, 1).
    noise_grid : tuple of float
        Candidates for the standard deviation of the added noise, at lag 0 and at the longest lag, in units of the
        typical standard deviation of the predictions or of their errors, whichever is larger.
    refinement_grid : tuple of float
        Factors by which both are varied around the best candidates.
    min_standard_errors : float
        Improvement of the CRPS that the noise must bring, in standard errors of the difference over blocks of time.
    max_bins : int
        Bins, evenly spaced, on which the candidates are compared.
    min_blocks_per_map : int
        Narrow and wide predictions have separate maps if each has errors in this many blocks of time.
    """

    min_blocks: int = 50
    n_folds: int = 4
    first_fold_fraction: float = 0.4
    noise_grid: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    refinement_grid: tuple[float, ...] = (0.7, 0.85, 1.0, 1.2, 1.4)
    min_standard_errors: float = 1.0
    max_bins: int = 4000
    min_blocks_per_map: int = 8

    def __post_init__(self) -> None:
        check_integer("min_blocks", self.min_blocks, 2)
        check_integer("n_folds", self.n_folds, 1)
        check_integer("min_blocks_per_map", self.min_blocks_per_map, 1)
        check_integer("max_bins", self.max_bins, 1)
        check_number("first_fold_fraction", self.first_fold_fraction)
        fraction = self.first_fold_fraction
        check_condition("first_fold_fraction", fraction, 0 < fraction < 1, "inside (0, 1)")
        check_not_negative("min_standard_errors", self.min_standard_errors)
        for name in ("noise_grid", "refinement_grid"):
            grid = as_numbers(name, getattr(self, name))
            object.__setattr__(self, name, grid)  # a saved state has a list
            check_condition(name, grid, all(0 <= value < math.inf for value in grid), "finite and not negative")
        for value in self.refinement_grid:
            check_positive("refinement_grid", value)
