"""Statistics of whitened innovations: correlations, coverage, and chi-square probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

__all__ = [
    "COVERAGE_LEVELS",
    "Coverage",
    "Whiteness",
    "chi_square_tail",
    "coverage",
    "mean_square_interval",
    "quantile",
    "whiteness",
]

COVERAGE_LEVELS = (0.5, 0.8, 0.95)


@dataclass(frozen=True)
class Whiteness:
    """Correlations of innovations at lags 1, 2, … and the tests of them.

    Attributes
    ----------
    correlation : (lags, obs, obs)
        Correlation of the row's channel with the column's channel `lag` steps before; NaN where it cannot be computed.
    pairs : (lags, obs, obs)
        Number of pairs of values that each correlation was computed from.
    statistic, degrees : (obs,)
        Ljung-Box statistic of each channel, and its degrees of freedom.
    portmanteau, portmanteau_degrees : ()
        The same for all pairs of channels together.
    """

    correlation: Tensor
    pairs: Tensor
    statistic: Tensor
    degrees: Tensor
    portmanteau: Tensor
    portmanteau_degrees: Tensor


def whiteness(whitened: Tensor, observed: Tensor, mean: Tensor, lags: int) -> Whiteness:
    """Correlations of whitened innovations (batch, time, obs) about their means (obs,), and portmanteau statistics.

    Ljung & Box, Biometrika 65 (1978) 297-303; Hosking, J. Am. Stat. Assoc. 75 (1980) 602-608.
    """
    seen = observed.to(whitened.dtype)
    count = seen.sum((0, 1)).clamp_min(1)
    centered = torch.where(observed, whitened - mean, whitened.new_zeros(()))
    scale = (centered.square().sum((0, 1)) / count).sqrt()
    size = scale[:, None] * scale
    correlation = whitened.new_zeros(lags, len(mean), len(mean))
    pairs = torch.zeros_like(correlation)
    for k in range(1, lags + 1):
        now, before = (x.flatten(0, 1) for x in (centered[:, k:], centered[:, :-k]))
        number = seen[:, k:].flatten(0, 1).mT @ seen[:, :-k].flatten(0, 1)
        usable = (number > 0) & (size > 0)
        pairs[k - 1] = number * usable
        correlation[k - 1] = torch.where(usable, now.mT @ before / (pairs[k - 1] * size), 0.0)
    # The variance of a correlation from n values is 1 / pairs between channels; within one, n / ((n + 2) pairs).
    eye = torch.eye(len(mean), dtype=whitened.dtype)
    terms = (pairs * (1 + 2 / count * eye) * correlation.square()).sum(0)
    used = pairs > 0
    return Whiteness(
        correlation=torch.where(used, correlation, torch.nan),
        pairs=pairs,
        statistic=terms.diagonal(),
        degrees=used.sum(0).diagonal(),
        portmanteau=terms.sum(),
        portmanteau_degrees=used.sum(),
    )


@dataclass(frozen=True)
class Coverage:
    """Coverage of central prediction intervals at `COVERAGE_LEVELS`.

    Attributes
    ----------
    by_channel, by_channel_margin : (levels, obs)
        Share of the observations of a channel within the interval, and the bound of its deviation.
    overall, overall_margin : (levels,)
        The same for all channels together.
    """

    by_channel: Tensor
    by_channel_margin: Tensor
    overall: Tensor
    overall_margin: Tensor


def coverage(standardized: Tensor, observed: Tensor, z: float) -> Coverage:
    """Compute the coverage of central prediction intervals.

    `standardized` (batch, time, obs) is the error over its predicted standard deviation; margins are `z` standard
    errors.
    """
    count = observed.sum((0, 1)).double()
    levels = torch.tensor(COVERAGE_LEVELS, dtype=standardized.dtype)
    inside = torch.stack([(standardized.abs() <= quantile(level)) & observed for level in COVERAGE_LEVELS])
    inside = inside.to(standardized.dtype)
    by_channel = inside.sum((1, 2)) / count
    margin = z * (levels * (1 - levels))[:, None].sqrt() / count.sqrt()
    total = int(count.sum())
    # Steps are independent of each other if the model is right, but channels of one step are not.
    excess = inside.sum(-1) - levels[:, None, None] * observed.sum(-1)
    return Coverage(
        by_channel=by_channel,
        by_channel_margin=margin,
        overall=inside.sum((1, 2, 3)) / total,
        overall_margin=z * excess.square().sum((1, 2)).sqrt() / total,
    )


def quantile(level: float) -> float:
    """Half-width of the central interval of a standard normal distribution at a level."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def chi_square_tail(statistic: Tensor, degrees: Tensor) -> Tensor:
    """Probability that a chi-square variable is larger; 1 for 0 degrees of freedom."""
    half = 0.5 * degrees.to(statistic.dtype)
    tail = torch.special.gammaincc(half.clamp_min(0.5), 0.5 * statistic)
    return torch.where(degrees > 0, tail, torch.ones_like(tail))


def mean_square_interval(degrees: int, level: float) -> tuple[float, float]:
    """Central interval of a chi-square variable over its degrees of freedom, at a level."""
    from scipy.special import chdtri  # imported here: the filter alone does not need scipy

    return float(chdtri(degrees, 0.5 + level / 2)) / degrees, float(chdtri(degrees, 0.5 - level / 2)) / degrees
