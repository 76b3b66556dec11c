"""Choice of the movement prior on held-out bins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from kalmanssl.decoding._grid import Axis, Grid
from kalmanssl.decoding._movement import Movement, MovementStatistics, coarsen_grid, coarsen_mass
from kalmanssl.decoding._state_space import Transition, backward, forward
from kalmanssl.utils.validation import check_condition, check_integer

__all__ = [
    "HeldOutMass",
    "MovementSettings",
    "choose_movement",
    "grid_crps",
    "posterior_mass",
    "vary_one_at_a_time",
]

_CONTINUOUS = ("none", "walk", "states")
_Settings = TypeVar("_Settings", bound=Any)  # a frozen dataclass


class MovementPrior(Protocol):
    """What `posterior_mass` requires of a movement prior."""

    def transition(self) -> Transition:
        """Return one step of the prior."""
        ...

    def likelihood(self, mass: np.ndarray) -> np.ndarray:
        """Return the likelihood of each cell (time, rows, columns) from the readout's distribution."""
        ...


@dataclass(frozen=True)
class MovementSettings:
    """Settings of the choice of a movement prior. All choices are made on held-out bins.

    Attributes
    ----------
    kinds : tuple of str
        Candidates. "none": every bin is decoded by itself. "walk": a random walk in one motion state. "states": random
        walks in two motion states, at rest and in movement; with one dimension, movement has two states, one for each
        direction. "chain": a Markov chain that keeps its label. Labels use "none" and "chain", other behavior all but
        "chain".
    width_factors, powers, jumps : tuple of float
        Candidates for the settings of `Movement`.
    max_cells : int
        The choice is made on a grid of at most this many cells along an axis, or the square root of `max_cells_joint`
        in two dimensions.
    n_rounds : int
        Rounds of the search, which varies one setting at a time.
    min_improvement : float
        Relative improvement of the CRPS, or of the Brier score for labels, that a candidate must bring.
    """

    kinds: tuple[str, ...] = ("none", "walk", "states", "chain")
    width_factors: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    powers: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8)
    jumps: tuple[float, ...] = (1e-4, 1e-2, 0.1)
    max_cells: int = 48
    max_cells_joint: int = 20
    n_rounds: int = 2
    min_improvement: float = 2e-3

    def __post_init__(self) -> None:
        for name in ("kinds", "width_factors", "powers", "jumps"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a saved state has a list
            check_condition(name, getattr(self, name), len(getattr(self, name)) > 0, "at least one candidate")
        known = {"none", "walk", "states", "chain"}
        check_condition("kinds", self.kinds, set(self.kinds) <= known, 'among "none", "walk", "states" and "chain"')
        for name in ("width_factors", "powers"):
            check_condition(name, getattr(self, name), min(getattr(self, name)) > 0, "positive")
        check_condition("jumps", self.jumps, 0 < min(self.jumps) <= max(self.jumps) < 1, "inside (0, 1)")
        for name in ("max_cells", "max_cells_joint", "n_rounds"):
            check_integer(name, getattr(self, name), 1)
        fine = 0 <= self.min_improvement < 1
        check_condition("min_improvement", self.min_improvement, fine, "at least 0 and below 1")

    def of_behavior(self, discrete: bool) -> MovementSettings:
        """Return the settings with the kinds that apply to labels, or to other behavior."""
        kinds = tuple(kind for kind in self.kinds if kind in (("none", "chain") if discrete else _CONTINUOUS))
        requirement = f"at least one of {', '.join(('none', 'chain') if discrete else _CONTINUOUS)} for this behavior"
        check_condition("movement_settings", self.kinds, len(kinds) > 0, requirement)
        return replace(self, kinds=kinds)


@dataclass(frozen=True)
class HeldOutMass:
    """Distributions of a readout on held-out bins, with the truth.

    Attributes
    ----------
    mass : (time, *shape)
    start : (time,) bool
        True at the first bin of each segment.
    missing : (time,) bool
        Bins without latents.
    scored : (time,) bool
    truth : (scored bins, dims)
    weight : (scored bins,)
    """

    mass: np.ndarray
    start: np.ndarray
    missing: np.ndarray
    scored: np.ndarray
    truth: np.ndarray
    weight: np.ndarray


def posterior_mass(
    movement: MovementPrior | None, mass: np.ndarray, start: np.ndarray, missing: np.ndarray, smooth: bool
) -> np.ndarray:
    """Return the posterior over the grid (time, *shape) from the distributions of a readout.

    Parameters
    ----------
    movement : MovementPrior or None
        Without a movement prior every bin is decoded by itself.
    mass : (time, *shape)
    start, missing : (time,) bool
        First bins of segments, and bins without latents.
    smooth : bool
        Whether to use later bins, too.
    """
    if movement is None:
        return mass
    likelihood = movement.likelihood(mass)
    likelihood[missing] = 1.0
    transition = movement.transition()
    result = np.empty(mass.shape, dtype=np.float32)
    borders = [*np.flatnonzero(start).tolist(), len(mass)]
    first = 0
    for stop in borders[1:]:
        if stop - first < 20_000 and stop != len(mass):
            continue  # several short segments at a time
        rows = slice(first, stop)
        filtered = forward(likelihood[rows], start[rows], transition)
        if smooth:
            filtered = backward(filtered, likelihood[rows], start[rows], transition)
        result[rows] = filtered.sum(axis=1).reshape(result[rows].shape)
        first = stop
    return result


def grid_crps(mass: np.ndarray, axis: Axis, truth: np.ndarray) -> np.ndarray:
    """Return the CRPS of histograms (time, cells) at `truth` (time,), in cells."""
    at = axis.place(truth)
    cells = np.arange(axis.n_cells)
    if axis.period is not None:  # start opposite the truth
        cut = at.astype(int) - axis.n_cells // 2
        mass = np.take_along_axis(mass, (cells + cut[:, None]) % axis.n_cells, axis=1)
        at = at - cut
    below = np.cumsum(mass, axis=1) - mass / 2
    return ((below - np.clip(cells + 1 - at[:, None], 0, 1)) ** 2).sum(axis=1)


def weighted_crps(posterior: np.ndarray, grid: Grid, held_out: HeldOutMass) -> float:
    """Return the weighted mean CRPS over scored bins and dimensions, in fractions of the length of an axis."""
    scored = posterior[held_out.scored]
    scores = [
        grid_crps(grid.marginal(scored, number), axis, held_out.truth[:, number]) / axis.n_cells
        for number, axis in enumerate(grid.axes)
    ]
    return float(np.average(np.mean(scores, axis=0), weights=held_out.weight))


def choose_movement(
    candidates: dict[str, list[MovementStatistics]],
    held_out: Sequence[HeldOutMass],
    smooth: bool,
    settings: MovementSettings,
) -> tuple[str, Movement | None, dict[str, float]]:
    """Choose the kind of movement prior and its settings by the CRPS on held-out bins.

    Parameters
    ----------
    candidates : dict of list of MovementStatistics
        Statistics of each kind, one for each fold.
    held_out : sequence of HeldOutMass
        One for each fold.
    smooth : bool
        Whether smoothed posteriors are scored.
    settings : MovementSettings

    Returns
    -------
    kind : str
    movement : Movement or None
        With the statistics of the first fold; None for "none".
    scores : dict of float
        CRPS of the best settings of each kind, in fractions of the range of the grid.
    """
    grid = next(iter(candidates.values()))[0].grid
    factor = _coarsening(grid, settings)
    coarse = [replace(part, mass=coarsen_mass(part.mass, grid, factor)) for part in held_out]
    scores: dict[str, float] = {}
    found: dict[str, Movement | None] = {}
    if "none" in settings.kinds:
        scores["none"] = _score(None, coarsen_grid(grid, factor), [None] * len(coarse), coarse, smooth)
        found["none"] = None
    movement: Movement | None = None
    for kind in settings.kinds:
        if kind != "none":
            statistics = [part.coarsen(factor) for part in candidates[kind]]
            movement, scores[kind] = _search(statistics, coarse, smooth, settings, movement)
            found[kind] = replace(movement, statistics=candidates[kind][0])
    best = next(iter(scores))
    for kind, score in scores.items():
        if score < scores[best] * (1 - settings.min_improvement):
            best = kind
    return best, found[best], scores


def _coarsening(grid: Grid, settings: MovementSettings) -> int:
    """Return the smallest factor that divides all axes and leaves few enough cells."""
    limit = settings.max_cells if len(grid.axes) == 1 else settings.max_cells_joint
    for factor in range(1, max(grid.shape) + 1):
        if all(n % factor == 0 and n // factor <= limit for n in grid.shape):
            return factor
    return 1


def _score(
    movement: Movement | None,
    grid: Grid,
    statistics: Sequence[MovementStatistics | None],
    held_out: Sequence[HeldOutMass],
    smooth: bool,
) -> float:
    total, weight = 0.0, 0.0
    for part, own in zip(held_out, statistics, strict=True):
        prior = None if movement is None or own is None else replace(movement, statistics=own)
        posterior = posterior_mass(prior, part.mass, part.start, part.missing, smooth)
        share = float(part.weight.sum())
        total += share * weighted_crps(posterior, grid, part)
        weight += share
    return total / weight


def _search(
    statistics: list[MovementStatistics],
    held_out: Sequence[HeldOutMass],
    smooth: bool,
    settings: MovementSettings,
    begin: Movement | None,
) -> tuple[Movement, float]:
    """Vary one setting at a time, from those of `begin` in one round, or from the middle candidates in several."""
    names = {"power": settings.powers, "width_factor": settings.width_factors, "jump": settings.jumps}
    middle = {name: values[len(values) // 2] for name, values in names.items()}
    best = Movement(statistics[0], middle["width_factor"], middle["power"], middle["jump"])
    if begin is not None:
        best = replace(begin, statistics=statistics[0])

    def score(movement: Movement) -> float:
        return _score(movement, statistics[0].grid, statistics, held_out, smooth)

    return vary_one_at_a_time(best, names, score, settings.n_rounds if begin is None else 1)


def vary_one_at_a_time(
    best: _Settings,
    candidates: Mapping[str, Sequence[float]],
    score: Callable[[_Settings], float],
    n_rounds: int,
) -> tuple[_Settings, float]:
    """Search for the settings with the lowest score, varying one at a time.

    Parameters
    ----------
    best : dataclass
        Where the search begins.
    candidates : dict of sequence of float
        Candidates for each setting, by the name of the field.
    score : callable
    n_rounds : int
        Largest number of rounds over all settings.

    Returns
    -------
    best : dataclass
    lowest : float
        Its score.
    """
    tried: dict[tuple[float, ...], float] = {}

    def known_score(settings: _Settings) -> float:
        key = tuple(getattr(settings, name) for name in candidates)
        if key not in tried:
            tried[key] = score(settings)
        return tried[key]

    lowest = known_score(best)
    for _ in range(n_rounds):
        before = best
        for name, values in candidates.items():
            for value in values:
                candidate = replace(best, **{name: value})
                found = known_score(candidate)
                if found < lowest * (1 - 1e-6):
                    best, lowest = candidate, found
        if best is before:
            break
    return best, lowest
