"""Whether to trust a decoded bin, judged from the activity alone.

Two numbers of a bin were found to predict intervals that miss the truth: the distance of its latents to those of the
fit, and the agreement of the distribution that the readout gives for this bin alone with the posterior, which also
knows the movement prior and the other bins. How much each of them matters differs between recordings, so their weights
and the threshold are learned from the errors on held-out time, as the calibration is. Held-out time has few latents
that are far from those of the fit, so the farthest ones are not trusted in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from scipy.optimize import nnls
from scipy.special import ndtri

from kalmanssl.utils.blocks import mean_over_blocks

__all__ = ["REASONS", "Trust", "TrustJudgment", "agreement_of"]

REASONS = ("", "unfamiliar latents", "contradicts other bins", "no activity")
_MISSING = 3
_POINTS = 1001  # of the tables of held-out values
_CLIP = 0.002  # ranks are kept this far from 0 and 1, so that single bins do not decide
_RIDGE = 0.1  # penalty of the weights, per bin; the numbers they multiply have unit variance
_LEVELS = (0.8, 0.95)  # bins are not trusted where the interval at one of these levels misses twice as often as it says
_SHARES = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3)  # of the held-out bins that are not trusted
_LEAST_SHARE = 0.005  # if intervals cover everywhere, only bins more unusual than this share of them are not trusted
_MIN_BINS, _MIN_BLOCKS = 10, 3
_ROWS = 4096  # bins that are handled at a time, so that memory does not grow with the recording


@dataclass(frozen=True)
class TrustJudgment:
    """What was found for each bin.

    Attributes
    ----------
    trust : (time,)
        Share of the held-out bins that look at least as unusual, or that are at least as far from the latents of the
        fit, from 0 to 1; 0 where the bin has no activity.
    trusted : (time,) bool
        Whether `trust` is above the threshold.
    reason : (time,) int8
        Index in `REASONS` of why a bin is not trusted; 0 where it is.
    """

    trust: np.ndarray
    trusted: np.ndarray
    reason: np.ndarray

    def __getitem__(self, index: Any) -> TrustJudgment:
        return TrustJudgment(self.trust[index], self.trusted[index], self.reason[index])


@dataclass(frozen=True)
class Trust:
    """The judgment of bins that was learned on held-out time.

    A bin is as unusual as the weighted sum of the ranks of its distance and its disagreement among the held-out bins,
    where ranks are turned into normal deviates. If its distance alone is among the largest of them, its trust is at
    most the share of the held-out bins that are as far away.

    Attributes
    ----------
    distance, agreement : (points,)
        Quantiles of the numbers of the held-out bins; empty if there were none, and then every bin is trusted.
    unusual : (points,)
        Quantiles of the weighted sum.
    weights : (2,)
        Weights of the distance and of the disagreement, not negative.
    threshold : float
        Bins with at most this `trust` are not trusted.
    """

    distance: np.ndarray
    agreement: np.ndarray
    unusual: np.ndarray
    weights: np.ndarray
    threshold: float

    @classmethod
    def everywhere(cls) -> Self:
        """Return the judgment that trusts all bins with activity, since nothing was learned."""
        nothing = np.zeros(0)
        return cls(nothing, nothing, nothing, np.zeros(2), 0.0)

    @classmethod
    def fit(cls, distance: np.ndarray, agreement: np.ndarray, level: np.ndarray, block: np.ndarray) -> Self:
        """Learn from held-out bins.

        Parameters
        ----------
        distance : (bins,)
            Distance of the latents to those of the fit; 0 if the readout does not know it.
        agreement : (bins,)
            From `agreement_of`.
        level : (bins, dims)
            Smallest nominal level whose calibrated interval contains the truth.
        block : (bins,) int
            Block of time of each bin.
        """
        tables = [_table(np.round(distance, 4)), _table(np.round(agreement, 4))]
        parts = _deviates(_rank_rounded(tables[0], distance), _rank_rounded(tables[1], agreement))
        mean_level = level.mean(axis=1)
        penalty = np.sqrt(_RIDGE * len(parts)) * np.eye(2)
        target = np.concatenate([mean_level - mean_level.mean(), np.zeros(2)])
        weights, _ = nnls(np.concatenate([parts - parts.mean(axis=0), penalty]), target)
        if not weights.any():
            weights = np.ones(2)  # nothing predicts the errors here, but bins beyond all held-out ones are unusual
        unusual = _table(parts @ weights)
        trust = 1 - _rank(unusual, parts @ weights)
        return cls(tables[0], tables[1], unusual, weights, _threshold(trust, level, block))

    def judge(self, distance: np.ndarray | None, agreement: np.ndarray, missing: np.ndarray) -> TrustJudgment:
        """Judge bins.

        Parameters
        ----------
        distance : (time,) or None
            Distance of the latents to those of the fit; None if the readout does not know it.
        agreement : (time,)
        missing : (time,) bool
            Bins without activity.
        """
        if len(self.unusual) == 0:
            trust = np.ones(len(agreement))
            parts = np.zeros((len(agreement), 2))
        else:
            distance = np.zeros(len(agreement)) if distance is None else distance
            nearer = _rank_rounded(self.distance, distance)
            parts = _deviates(nearer, _rank_rounded(self.agreement, agreement)) * self.weights
            trust = 1 - _rank(self.unusual, parts.sum(axis=1))
            farther = 1 - nearer
            is_far = (farther <= _LEAST_SHARE) & (farther < trust)
            trust[is_far] = farther[is_far]
            parts[is_far, 0] = np.inf
        trust[missing] = 0.0
        trusted = (trust > self.threshold) & ~missing
        reason = np.where(trusted, 0, 1 + parts.argmax(axis=1)).astype(np.int8)
        reason[missing] = _MISSING
        return TrustJudgment(trust, trusted, reason)

    def judge_one(self, distance: float, agreement: float) -> tuple[float, bool]:
        """Return the trust of one bin with activity, and whether it is trusted, as `judge`."""
        if len(self.unusual) == 0:
            return 1.0, True
        # The weights are ordered as in `judge`; scalars are faster than arrays of one bin.
        nearer = _rank_one(self.distance, _round_one(distance))
        unusual = self.weights[0] * _deviate_one(nearer)
        unusual -= self.weights[1] * _deviate_one(_rank_one(self.agreement, _round_one(agreement)))
        trust = 1 - _rank_one(self.unusual, unusual)
        farther = 1 - nearer
        if farther <= _LEAST_SHARE:
            trust = min(trust, farther)
        return trust, bool(trust > self.threshold)

    def to_state(self) -> dict[str, Any]:
        """Return the arguments that make this object again."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make the object from what `to_state` returned."""
        arrays = {name: np.asarray(value, dtype=float) for name, value in state.items() if name != "threshold"}
        return cls(**arrays, threshold=float(state["threshold"]))


