"""Calibration of predictive distributions on blocks that lie later than what the readout was fitted on.

A neural code drifts: a readout errs more the longer ago it was fitted, and intervals that are calibrated on shuffled or
adjacent bins are too narrow on time that the model has not seen. So errors are gathered by rolling origin: the readout
is fitted on the first blocks and scored on all later ones, each error with its lag. From them come a spread that grows
with the lag, and a conformal map of the central levels (Vovk, Gammerman & Shafer 2005; in the form of Chernozhukov,
Wüthrich & Zhu 2021, PNAS 118:e2107794118, "distributional conformal prediction").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kalmanssl.decoding._predictive import Predictive, quantile_crps, wrap

__all__ = ["Calibration", "HeldOutErrors", "blocks_of_time", "calibration_curve", "rolling_origins"]

_NOMINAL = np.concatenate([np.linspace(0, 0.9, 19), [0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 1.0]])
_SCORING = np.linspace(0.02, 0.98, 25)
_SCORED = 4000  # bins that the drift and the added error are chosen on
_SPREADS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # in units of the typical spread of the predictions
_FINER = (0.7, 0.85, 1.0, 1.2, 1.4)


def blocks_of_time(time: np.ndarray, at_least: int = 40) -> np.ndarray:
    """Number the contiguous stretches of time, cutting long ones until there are enough.

    Bins of one traversal err together, so stretches (traversals, if only running bins are given) and not bins are what
    calibration counts.

    Parameters
    ----------
    time : (time,)
        Increasing, seconds.
    at_least : int
        Stretches longer than their share are cut into pieces of that length.

    Returns
    -------
    (time,) int
    """
    step = np.diff(time)
    if len(step) == 0:
        return np.zeros(len(time), dtype=int)
    new = np.concatenate([[True], step > 1.5 * np.median(step)])
    stretch = np.cumsum(new) - 1
    if stretch[-1] + 1 >= at_least:
        return stretch
    longest = max(1, len(time) // at_least)
    within = np.arange(len(time)) - np.flatnonzero(new)[stretch]
    length = np.bincount(stretch)
    pieces = np.maximum(1, np.round(length / longest)).astype(int)
    piece = np.minimum(within * pieces[stretch] // length[stretch], pieces[stretch] - 1)
    first = np.concatenate([[0], np.cumsum(pieces)[:-1]])
    return first[stretch] + piece


def rolling_origins(block: np.ndarray, origins: int = 4, first: float = 0.4) -> list[int]:
    """Indices of the bins at which the fitted part of each fold ends, all at borders of blocks.

    Parameters
    ----------
    block : (time,) int
        As from `blocks_of_time`.
    origins : int
        Number of folds.
    first : float
        Share of the bins that the first fold is fitted on; the last leaves one part in `origins + 1` of the rest.
    """
    borders = np.flatnonzero(np.diff(block)) + 1
    if len(borders) == 0:
        return []
    wanted = (first + (1 - first) * np.arange(origins) / (origins + 1)) * len(block)
    return sorted({int(borders[np.argmin(np.abs(borders - value))]) for value in wanted})


@dataclass
class HeldOutErrors:
    """Predictions of one dimension on blocks outside what they were fitted on.

    Attributes
    ----------
    predictive : Predictive
        For every scored bin.
    truth, lag : (bins,)
        The behavior; and the distance in time from what the readout was fitted on, seconds.
    block : (bins,) int
        Block of time that the bin is of; a block that several folds scored keeps its number.
    """

    predictive: Predictive
    truth: np.ndarray
    lag: np.ndarray
    block: np.ndarray

    def thin(self, bins: int) -> HeldOutErrors:
        """At most `bins` of the bins, evenly spread."""
        if len(self.truth) <= bins:
            return self
        picked = np.linspace(0, len(self.truth) - 1, bins).astype(int)
        return HeldOutErrors(self.predictive[picked], self.truth[picked], self.lag[picked], self.block[picked])


@dataclass(frozen=True)
class Calibration:
    """How the predictive of one dimension has to be changed to keep its promises on later time.

    Attributes
    ----------
    floor, rate : float
        Standard deviation of an added error: `sqrt(floor**2 + (rate * lag)**2)`; unit of the behavior, and per second.
    lag : float
        Lag that is assumed where the time of a bin is not known.
    raw : (levels,)
        Central level of the spread predictive that keeps the promise of each nominal level of the map.
    effective : float
        Number of independent errors that the map rests on.
    """

    floor: float
    rate: float
    lag: float
    raw: np.ndarray
    effective: float

    @classmethod
    def none(cls) -> Calibration:
        """Change nothing."""
        return cls(0.0, 0.0, 0.0, _NOMINAL.copy(), np.inf)

    @classmethod
    def learn(cls, errors: list[HeldOutErrors], each: bool = False) -> Calibration:
        """Learn from errors on blocks of time that were not fitted.

        Parameters
        ----------
        errors : list of HeldOutErrors
            One per fold.
        each : bool
            Whether the promise shall hold for each fold by itself, and not only for all of them together: how a code
            drifts differs between one stretch of time and the next, and the coming one may be like the worse. For the
            same reason no interval is then made narrower than the readout has it.
        """
        lag = np.concatenate([fold.lag for fold in errors])
        longest = max(float(lag.max()), 1e-9)
        few = [fold.thin(_SCORED // len(errors)) for fold in errors]
        scale = float(np.median(np.concatenate([_iqr(fold.predictive) for fold in few]))) / 1.35
        candidates = [(scale * base, scale * rise / longest) for rise in _SPREADS for base in _SPREADS]
        floor, rate = _best(candidates, lambda base, rise: _score(few, base, rise))
        finer = [(floor * base, rate * rise) for rise in _FINER for base in _FINER]
        floor, rate = _best([(floor, rate), *finer], lambda base, rise: _score(few, base, rise))
        central = [np.abs(2 * _widened(fold, floor, rate).cdf(fold.truth) - 1) for fold in errors]
        block = [fold.block for fold in errors]
        if not each:
            central, block = [np.concatenate(central)], [np.concatenate(block)]
        maps, effective = zip(*map(_conformal_map, central, block), strict=True)
        if each:
            maps = (*maps, _NOMINAL)
        return cls(floor, rate, float(lag.mean()), np.max(maps, axis=0), float(min(effective)))

    def apply(self, predictive: Predictive, lag: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Calibrated quantiles (time, levels).

        Parameters
        ----------
        predictive : Predictive
            As the readout gave it.
        lag : (time,)
            Seconds since the end of the fitted part; NaN where unknown, negative inside it.
        levels : (levels,)
            Inside (0, 1).
        """
        later = np.where(np.isnan(lag), self.lag, np.maximum(lag, 0))
        central = np.interp(np.abs(2 * levels - 1), _NOMINAL, self.raw)
        to_float32 = predictive.spread(np.hypot(self.floor, self.rate * later))
        return to_float32.quantiles((1 + np.sign(levels - 0.5) * central) / 2)

    def state(self) -> dict[str, Any]:
        """Arguments that make it again."""
        return dataclasses.asdict(self)


