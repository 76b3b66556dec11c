"""Bits per spike: how much better rates predict counts than the mean rate of each unit does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import xlogy

from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import check_features
from kalmanssl.utils.blocks import mean_over_blocks

if TYPE_CHECKING:
    import pandas

__all__ = ["BitsPerSpike", "bits_per_spike", "check_counts"]

_MAX_BLOCKS = 40  # of time, for the standard error


@dataclass(frozen=True, eq=False)
class BitsPerSpike:
    """Score of predicted rates.

    Attributes
    ----------
    score : float
        Bits per spike of all units together. 0: as good as the mean rates, negative: worse.
    standard_error : float
        Standard error of `score` over up to 40 contiguous blocks of time.
    unit_score : (units,)
        Bits per spike of each unit; NaN for a unit without spikes.
    n_spikes : (units,) int
        Spikes of each unit in the bins that were scored.
    rate : (bins, units)
        Predicted rates, events per bin.
    """

    score: float
    standard_error: float
    unit_score: np.ndarray
    n_spikes: np.ndarray
    rate: np.ndarray

    def to_dataframe(self, unit_ids: Any = None) -> pandas.DataFrame:
        """Return a table with one row per unit: columns `bits_per_spike` and `n_spikes`, index `unit`."""
        import pandas

        index = pandas.Index(range(len(self.n_spikes)) if unit_ids is None else list(unit_ids), name="unit")
        return pandas.DataFrame({"bits_per_spike": self.unit_score, "n_spikes": self.n_spikes}, index=index)


def bits_per_spike(rate: Any, counts: Any) -> BitsPerSpike:
    """Compute how much better rates predict counts than the mean rates do, in bits per spike.

    The score is the difference between the Poisson log-likelihood of the rates and that of constant rates, summed over
    bins and units and divided by log(2) and by the number of spikes. The constant rate of a unit is its mean count in
    the bins that are scored, so that a score above zero requires more than the right mean.

    Parameters
    ----------
    rate : (bins, units)
        Predicted rates, events per bin; not negative.
    counts : (bins, units)
        Whole numbers of at least zero.

    Returns
    -------
    BitsPerSpike

    Raises
    ------
    InputError
        If shapes do not match, values are negative, NaN or infinite, or there are no spikes.

    References
    ----------
    Pei, Ye et al. (2021), Neural Latents Benchmark, arXiv 2109.04463.

    Examples
    --------
    >>> from kalmanssl.probes import bits_per_spike
    >>> round(bits_per_spike([[0.1], [1.0]], [[0], [1]]).score, 2)
    0.86
    """
    y = check_counts("counts", counts)
    rate = check_features("rate", rate).astype(float)
    if rate.shape != y.shape:
        raise InputError(f"rate has shape {rate.shape} and counts {y.shape}: give one rate per count", parameter="rate")
    if (rate < 0).any():
        raise InputError("rate has negative values: give events per bin, not their logarithm", parameter="rate")
    n_spikes = y.sum(axis=0)
    if not n_spikes.any():
        raise InputError("counts has no spikes: score bins in which the units fire", parameter="counts")
    null = np.broadcast_to(y.mean(axis=0), y.shape)
    with np.errstate(divide="ignore"):
        bits = (xlogy(y, rate) - rate - xlogy(y, null) + null) / np.log(2)
    score = float(bits.sum() / n_spikes.sum())
    # A ratio of two means: its error is that of the numerator minus the ratio times the denominator.
    residual = (bits - score * y).sum(axis=1, keepdims=True) / (n_spikes.sum() / len(y))
    block = np.arange(len(y)) * min(_MAX_BLOCKS, len(y)) // len(y)
    error = float(mean_over_blocks(residual, block)[1][0])
    with np.errstate(divide="ignore", invalid="ignore"):
        unit_score = np.where(n_spikes > 0, bits.sum(axis=0) / n_spikes, np.nan)
    return BitsPerSpike(score, error, unit_score, n_spikes.astype(int), rate)


def check_counts(name: str, counts: Any) -> np.ndarray:
    """Return counts as floats (bins, units); raise InputError unless they are whole numbers of at least zero."""
    y = check_features(name, counts).astype(float)
    if (y < 0).any() or (y != np.round(y)).any():
        raise InputError(f"{name} must be whole numbers of at least zero: give spike counts per bin", parameter=name)
    return y
