"""Conformal maps: the level that an interval or a region must have in order to cover at each nominal level."""

from __future__ import annotations

import numpy as np

__all__ = ["NOMINAL_LEVELS", "conformal_map", "correlation_length", "nominal_level"]

# Nominal central levels of the conformal map; linear between them.
NOMINAL_LEVELS = np.concatenate([np.linspace(0, 0.9, 19), [0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 1.0]])
# Of the conformal map, in standard errors of the coverage. Without it the intervals at 80 and 95 % cover 1.5 and 0.8
# percentage points too little after held-out parts of the training time of 18 recordings, with it 0.3 and 0.0.
_MARGIN = 0.35
_SESSION_MARGIN = 1.0  # the same over sessions: they differ more than blocks of time, and their number is small
_CANDIDATES = 4001  # levels of a map over sessions
_LEAST_CORRELATION, _LONGEST_LAG = 0.05, 2000  # up to which errors of neighboring bins count as dependent


def nominal_level(level: np.ndarray, map_: np.ndarray) -> np.ndarray:
    """Return the smallest nominal level at which a conformal map (levels,) is at least `level` (time,)."""
    right = np.clip(np.searchsorted(map_, level, side="left"), 1, len(map_) - 1)
    low, high = map_[right - 1], map_[right]
    share = np.clip((level - low) / np.maximum(high - low, 1e-300), 0, 1)
    return (1 - share) * NOMINAL_LEVELS[right - 1] + share * NOMINAL_LEVELS[right]


def correlation_length(values: np.ndarray, block: np.ndarray) -> float:
    """Return the number of consecutive bins that carry as much information as one independent bin, at least one.

    It is the integrated autocorrelation 1 + 2 sum r(lag) of values (bins,) around their means in blocks of time (bins,)
    int, up to the first lag at which r is below 0.05 (Geyer 1992, Stat. Sci. 7:473). Slow changes from block to
    block do not count.
    """
    _, block = np.unique(block, return_inverse=True)
    excess = values - (np.bincount(block, values) / np.bincount(block))[block]
    variance = float((excess**2).mean())
    total = 1.0
    for lag in range(1, min(_LONGEST_LAG, len(values) - 1)):
        same = block[lag:] == block[:-lag]
        if variance <= 0 or not same.any():
            break
        correlation = float((excess[lag:] * excess[:-lag])[same].mean()) / variance
        if correlation < _LEAST_CORRELATION:
            break
        total += 2 * correlation
    return total


def conformal_map(
    central: np.ndarray, block: np.ndarray, session: np.ndarray | None = None, weight: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Return the quantiles of the conformity scores at `NOMINAL_LEVELS`, and the effective number of scores.

    Scores within a block are correlated. The effective number n is that of independent scores whose mean would vary as
    much as the weighted mean does from block to block (Kish 1965). The empirical quantile at level p of n independent
    scores covers on average (p - 1/2) / n less than p, and this is added. A share of the standard error of the coverage
    is added, too: time after the fit is harder to decode than the held-out time, on average by this much (see
    `_MARGIN`).

    If the scores are of several sessions (bins,) int that were left out, each level is the lowest one at which the mean
    coverage of the sessions, minus its standard error over them, is nominal: a new session differs from these as they
    differ from each other (Dunn, Wasserman & Ramdas 2023, JASA 118:2491, pool such groups with equal weights, too).
    The average coverage over new sessions is then close to nominal, and that of most of them is higher. No assumption
    except exchangeable sessions would guarantee it, but intervals at 95 % are then infinite with fewer than 19 sessions
    (Lee, Barber & Willett 2023, arXiv:2306.06342).

    Parameters
    ----------
    central : (bins,)
        Conformity scores, from 0 to 1.
    block : (bins,) int
    session : (bins,) int, optional
    weight : (bins,), optional
        Weights of the scores (Barber, Candès, Ramdas & Tibshirani 2023, Ann. Stat. 51:816); equal by default, and for
        several sessions.
    """
    weight = np.ones(len(central)) if weight is None else weight
    if session is not None and len(np.unique(session)) > 1:
        return _map_over_sessions(central, session), _effective_number(central, session, np.ones(len(central)))
    effective = _effective_number(central, block, weight)
    error = np.sqrt(NOMINAL_LEVELS * (1 - NOMINAL_LEVELS) / effective)
    target = NOMINAL_LEVELS + (NOMINAL_LEVELS - 0.5) / effective + _MARGIN * error
    order = np.argsort(central)
    share = np.cumsum(weight[order]) - weight[order] / 2
    levels = np.interp(target, share / weight.sum(), central[order])
    levels[0], levels[-1] = 0.0, 1.0
    return np.maximum.accumulate(levels), effective


def _effective_number(central: np.ndarray, block: np.ndarray, weight: np.ndarray) -> float:
    """Return the number of independent scores whose mean varies as much as the weighted mean over blocks."""
    _, block = np.unique(block, return_inverse=True)
    excess = central - np.average(central, weights=weight)
    variance = float(np.average(excess**2, weights=weight))
    total = np.bincount(block, weight * excess)
    effective = weight.sum() ** 2 * variance / max(float((total**2).sum()), 1e-300)
    return float(np.clip(effective, 1.0, weight.sum() ** 2 / (weight**2).sum()))


def _map_over_sessions(central: np.ndarray, session: np.ndarray) -> np.ndarray:
    """Return the map of `conformal_map` for scores of sessions that were left out."""
    candidates = np.minimum(np.append(np.quantile(central, np.linspace(0, 1, _CANDIDATES)), 1.0), 1.0)
    scores = [np.sort(central[session == number]) for number in np.unique(session)]
    coverage = np.stack([np.searchsorted(one, candidates, side="right") / len(one) for one in scores])
    error = coverage.std(axis=0, ddof=1) / np.sqrt(len(scores))
    lowest = np.maximum.accumulate(coverage.mean(axis=0) - _SESSION_MARGIN * error)
    levels = candidates[np.searchsorted(lowest, NOMINAL_LEVELS - 1e-12).clip(max=len(candidates) - 1)]
    levels[0], levels[-1] = 0.0, 1.0
    return np.maximum.accumulate(levels)