def _best(candidates: Sequence[tuple[float, ...]], score: Callable[..., float]) -> tuple[float, ...]:
    """The candidate with the lowest score; a later one must be better by a thousandth."""
    best, lowest = candidates[0], np.inf
    for candidate in candidates:
        value = score(*candidate)
        if value < lowest * (1 - 1e-3):
            best, lowest = candidate, value
    return best


def _widened(fold: HeldOutErrors, floor: float, rate: float) -> Predictive:
    return fold.predictive.spread(np.hypot(floor, rate * fold.lag))


def _score(errors: list[HeldOutErrors], floor: float, rate: float) -> float:
    """Mean CRPS over all folds."""
    total = 0.0
    for fold in errors:
        quantiles = _widened(fold, floor, rate).quantiles(_SCORING)
        middle = quantiles[:, len(_SCORING) // 2]
        truth = middle + wrap(fold.truth - middle, fold.predictive.period)
        total += float(quantile_crps(quantiles, _SCORING, truth).sum())
    return total / sum(len(fold.truth) for fold in errors)


def _iqr(predictive: Predictive) -> np.ndarray:
    low, high = predictive.quantiles(np.array([0.25, 0.75])).T
    return high - low


def _conformal_map(central: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, float]:
    """Quantiles of the conformity scores at `_NOMINAL`, corrected for how few independent ones there are.

    The conformal correction (n + 1) / n counts independent scores. Scores within a block go together, so n is the
    number of bins over the design effect 1 + (m - 1) r, r the correlation within blocks and m their size (Kish 1965).
    """
    _, block = np.unique(block, return_inverse=True)
    size = np.bincount(block)
    total = np.bincount(block, central - central.mean())
    variance = max(float(central.var()), 1e-12)
    pairs = float((size * (size - 1)).sum())
    together = (float((total**2).sum()) - variance * len(central)) / (variance * pairs) if pairs else 0.0
    typical = float((size**2).sum() / size.sum())
    effective = len(central) / (1 + (typical - 1) * float(np.clip(together, 0, 1)))
    effective = float(np.clip(effective, min(len(size), len(central)), len(central)))
    raw = np.quantile(central, np.minimum(_NOMINAL * (1 + 1 / effective), 1.0))
    raw[0], raw[-1] = 0.0, 1.0
    return np.maximum.accumulate(raw), effective


def calibration_curve(
    pit: np.ndarray, levels: np.ndarray | None = None, block: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Share of truths inside the central interval of each nominal level, with the error of that share.

    Parameters
    ----------
    pit : (time,)
        Predictive probability of lying below the truth; NaN is left out.
    levels : (levels,), optional
        Nominal central levels; 0.05 to 0.95 and 0.99 by default.
    block : (time,) int, optional
        Blocks of bins that err together; the error is then over blocks instead of bins.

    Returns
    -------
    dict
        `nominal`, `empirical` and `error` (one standard error), each (levels,).
    """
    levels = np.append(np.linspace(0.05, 0.95, 19), 0.99) if levels is None else np.asarray(levels)
    known = np.isfinite(pit)
    inside = np.abs(2 * pit[known] - 1)[:, None] <= levels
    block = np.arange(known.sum()) if block is None else np.unique(block[known], return_inverse=True)[1]
    if len(inside) == 0:
        return {
            "nominal": levels,
            "empirical": np.full(len(levels), np.nan),
            "error": np.full(len(levels), np.nan),
        }
    share = inside.mean(axis=0)
    size = np.bincount(block)
    excess = np.stack([np.bincount(block, column) for column in (inside - share).T], axis=1)
    count = len(size)
    error = np.sqrt((excess**2).sum(axis=0) * count / max(count - 1, 1)) / size.sum()
    return {"nominal": levels, "empirical": share, "error": error}
