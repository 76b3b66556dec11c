"""Choice of the movement prior, and of the weight of the readout in unfamiliar bins, on held-out bins.

Many settings have nearly the same score on held-out bins, and which of them has the lowest is an accident of the events
in these bins. So the mean of the settings of each kind is used, each weighted by the probability that it is the best
one ("bagging", Breiman 1996, Machine Learning 24:123). Settings of different kinds have no mean; the posteriors of the
kinds are averaged instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kalmanssl.decoding.grids import Grid
from kalmanssl.decoding.held_out._mass import HeldOutMass, mean_by_block, mean_crps
from kalmanssl.decoding.held_out._mixture_weights import crps_products, stacking_weights
from kalmanssl.decoding.held_out._paired_comparison import probability_of_lowest
from kalmanssl.decoding.held_out._search import closest, vary_one_at_a_time
from kalmanssl.decoding.movement import (
    COMBINATIONS,
    Familiarity,
    Movement,
    MovementComponent,
    MovementMixture,
    MovementStatistics,
    ReadoutMass,
    Transition,
    posterior_marginals,
)
from kalmanssl.utils.validation import as_numbers, check_condition, check_integer, check_not_negative

__all__ = ["MovementChoice", "MovementSettings", "choose_movement"]

_CONTINUOUS = ("none", "walk", "states")
# Settings that are good for most recordings, by whether latents are smoothed: the search begins there, and without
# jumps in effect. With a probability of 1e-4, a few bins with activity like that of another place can cause a jump, and
# an animal at rest is then decoded there until it moves. Held-out time can be too short to show this.
_TYPICAL = {
    False: {"width_factor": 8.0, "power": 0.8, "jump": 1e-8},
    True: {"width_factor": 4.0, "power": 0.4, "jump": 1e-8},
}
# With a movement prior, bins with little weight are predicted from their neighbors; without one, from the occupancy.
_TYPICAL_FAMILIARITY_POWER = {"without movement": 2.0, "with movement": 4.0}


@dataclass(frozen=True)
class MovementSettings:
    """Settings of the choice of a movement prior. All choices are made on held-out bins.

    Attributes
    ----------
    kinds : tuple of str
        Candidates. "none": every bin is decoded by itself. "walk": a random walk in one motion state. "states": random
        walks in two motion states, at rest and in movement; with one dimension, movement has two states, one for each
        direction. "chain": a Markov chain that keeps its label. Labels use "none" or "chain"; for other behavior the
        posteriors of all but "chain" are averaged, with weights that minimize the CRPS.
    width_factors, powers, jumps : tuple of float
        Candidates for the settings of `Movement`. For behavior that is not labels the mean of these and of the next
        ones is used, weighted by the probability that each is the best.
    familiarity_powers : tuple of float
        Candidates for the power of `Familiarity`, for all kinds but "chain".
    max_cells : int
        The choice is made on a grid of at most this many cells along an axis, or the square root of `max_cells_joint`
        in two dimensions.
    n_rounds : int
        Rounds of the search, which varies one setting at a time.
    min_standard_errors : float
        Improvement of the CRPS, or of the Brier score for labels, that a candidate must bring so that the search goes
        on from it, in standard errors of the difference over blocks of time; likewise for another variant of the
        neighbors. Held-out time is short, and without it single events decide.
    """

    kinds: tuple[str, ...] = ("none", "walk", "states", "chain")
    width_factors: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    powers: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
    jumps: tuple[float, ...] = (1e-8, 1e-4, 1e-2, 0.1)
    familiarity_powers: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    max_cells: int = 48
    max_cells_joint: int = 20
    n_rounds: int = 2
    min_standard_errors: float = 0.5

    def __post_init__(self) -> None:
        for name in ("width_factors", "powers", "jumps", "familiarity_powers"):
            object.__setattr__(self, name, as_numbers(name, getattr(self, name)))  # a saved state has a list
        known = ("none", "walk", "states", "chain")
        is_valid = isinstance(self.kinds, list | tuple) and len(self.kinds) > 0 and all(k in known for k in self.kinds)
        check_condition("kinds", self.kinds, is_valid, f"a sequence of some of {', '.join(known)}")
        object.__setattr__(self, "kinds", tuple(self.kinds))
        for name in ("width_factors", "powers"):
            check_condition(name, getattr(self, name), min(getattr(self, name)) > 0, "positive")
        powers = self.familiarity_powers
        check_condition("familiarity_powers", powers, min(powers) >= 0, "not negative")
        check_condition("jumps", self.jumps, 0 < min(self.jumps) <= max(self.jumps) < 1, "inside (0, 1)")
        for name in ("max_cells", "max_cells_joint", "n_rounds"):
            check_integer(name, getattr(self, name), 1)
        check_not_negative("min_standard_errors", self.min_standard_errors)

    def of_behavior(self, discrete: bool) -> MovementSettings:
        """Return the settings with only the kinds that apply to labels, or only those that apply to other behavior."""
        kinds = tuple(kind for kind in self.kinds if kind in (("none", "chain") if discrete else _CONTINUOUS))
        requirement = f"at least one of {', '.join(('none', 'chain') if discrete else _CONTINUOUS)} for this behavior"
        check_condition("movement_settings", self.kinds, len(kinds) > 0, requirement)
        return replace(self, kinds=kinds)


@dataclass(frozen=True)
class MovementChoice:
    """The movement priors that were chosen on held-out bins.

    Attributes
    ----------
    mixture : MovementMixture
        With the statistics of the first fold.
    score : (blocks,)
        What each block of time contributes to the CRPS of the mixture, in fractions of the range of the grid.
    scores : dict of (blocks,)
        The same for each kind alone.
    """

    mixture: MovementMixture
    score: np.ndarray
    scores: dict[str, np.ndarray]


def choose_movement(
    grid: Grid,
    candidates: dict[str, list[MovementStatistics]],
    held_out: Sequence[HeldOutMass],
    smooth: bool,
    settings: MovementSettings,
    familiarity: Familiarity,
) -> MovementChoice:
    """Choose movement priors, their settings, the power of familiarity and weights by the CRPS on held-out bins.

    The settings of each kind are the mean of all that were tried with the product of the parts of the readout. The
    posteriors of the kinds, with the product and, if it is known, the average of these parts, are averaged with the
    weights that `stacking_weights` finds.

    Parameters
    ----------
    grid : Grid
    candidates : dict of list of MovementStatistics
        Statistics of each kind but "none", one for each fold.
    held_out : sequence of HeldOutMass
        One for each fold.
    smooth : bool
        Whether smoothed posteriors are scored.
    settings : MovementSettings
    familiarity : Familiarity
        With the usual distance; its power is chosen.
    """
    factor = grid.coarsening(settings.max_cells if len(grid.axes) == 1 else settings.max_cells_joint)
    coarse = grid.coarsen(factor)
    search = _Search([part.coarsen(grid, factor) for part in held_out], smooth, settings, familiarity)
    statistics: dict[str, list[MovementStatistics]] = {
        kind: [part.coarsen(factor) for part in candidates[kind]] for kind in settings.kinds if kind != "none"
    }
    means = search.kinds(coarse, statistics)
    combinations = COMBINATIONS if all(part.readout.average is not None for part in held_out) else COMBINATIONS[:1]
    keys = [(kind, combination) for combination in combinations for kind in means]

    def components(own: Mapping[str, MovementStatistics], weights: np.ndarray) -> list[MovementComponent]:
        """Return all components with the statistics of a fold for each kind."""
        return [
            means[kind].component(kind, combination, own.get(kind), float(weight))
            for (kind, combination), weight in zip(keys, weights, strict=True)
        ]

    folds = [{kind: parts[number] for kind, parts in statistics.items()} for number in range(len(held_out))]
    products = search.products(coarse, [components(fold, np.ones(len(keys))) for fold in folds])
    weights = stacking_weights(products)
    used = [part for part in components({kind: parts[0] for kind, parts in candidates.items()}, weights) if part.weight]
    alone = {kind: products[:, number, number] for number, kind in enumerate(means)}
    return MovementChoice(MovementMixture(tuple(used)), weights @ products @ weights, alone)


@dataclass(frozen=True)
class _Candidate:
    """Settings of a movement prior and of familiarity; without a movement prior only the latter matters."""

    width_factor: float
    power: float
    jump: float
    familiarity_power: float
    usual_distance: float

    @property
    def familiarity(self) -> Familiarity:
        return Familiarity(self.usual_distance, self.familiarity_power)

    def movement(self, statistics: MovementStatistics) -> Movement:
        return Movement(statistics, self.width_factor, self.power, self.jump)

    def component(
        self, kind: str, combination: str, statistics: MovementStatistics | None, weight: float
    ) -> MovementComponent:
        """Return a component of a mixture; the kind "none" has no statistics."""
        movement = None if statistics is None else self.movement(statistics)
        return MovementComponent(kind, combination, weight, movement, self.familiarity)

    @classmethod
    def mean(cls, candidates: Sequence[_Candidate], weights: np.ndarray) -> _Candidate:
        """Return the weighted mean; that of the logarithm for all but the power of familiarity, which can be zero."""

        def mean_of(name: str) -> float:
            values = np.array([getattr(candidate, name) for candidate in candidates])[weights > 0]
            if np.ptp(values) == 0:
                return float(values[0])
            share = weights[weights > 0]
            return float(share @ values if name == "familiarity_power" else np.exp(share @ np.log(values)))

        names = ("width_factor", "power", "jump", "familiarity_power")
        return replace(candidates[0], **{name: mean_of(name) for name in names})


@dataclass(frozen=True)
class _Found:
    """What a search has found: where it ended, and the mean of all settings that were tried.

    The settings of the mean are weighted by the probability that they are the best.
    """

    best: _Candidate
    mean: _Candidate


@dataclass(frozen=True)
class _MovementOfRatios:
    """A movement prior that takes the logarithms of ratios that are known, instead of the readout's distributions."""

    movement: Movement

    def transition(self) -> Transition:
        return self.movement.transition()

    def likelihood(self, log_ratio: np.ndarray) -> np.ndarray:
        return self.movement.likelihood_of_ratio(log_ratio)


