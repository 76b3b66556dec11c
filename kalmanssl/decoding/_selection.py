"""Choice of the movement prior on held-out bins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from kalmanssl.decoding._grid import Axis, Grid
from kalmanssl.decoding._movement import Movement, MovementStatistics, coarsen_grid, coarsen_mass
from kalmanssl.decoding._paired_comparison import is_lower
from kalmanssl.decoding._state_space import Transition, backward, forward
from kalmanssl.utils.validation import check_condition, check_integer

__all__ = [
    "HeldOutMass",
    "MovementSettings",
    "choose_movement",
    "filtered_mass",
    "grid_crps",
    "lowest_kind",
    "mean_by_block",
    "posterior_mass",
    "vary_one_at_a_time",
]

_ROWS = 20_000  # bins that are handled at a time, so that memory does not grow with the recording
_CONTINUOUS = ("none", "walk", "states")
# Settings that are good for most recordings, by whether latents are smoothed: the search begins there.
_TYPICAL = {
    False: {"width_factor": 8.0, "power": 0.4, "jump": 1e-4},
    True: {"width_factor": 4.0, "power": 0.2, "jump": 1e-4},
}
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
    min_standard_errors : float
        Improvement of the CRPS, or of the Brier score for labels, that a candidate must bring, in standard errors of
        the difference over blocks of time. Held-out time is short, and without it single events decide.
    """

    kinds: tuple[str, ...] = ("none", "walk", "states", "chain")
    width_factors: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    powers: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8)
    jumps: tuple[float, ...] = (1e-4, 1e-2, 0.1)
    max_cells: int = 48
    max_cells_joint: int = 20
    n_rounds: int = 2
    min_standard_errors: float = 0.5

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
        fine = 0 <= self.min_standard_errors < math.inf
        check_condition("min_standard_errors", self.min_standard_errors, fine, "at least 0 and finite")

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
    block : (scored bins,) int
        Block of time of each bin; one that several folds score has the same number.
    """

    mass: np.ndarray
    start: np.ndarray
    missing: np.ndarray
    scored: np.ndarray
    truth: np.ndarray
    weight: np.ndarray
    block: np.ndarray


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
    if movement is None or not smooth:
        return filtered_mass(movement, mass, start, missing, None)[0]
    likelihood = movement.likelihood(mass)
    likelihood[missing] = 1.0
    transition = movement.transition()
    result = np.empty(mass.shape, dtype=np.float32)
    borders = [*np.flatnonzero(start).tolist(), len(mass)]
    first = 0
    for stop in borders[1:]:
        if stop - first < _ROWS and stop != len(mass):
            continue  # several short segments at a time
        rows = slice(first, stop)
        filtered = forward(likelihood[rows], start[rows], transition)
        smoothed = backward(filtered, likelihood[rows], start[rows], transition)
        result[rows] = smoothed.sum(axis=1).reshape(result[rows].shape)
        first = stop
    return result


def filtered_mass(
    movement: MovementPrior | None,
    mass: np.ndarray,
    start: np.ndarray,
    missing: np.ndarray,
    belief: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the filtered posterior over the grid (time, *shape), and the belief of the last bin.

    Parameters
    ----------
    movement, mass, start, missing
        As for `posterior_mass`.
    belief : (states, rows, columns) or None
        Filtered distribution of the bin before the first one, which then continues its segment.
    """
    if movement is None:
        return mass, None
    start = start.copy()
    start[:1] = belief is None
    transition = movement.transition()
    result = np.empty(mass.shape, dtype=np.float32)
    for first in range(0, len(mass), _ROWS):
        rows = slice(first, first + _ROWS)
        likelihood = movement.likelihood(mass[rows])
        likelihood[missing[rows]] = 1.0
        filtered = forward(likelihood, start[rows], transition, belief)
        belief = filtered[-1].astype(float)
        result[rows] = filtered.sum(axis=1).reshape(result[rows].shape)
    return result, belief


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


