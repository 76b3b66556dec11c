"""Decoded behavior: a predictive distribution at every bin."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np

from kalmanssl.decoding._predictive import quantile_crps, wrap
from kalmanssl.errors import InputError

__all__ = ["DecodedPosition", "check_level"]


def check_level(level: float, name: str = "level") -> None:
    """Raise an `InputError` unless `level` is a number inside (0, 1)."""
    if not (isinstance(level, Real) and 0 < level < 1):
        raise InputError(f"{name}={level!r} must be a number between 0 and 1, such as 0.95")


@dataclass(frozen=True)
class DecodedPosition:
    """A predictive distribution of the behavior at every bin.

    Arrays are (time,) for behavior of one dimension given as a vector, (time, dims) otherwise.

    Attributes
    ----------
    time : (time,)
        Bin centers in the recording's clock, seconds.
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
        True if the behavior was given as (time,).
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
        check_level(level)
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def quantile(self, q: float) -> np.ndarray:
        """Quantile at probability `q`, a number inside (0, 1); linear between those of `table`."""
        check_level(q, "q")
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
        """Continuous ranked probability score at every bin, in the unit of the behavior; NaN where the truth is."""
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
                f"truth has shape {truth.shape}, the decoded behavior {self.mean.shape}: give one value for each"
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
