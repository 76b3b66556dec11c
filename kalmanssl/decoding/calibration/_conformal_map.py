"""Conformal maps: the level that an interval or a region must have in order to cover at each nominal level."""

from __future__ import annotations

import numpy as np

__all__ = ["NOMINAL_LEVELS", "conformal_map", "correlation_length", "nominal_level"]

# Nominal central levels of the conformal map; linear between them.
NOMINAL_LEVELS = np.concatenate([np.linspace(0, 0.9, 19), [0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 1.0]])
_MARGIN = 0.5  # of the conformal map, in standard errors of the coverage
_SESSION_MARGIN = 1.0  # the same over sessions: they differ more than blocks of time, and their number is small
_CANDIDATES = 4001  # levels of a map over sessions


def nominal_level(level: np.ndarray, map_: np.ndarray) -> np.ndarray:
    """Return the smallest nominal level at which a conformal map (levels,) is at least `level` (time,)."""
    right = np.clip(np.searchsorted(map_, level, side="left"), 1, len(map_) - 1)
    low, high = map_[right - 1], map_[right]
    share = np.clip((level - low) / np.maximum(high - low, 1e-300), 0, 1)
    return (1 - share) * NOMINAL_LEVELS[right - 1] + share * NOMINAL_LEVELS[right]


def correlation_length(values: np.ndarray, block: np.ndarray, least: float = 0.05, max_lag: int = 2000) -> float:
    """Return the number of consecutive bins that carry as much information as one independent bin, at least one.

    It is the integrated autocorrelation 1 + 2 sum r(lag) of values (bins,) around their means in blocks of time (bins,)
    int, up to the first lag at which r is below `least` (Geyer 1992, Stat. Sci. 7:473). Slow changes from block to
    block do not count.
    """
    _, block = np.unique(block, return_inverse=True)
    excess = values - (np.bincount(block, values) / np.bincount(block))[block]
    variance = float((excess**2).mean())
    total = 1.0
    for lag in range(1, min(max_lag, len(values) - 1)):
        same = block[lag:] == block[:-lag]
        if variance <= 0 or not same.any():
            break
        correlation = float((excess[lag:] * excess[:-lag])[same].mean()) / variance
        if correlation < least:
            break
        total += 2 * correlation
    return total


def conformal_map(
    central: np.ndarray, block: np.ndarray, session: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Return the quantiles of the conformity scores at `NOMINAL_LEVELS`, and the effective number of scores.

    The conformal correction (n + 1) / n counts independent scores. Scores within a block are correlated, so n is the
    number of bins over the design effect 1 + (m - 1) r, where r is the correlation within blocks and m their size
    (Kish 1965). Half a standard error of the coverage is added, because time after the fit differs from the held-out
    time as much as blocks of the held-out time differ from each other: without this margin, intervals cover one to two
    percentage points too little there.

    If the scores are of several sessions (bins,) int that were left out, each level is the lowest one at which the mean
    coverage of the sessions, minus its standard error over them, is nominal: a new session differs from these as they
    differ from each other (Dunn, Wasserman & Ramdas 2023, JASA 118:2491, pool such groups with equal weights, too).
    The average coverage over new sessions is then close to nominal, and that of most of them is higher. No assumption
    except exchangeable sessions would guarantee it, but intervals at 95 % are then infinite with fewer than 19 sessions
    (Lee, Barber & Willett 2023, arXiv:2306.06342).
    """
    if session is not None and len(np.unique(session)) > 1:
        return _map_over_sessions(central, session), conformal_map(central, session)[1]
    _, block = np.unique(block, return_inverse=True)
    size = np.bincount(block)
    total = np.bincount(block, central - central.mean())
    variance = max(float(central.var()), 1e-12)
    pairs = float((size * (size - 1)).sum())
    correlation = (float((total**2).sum()) - variance * len(central)) / (variance * pairs) if pairs else 0.0
    typical = float((size**2).sum() / size.sum())
    effective = len(central) / (1 + (typical - 1) * float(np.clip(correlation, 0, 1)))
    effective = float(np.clip(effective, min(len(size), len(central)), len(central)))
    margin = _MARGIN * np.sqrt(NOMINAL_LEVELS * (1 - NOMINAL_LEVELS) / effective)
    levels = np.quantile(central, np.minimum(NOMINAL_LEVELS * (1 + 1 / effective) + margin, 1.0))
    levels[0], levels[-1] = 0.0, 1.0
    return np.maximum.accumulate(levels), effective


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