def agreement_of(masses: Sequence[np.ndarray], posteriors: Sequence[np.ndarray]) -> np.ndarray:
    """Return the Bhattacharyya coefficient of two distributions over the same grids, (time,), averaged over the grids.

    It is 1 for equal distributions and 0 for those that share no cell.

    Parameters
    ----------
    masses, posteriors : sequence of (time, *shape)
        One for each grid.
    """
    result = np.zeros(len(masses[0]))
    for mass, posterior in zip(masses, posteriors, strict=True):
        for first in range(0, len(mass), _ROWS):
            rows = slice(first, first + _ROWS)
            product = (mass[rows] * posterior[rows]).reshape(len(result[rows]), -1)
            result[rows] += np.sqrt(product).sum(axis=1, dtype=float) / len(masses)
    return result


def _table(values: np.ndarray) -> np.ndarray:
    return np.quantile(values, np.linspace(0, 1, _POINTS))


def _rank(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the share of a table that lies below each value; equal entries count half."""
    both = np.searchsorted(table, values, "left") + np.searchsorted(table, values, "right")
    return np.asarray(both / (2 * len(table)))


def _rank_rounded(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the ranks of values that are rounded as those of the tables of distances and agreements are."""
    return _rank(table, np.round(values, 4))


def _deviates(distance: np.ndarray, agreement: np.ndarray) -> np.ndarray:
    """Return the normal deviates of distance and disagreement from the ranks of distance and agreement, (time, 2).

    Numbers that are constant on held-out time have zero.
    """
    distance, agreement = (ndtri(np.clip(rank, _CLIP, 1 - _CLIP)) for rank in (distance, agreement))
    return np.stack([distance, -agreement], axis=1)


def _round_one(value: float) -> float:
    """Round as `np.round(value, 4)`, which differs from `round(value, 4)` halfway between two numbers."""
    return float(np.rint(value * 1e4)) / 1e4


def _rank_one(table: np.ndarray, value: float) -> float:
    return int(table.searchsorted(value, "left") + table.searchsorted(value, "right")) / (2 * len(table))


def _deviate_one(rank: float) -> float:
    return float(ndtri(min(max(rank, _CLIP), 1 - _CLIP)))


def _threshold(trust: np.ndarray, level: np.ndarray, block: np.ndarray) -> float:
    """Return the largest trust at which intervals clearly miss at least twice as often as their level says.

    The bins between two shares are judged by themselves: a few bad bins below them do not make them bad. Bins whose
    intervals only cover less than those of others are trusted, since without them the others would cover too much.
    """
    found = 0.0
    for share in _SHARES:
        bins = (trust > found) & (trust <= share)
        if bins.sum() < _MIN_BINS or len(np.unique(block[bins])) < _MIN_BLOCKS:
            continue
        for nominal in _LEVELS:
            inside = (level[bins] <= nominal).mean(axis=1, keepdims=True)
            coverage, error = mean_over_blocks(inside.astype(float), block[bins])
            if 1 - coverage[0] >= 2 * (1 - nominal) and coverage[0] + 2 * error[0] < nominal:
                found = share
    return max(found, _LEAST_SHARE)
