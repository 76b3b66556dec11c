"""The movement prior of labels: a Markov chain that keeps its label, learned from the labels of the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from kalmanssl.decoding.held_out import (
    HeldOutMass,
    MovementSettings,
    closest,
    is_lower,
    mean_by_block,
    vary_one_at_a_time,
)
from kalmanssl.decoding.movement import Transition, posterior_mass

__all__ = ["LabelChain", "LabelStatistics", "brier_score", "choose_chain"]

_TYPICAL_JUMP = 1e-4  # where the search begins
_INDEPENDENT_POWERS = (0.3, 0.5, 0.7, 0.85, 1.0)  # at most 1: higher powers overfit the held-out bins


@dataclass(frozen=True)
class LabelStatistics:
    """Statistics of the labels of the training part.

    Attributes
    ----------
    occupancy : (labels,)
        Probability of each label.
    reset : float
        Probability that the label of a bin is drawn again from the occupancy instead of being that of the bin before.
    """

    occupancy: np.ndarray
    reset: float

    @classmethod
    def from_codes(cls, codes: np.ndarray, follows: np.ndarray, n_labels: int) -> Self:
        """Compute the statistics of labels.

        Parameters
        ----------
        codes : (time,) int
            Number of the label of each bin.
        follows : (time,) bool
            Whether the bin follows the one before it without a gap.
        n_labels : int
        """
        counts = np.bincount(codes, minlength=n_labels) + 0.5  # half a count, so that no label is impossible
        occupancy = counts / counts.sum()
        switches = (codes[1:] != codes[:-1])[follows[1:]]
        rate = (switches.sum() + 0.5) / (len(switches) + 1)
        # A label that is drawn again changes with probability 1 - sum(occupancy**2).
        return cls(occupancy, float(min(rate / (1 - (occupancy**2).sum()), 1.0)))


@dataclass(frozen=True)
class LabelChain:
    """A Markov chain of labels with its settings.

    In each bin the label is drawn again from the occupancy with a small probability, and otherwise stays the same. The
    occupancy is therefore the stationary distribution. The likelihood of each label is the ratio of the readout's
    probability to the occupancy, to a power.

    Attributes
    ----------
    statistics : LabelStatistics
    reset_factor : float
        Factor of the probability that the label is drawn again.
    power : float
        Power of the likelihood. In a chain it accounts for the dependence of the errors of neighboring bins; if every
        bin is decoded by itself it corrects probabilities that are too certain, as temperature scaling does (Guo et
        al. 2017, ICML).
    jump : float
        Probability of a further draw from the occupancy in each bin; 1 decodes every bin by itself.
    """

    statistics: LabelStatistics
    reset_factor: float
    power: float
    jump: float

    def transition(self) -> Transition:
        """Return one step of the chain."""
        occupancy = self.statistics.occupancy
        reset = min(self.statistics.reset * self.reset_factor, 1.0)
        kernel = (1 - reset) * np.eye(len(occupancy)) + reset * occupancy
        ones = np.ones((1, len(occupancy), 1))
        return Transition(
            occupancy[None, :, None], kernel[None], np.ones((1, 1, 1)), ones, ones, np.ones((1, 1)), self.jump
        )

    def likelihood(self, mass: np.ndarray) -> np.ndarray:
        """Return the likelihood of each label (time, labels, 1); its maximum is one in every bin."""
        log_ratio = self.power * (np.log(np.maximum(mass, 1e-12)) - np.log(self.statistics.occupancy))
        return np.exp(log_ratio - log_ratio.max(axis=1, keepdims=True))[:, :, None]

    def to_state(self) -> dict[str, Any]:
        """Return arrays and plain values from which `from_state` makes the chain again."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a chain from what `to_state` returned."""
        statistics = state["statistics"]
        kept = LabelStatistics(np.asarray(statistics["occupancy"], dtype=float), float(statistics["reset"]))
        factor = "width_factor" if "width_factor" in state else "reset_factor"  # the first is that of earlier versions
        return cls(kept, *(float(state[name]) for name in (factor, "power", "jump")))


def brier_score(mass: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the Brier score (time,) of probabilities (time, labels), from 0 to 2 (Brier 1950, Mon. Weather Rev. 78:1).

    `codes` (time,) int are the numbers of the true labels.
    """
    own = mass[np.arange(len(mass)), codes]
    return (mass.astype(float) ** 2).sum(axis=1) - 2 * own + 1


def choose_chain(
    statistics: Sequence[LabelStatistics], held_out: Sequence[HeldOutMass], smooth: bool, settings: MovementSettings
) -> tuple[str, LabelChain, dict[str, float]]:
    """Choose between a chain and independent bins, and their settings, by the Brier score on held-out bins.

    Parameters
    ----------
    statistics : sequence of LabelStatistics
        One for each fold.
    held_out : sequence of HeldOutMass
        One for each fold; the truth is the number of the label.
    smooth : bool
        Whether smoothed posteriors are scored.
    settings : MovementSettings

    Returns
    -------
    kind : "none" or "chain"
    chain : LabelChain
        With the statistics of the first fold.
    scores : dict of float
        Mean Brier score of the best settings of each kind.
    """

    def score(chain: LabelChain) -> np.ndarray:
        scores = []
        for part, own in zip(held_out, statistics, strict=True):
            movement = replace(chain, statistics=own)
            posterior = posterior_mass(movement, part.readout, smooth)[part.scored]
            scores.append(brier_score(posterior, part.truth[:, 0].astype(int)))
        return mean_by_block(scores, held_out)

    independent = LabelChain(statistics[0], 1.0, 1.0, 1.0)
    candidates: dict[str, tuple[LabelChain, dict[str, tuple[float, ...]]]] = {
        "none": (independent, {"power": _INDEPENDENT_POWERS}),
        "chain": (
            replace(
                independent,
                power=settings.powers[len(settings.powers) // 2],
                jump=closest(settings.jumps, _TYPICAL_JUMP),
            ),
            {
                "power": (*settings.powers, 1.0),
                "reset_factor": (*settings.width_factors,),
                "jump": settings.jumps,
            },
        ),
    }
    found = {
        kind: vary_one_at_a_time(*candidates[kind], score, settings.n_rounds, settings.min_standard_errors)
        for kind in settings.kinds
    }
    scores = {kind: part.score for kind, part in found.items()}
    best = _lowest_kind(scores, settings)
    return best, found[best].best, {kind: float(value.sum()) for kind, value in scores.items()}


def _lowest_kind(scores: Mapping[str, np.ndarray], settings: MovementSettings) -> str:
    """Return the kind with the lowest score; a later one must be better than the best before it."""
    best = next(iter(scores))
    for kind, score in scores.items():
        if is_lower(score, scores[best], settings.min_standard_errors):
            best = kind
    return best
