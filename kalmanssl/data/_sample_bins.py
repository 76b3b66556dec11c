"""Bins of samples: averages or sums of the samples of a series in consecutive bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kalmanssl.data._binning import BIN_SIZE
from kalmanssl.errors import InputError

__all__ = ["SampleBins", "default_bin_size", "plan_bins"]

_GAP = 1.5  # a step of more sampling periods is a gap


@dataclass(frozen=True)
class SampleBins:
    """Which samples of a series are in which bin.

    Attributes
    ----------
    time : (bins,)
        Bin centers, seconds.
    rows : (samples in bins,)
        Numbers of the samples that are in bins, increasing.
    starts : (bins,)
        Index into `rows` of the first sample of each bin.
    """

    time: np.ndarray
    rows: np.ndarray
    starts: np.ndarray

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of the samples (samples, ...) in each bin, (bins, ...)."""
        inside = values[self.rows]
        if len(self.rows) == len(self.starts):  # one sample in each bin
            return inside
        total = np.add.reduceat(inside, self.starts, axis=0, dtype=np.float64)
        return np.asarray(total).astype(values.dtype)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of the samples (samples, ...) in each bin, (bins, ...)."""
        if len(self.rows) == len(self.starts):
            return self.sums(values)
        count = np.diff([*self.starts, len(self.rows)])
        total = np.add.reduceat(values[self.rows], self.starts, axis=0, dtype=np.float64)
        return np.asarray(total / count.reshape(-1, *[1] * (values.ndim - 1))).astype(values.dtype)


def default_bin_size(period: float) -> float:
    """Return the smallest multiple of a sampling period that is at least 0.025 s; seconds."""
    return float(f"{period * max(1.0, np.ceil(BIN_SIZE / period - 0.02)):.6g}")


def plan_bins(
    times: np.ndarray,
    usable: np.ndarray,
    windows: Sequence[tuple[float, float]],
    period: float,
    bin_size: float,
    summed: bool,
    name: str,
) -> SampleBins:
    """Assign the samples of a series to bins of equal width that do not continue over gaps.

    A bin of a whole number of sampling periods always has that number of consecutive samples, so that an imprecise
    clock does not let the number vary. Otherwise a bin has the samples whose times are in it.

    Parameters
    ----------
    times : (samples,)
        Increasing, seconds. Each is the center of its sampling period.
    usable : (samples,) bool
        False for samples that are left out.
    windows : sequence of (start, stop)
        Increasing windows from which to take samples, seconds.
    period, bin_size : float
        Sampling period and width of a bin, seconds.
    summed : bool
        Whether samples will be added up, so that every bin must have the same number of them.
    name : str
        Name of the series, for error messages.

    Returns
    -------
    SampleBins

    Raises
    ------
    InputError
        If a bin is shorter than a sampling period, or bins of different numbers of samples would be summed.
    """
    ratio = bin_size / period if period > 0 else 1.0
    count = max(1, round(ratio))
    whole = abs(ratio - count) <= max(0.02, 0.005 * count)
    if not whole and ratio < 1:
        raise InputError(
            f"bin_size={bin_size:g} is shorter than the sampling period of {name}, {period:.4g} s; "
            f"give {period:.4g} or a multiple of it, or leave it out",
            parameter="bin_size",
        )
    if not whole and summed:
        low, high = period * np.floor(ratio), period * np.ceil(ratio)
        raise InputError(
            f"bin_size={bin_size:g} is not a multiple of the sampling period of {name}, {period:.4g} s, so bins would "
            f"have different numbers of samples; give {low:.4g} or {high:.4g}",
            parameter="bin_size",
        )
    centers, rows, starts = [], [], [0]
    for part in _pieces(times, usable, windows, _GAP * period):
        if whole:
            n_bins = len(part) // count
            part = part[: n_bins * count]
            centers.append(times[part].reshape(n_bins, count).mean(axis=1) if count > 1 else times[part])
            counts = np.full(n_bins, count)
        else:
            first = times[part[0]] - 0.5 * period
            index = np.floor((times[part] - first) / bin_size + 1e-6).astype(int)
            complete = int(np.floor((times[part[-1]] + 0.5 * period - first) / bin_size + 1e-6))
            part, index = part[index < complete], index[index < complete]
            known, counts = np.unique(index, return_counts=True)
            centers.append(first + bin_size * (known + 0.5))
        rows.append(part)
        starts += list(starts[-1] + np.cumsum(counts))
    if starts == [0]:
        return SampleBins(np.zeros(0), np.zeros(0, int), np.zeros(0, int))
    return SampleBins(np.concatenate(centers), np.concatenate(rows), np.array(starts[:-1]))


def _pieces(
    times: np.ndarray, usable: np.ndarray, windows: Sequence[tuple[float, float]], gap: float
) -> list[np.ndarray]:
    """Return the numbers of the usable samples in the windows, divided at gaps and at the borders of the windows."""
    pieces = []
    for start, stop in windows:
        low, high = np.searchsorted(times, [start - 1e-9, stop + 1e-9])
        rows = low + np.flatnonzero(usable[low:high])
        if len(rows):
            breaks = (np.diff(times[rows]) > gap) | (np.diff(rows) > 1)
            pieces += np.split(rows, np.flatnonzero(breaks) + 1)
    return pieces