def mean_crps(posterior: np.ndarray, grid: Grid, held_out: HeldOutMass) -> np.ndarray:
    """Return the CRPS of each scored bin, the mean over dimensions, in fractions of the length of an axis."""
    scored = posterior[held_out.scored]
    scores = [
        grid_crps(grid.marginal(scored, number), axis, held_out.truth[:, number]) / axis.n_cells
        for number, axis in enumerate(grid.axes)
    ]
    return np.asarray(np.mean(scores, axis=0))


def mean_by_block(values: Sequence[np.ndarray], held_out: Sequence[HeldOutMass]) -> np.ndarray:
    """Return what each block of time contributes to the weighted mean of values (scored bins,), one for each fold."""
    block, weight = (np.concatenate([getattr(part, name) for part in held_out]) for name in ("block", "weight"))
    return np.bincount(block, weight * np.concatenate(values)) / weight.sum()


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
    scores: dict[str, np.ndarray] = {}
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
    best = lowest_kind(scores, settings)
    return best, found[best], {kind: float(score.sum()) for kind, score in scores.items()}


def lowest_kind(scores: Mapping[str, np.ndarray], settings: MovementSettings) -> str:
    """Return the kind with the lowest score; a later one must be better than the best before it."""
    best = next(iter(scores))
    for kind, score in scores.items():
        if is_lower(score, scores[best], settings.min_standard_errors):
            best = kind
    return best


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
) -> np.ndarray:
    """Return what each block of time contributes to the mean CRPS, (blocks,)."""
    values = []
    for part, own in zip(held_out, statistics, strict=True):
        prior = None if movement is None or own is None else replace(movement, statistics=own)
        values.append(mean_crps(posterior_mass(prior, part.mass, part.start, part.missing, smooth), grid, part))
    return mean_by_block(values, held_out)


def _search(
    statistics: list[MovementStatistics],
    held_out: Sequence[HeldOutMass],
    smooth: bool,
    settings: MovementSettings,
    begin: Movement | None,
) -> tuple[Movement, np.ndarray]:
    """Vary one setting at a time, from those of `begin` in one round, or from typical ones in several."""
    names = {"power": settings.powers, "width_factor": settings.width_factors, "jump": settings.jumps}
    typical = {name: closest(values, _TYPICAL[smooth][name]) for name, values in names.items()}
    best = Movement(statistics[0], **typical)
    if begin is not None:
        best = replace(begin, statistics=statistics[0])

    def score(movement: Movement) -> np.ndarray:
        return _score(movement, statistics[0].grid, statistics, held_out, smooth)

    n_rounds = settings.n_rounds if begin is None else 1
    return vary_one_at_a_time(best, names, score, n_rounds, settings.min_standard_errors)


def closest(candidates: Sequence[float], value: float) -> float:
    """Return the candidate with the smallest ratio to a value."""
    return min(candidates, key=lambda candidate: abs(math.log(candidate / value)))


def vary_one_at_a_time(
    best: _Settings,
    candidates: Mapping[str, Sequence[float]],
    score: Callable[[_Settings], np.ndarray],
    n_rounds: int,
    min_standard_errors: float,
) -> tuple[_Settings, np.ndarray]:
    """Search for the settings with the lowest total score, varying one at a time.

    Parameters
    ----------
    best : dataclass
        Where the search begins.
    candidates : dict of sequence of float
        Candidates for each setting, by the name of the field.
    score : callable
        Returns what each block of time contributes to the score, (blocks,).
    n_rounds : int
        Largest number of rounds over all settings.
    min_standard_errors : float
        Improvement that a change of a setting must bring, as for `is_lower`.

    Returns
    -------
    best : dataclass
    lowest : (blocks,)
        Its score.
    """
    tried: dict[tuple[float, ...], np.ndarray] = {}

    def known_score(settings: _Settings) -> np.ndarray:
        key = tuple(getattr(settings, name) for name in candidates)
        if key not in tried:
            tried[key] = score(settings)
        return tried[key]

    lowest = known_score(best)
    for _ in range(n_rounds):
        before = best
        for name, values in candidates.items():
            varied = [replace(best, **{name: value}) for value in values]
            candidate = min(varied, key=lambda settings: float(known_score(settings).sum()))
            if is_lower(known_score(candidate), lowest, min_standard_errors):
                best, lowest = candidate, known_score(candidate)
        if best is before:
            break
    return best, lowest
