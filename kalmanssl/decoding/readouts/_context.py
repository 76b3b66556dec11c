"""Temporal context of latents: their averages over the recent past, or around each bin.

If the latent dynamics are faster than the behavior, the latents of earlier bins have information about the behavior
that those of the present bin have not. A readout that also receives averages of the latents can use it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from scipy.signal import fftconvolve, lfilter

__all__ = ["TemporalContext", "with_context"]

_COLUMNS = 8  # that are averaged at once
_BINS = 1 << 17  # that are averaged at once
_ROUNDING = 1e-9  # sums of weights below this are only rounding errors


@dataclass(frozen=True)
class TemporalContext:
    """The averages over time that a readout receives beside the latents of a bin.

    Attributes
    ----------
    time_scales : tuple of float
        As for `with_context`; empty if the readout receives no averages.
    bin_size : float
        Seconds; NaN if the times of the bins are not known.
    causal : bool
        Whether to use no later bin.
    """

    time_scales: tuple[float, ...]
    bin_size: float
    causal: bool

    @classmethod
    def of_bins(cls, time: np.ndarray | None, time_scales: tuple[float, ...], causal: bool) -> Self:
        """Return the context of bins with times (time,), seconds; without times there are no averages."""
        if time is None:
            return cls((), math.nan, causal)
        return cls(time_scales, float(np.median(np.diff(time))), causal)

    @property
    def is_used(self) -> bool:
        """Whether there are averages."""
        return len(self.time_scales) > 0

    @property
    def n_bins(self) -> float:
        """The longest time scale, in bins; 0 without averages."""
        return max(self.time_scales) / self.bin_size if self.time_scales else 0.0

    def append(self, mean: np.ndarray, segment: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Return latents with their averages, as `with_context`."""
        return with_context(mean, segment, self.bin_size, self.time_scales, self.causal, where)

    def to_state(self) -> dict[str, Any]:
        """Return plain values from which `from_state` makes the context again."""
        return {"context": list(self.time_scales), "bin_size": self.bin_size}

    @classmethod
    def from_state(cls, state: dict[str, Any], causal: bool) -> Self:
        """Make a context from what `to_state` returned, in the state of a decoder."""
        return cls(tuple(state["context"]), float(state["bin_size"]), causal)


def with_context(
    mean: np.ndarray,
    segment: np.ndarray,
    bin_size: float,
    time_scales: Sequence[float],
    causal: bool,
    where: np.ndarray | None = None,
) -> np.ndarray:
    """Append averages of the latents over time, computed within each segment.

    Parameters
    ----------
    mean : (time, features)
        Bins in which a feature is not finite are missing: they have no weight in the averages.
    segment : (time,) int
        Number of the contiguous segment of each bin.
    bin_size : float
        Seconds.
    time_scales : sequence of float
        Time constants of exponential averages over the past and present if `causal`, else standard deviations of
        Gaussian averages around each bin. Seconds.
    causal : bool
        Whether to use no later bin.
    where : (time,) bool, optional
        Bins to return; by default all. The averages are over all bins.

    Returns
    -------
    (bins, features * (1 + number of time scales))
    """
    chosen = np.ones(len(mean), dtype=bool) if where is None else where
    if not len(time_scales):
        return mean if where is None else mean[chosen]
    average = _exponential_average if causal else _gaussian_average
    n_features = mean.shape[1]
    result = np.empty((int(chosen.sum()), n_features * (1 + len(time_scales))), mean.dtype)
    result[:, :n_features] = mean[chosen]
    present = np.isfinite(mean).all(axis=1, keepdims=True)
    borders = [0, *(np.flatnonzero(np.diff(segment)) + 1), len(mean)]
    rows_before = np.append(0, np.cumsum(chosen))
    for start, stop in pairwise(borders):
        known, inside = present[start:stop], chosen[start:stop]
        missing = not known.all()
        for number, scale in enumerate(time_scales, start=1):
            width = scale / bin_size
            if missing:
                weights = np.concatenate([part for _, part in average(known, width)])
                weights = np.maximum(weights, _ROUNDING)
            for first in range(0, n_features, _COLUMNS):  # Fourier transforms of all columns at once are large
                columns = slice(number * n_features + first, number * n_features + min(first + _COLUMNS, n_features))
                values = mean[start:stop, first : first + _COLUMNS]
                for rows, averages in average(np.where(known, values, 0.0) if missing else values, width):
                    averages = averages / weights[rows] if missing else averages
                    into = slice(rows_before[start + rows.start], rows_before[start + rows.stop])
                    result[into, columns] = averages[inside[rows]]
    return result


def _exponential_average(values: np.ndarray, time_constant: float) -> Iterator[tuple[slice, np.ndarray]]:
    """Average over the past with weights that decay with a time constant in bins; the start counts as constant.

    Yields the averages of one piece of the bins (time, columns) after another, and which bins these are.
    """
    keep = np.exp(-1 / time_constant)
    state = keep * values[:1].astype(float)
    for rows in _pieces(len(values)):
        averages, state = lfilter([1 - keep], [1, -keep], values[rows].astype(float), axis=0, zi=state)
        yield rows, averages


def _gaussian_average(values: np.ndarray, sd: float) -> Iterator[tuple[slice, np.ndarray]]:
    """Average with Gaussian weights of a standard deviation in bins; the ends count as constant beyond them.

    Yields as `_exponential_average`.
    """
    radius = int(np.ceil(4 * sd))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sd) ** 2)[:, None]
    for rows in _pieces(len(values)):
        first, last = rows.start - radius, rows.stop + radius
        inside = values[max(first, 0) : last].astype(float)
        beyond = ((max(-first, 0), max(last - len(values), 0)), (0, 0))
        padded = np.pad(inside, beyond, mode="edge")
        yield rows, fftconvolve(padded, weights / weights.sum(), mode="valid", axes=0)


def _pieces(n_bins: int) -> Iterator[slice]:
    """Iterate over the bins in long pieces, so that the memory for averages does not grow with the recording."""
    for start in range(0, n_bins, _BINS):
        yield slice(start, min(start + _BINS, n_bins))