@dataclass
class _Search:
    """Search for the best settings of one kind of movement prior on a coarse grid."""

    held_out: list[HeldOutMass]
    smooth: bool
    settings: MovementSettings
    familiarity: Familiarity

    def __post_init__(self) -> None:
        self._tempered: tuple[float, list[HeldOutMass]] | None = None  # of the last power
        self._ratios: tuple[float, Any, list[ReadoutMass]] | None = None  # of the last power and kind

    def kinds(self, grid: Grid, statistics: Mapping[str, list[MovementStatistics]]) -> dict[str, _Candidate]:
        """Return the mean of the settings of each kind; `statistics` has those of each fold for all but "none"."""
        means: dict[str, _Candidate] = {}
        begin: _Candidate | None = None
        for kind in self.settings.kinds:
            if kind == "none":
                means[kind] = self.without_movement(grid).mean
            else:
                found = self.with_movement(grid, statistics[kind], begin)
                means[kind], begin = found.mean, found.best
        return means

    def without_movement(self, grid: Grid) -> _Found:
        """Choose the power of familiarity alone."""
        begin = self._typical(_TYPICAL_FAMILIARITY_POWER["without movement"])
        return self._vary(begin, {}, grid, [None] * len(self.held_out), 1)

    def with_movement(self, grid: Grid, statistics: Sequence[MovementStatistics], begin: _Candidate | None) -> _Found:
        """Vary one setting at a time, from `begin` in one round, or from typical settings in several."""
        s = self.settings
        names = {"power": s.powers, "width_factor": s.width_factors, "jump": s.jumps}
        n_rounds = s.n_rounds if begin is None else 1
        begin = begin or self._typical(_TYPICAL_FAMILIARITY_POWER["with movement"])
        return self._vary(begin, names, grid, statistics, n_rounds)

    def products(self, grid: Grid, components: Sequence[Sequence[MovementComponent]]) -> np.ndarray:
        """Return what each block of time contributes to `crps_products` of components, (blocks, n, n).

        `components` are the same in all folds, with the statistics of each.
        """
        found = [
            crps_products([one.marginals(part.readout, self.smooth, part.scored) for one in own], grid, part)
            for part, own in zip(self.held_out, components, strict=True)
        ]
        return mean_by_block(found, self.held_out)

    def _typical(self, familiarity_power: float) -> _Candidate:
        s, typical = self.settings, _TYPICAL[self.smooth]
        return _Candidate(
            closest(s.width_factors, typical["width_factor"]),
            closest(s.powers, typical["power"]),
            closest(s.jumps, typical["jump"]),
            min(s.familiarity_powers, key=lambda power: abs(power - familiarity_power)),
            self.familiarity.usual,
        )

    def _vary(
        self,
        best: _Candidate,
        names: dict[str, tuple[float, ...]],
        grid: Grid,
        statistics: Sequence[MovementStatistics | None],
        n_rounds: int,
    ) -> _Found:
        def score(candidate: _Candidate) -> np.ndarray:
            """Return what each block of time contributes to the mean CRPS, (blocks,)."""
            values = []
            for part, own, ratio in zip(
                self.held_out, statistics, self._log_ratios(candidate, statistics), strict=True
            ):
                prior = None if own is None else _MovementOfRatios(candidate.movement(own))
                marginals = posterior_marginals(prior, ratio, self.smooth, part.scored)
                values.append(mean_crps(marginals, grid, part))
            return mean_by_block(values, self.held_out)

        if all(part.readout.distance is not None for part in self.held_out):
            names = {"familiarity_power": self.settings.familiarity_powers, **names}
        found = vary_one_at_a_time(best, names, score, n_rounds, self.settings.min_standard_errors)
        return _Found(found.best, _Candidate.mean(found.tried, probability_of_lowest(np.stack(found.scores))))

    def _temper(self, candidate: _Candidate) -> list[HeldOutMass]:
        """Return the held-out distributions, tempered by familiarity; those of one power are kept at a time."""
        if self._tempered is None or self._tempered[0] != candidate.familiarity_power:
            parts = [part.temper(candidate.familiarity) for part in self.held_out]
            self._tempered = candidate.familiarity_power, parts
        return self._tempered[1]

    def _log_ratios(self, candidate: _Candidate, statistics: Sequence[MovementStatistics | None]) -> list[ReadoutMass]:
        """Return the tempered distributions, their `MovementStatistics.log_ratio` in place of the mass if these exist.

        Those of one power and kind of movement prior are kept at a time.
        """
        known = self._ratios
        if known is None or known[0] != candidate.familiarity_power or known[1] is not statistics:
            parts = [
                part.readout if own is None else replace(part.readout, mass=own.log_ratio(part.readout.mass))
                for part, own in zip(self._temper(candidate), statistics, strict=True)
            ]
            self._ratios = known = candidate.familiarity_power, statistics, parts
        return known[2]
