"""Movement priors: how behavior moves from bin to bin, learned from the tracked behavior of the training part.

The prior of every motion state is a random walk whose stationary distribution is the occupancy of the behavior in that
state. With a Gaussian kernel K and the occupancy o it has the transition probabilities ``u(x) K(x, x') v(x')``, where u
and v are found by scaling so that all transitions from a cell sum to one and o is stationary (Sinkhorn 1967, Am. Math.
Monthly 74:402). A walk that ignored the occupancy would spread probability to places where the animal seldom is, and
would not describe velocities, which return to zero.

In a motion state with a mean displacement (`MovementStatistics.drift`), v is that of the walk without it, and o is only
approximately stationary: between the ends of a line no such walk has a stationary distribution. Probability that
reaches an end stays there until the motion state changes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy.special import ndtr

from kalmanssl.decoding.grids import Axis, Grid
from kalmanssl.decoding.movement._state_space import Transition

__all__ = ["Movement", "MovementStatistics"]

_OCCUPANCY_SMOOTHING = 1.5  # cells
_UNVISITED = 0.05  # fraction of the occupancy that is distributed over all cells
_ROWS = 64  # bins that are handled at a time, so that they stay in the cache of the processor
_ITERATIONS = 50  # of the scaling, enough to converge


@dataclass(frozen=True)
class MovementStatistics:
    """What a movement prior is made from: statistics of the tracked behavior, by motion state.

    Attributes
    ----------
    grid : Grid
    occupancy : (states, *shape)
        Probability of each motion state and cell.
    drift, sd : (states, dims)
        Mean and standard deviation of the displacement from bin to bin, in cells.
    switching : (states, states)
        Probability of each motion state given the one before.
    """

    grid: Grid
    occupancy: np.ndarray
    drift: np.ndarray
    sd: np.ndarray
    switching: np.ndarray

    @classmethod
    def from_behavior(
        cls,
        grid: Grid,
        behavior: np.ndarray,
        displacement: np.ndarray,
        state: np.ndarray,
        follows: np.ndarray,
        weight: np.ndarray,
    ) -> Self:
        """Compute the statistics of a behavior.

        Parameters
        ----------
        grid : Grid
        behavior, displacement : (time, dims)
            Tracked behavior, and how much it moves from bin to bin, in its own unit.
        state : (time,) int
            Motion state of each bin, from 0. States without bins are left out.
        follows : (time,) bool
            Whether the bin follows the one before it without a gap.
        weight : (time,)
            Weight of each bin in the occupancy.
        """
        directional = state.max() > 1  # with fewer states, a state contains both directions, and its mean step is zero
        numbers, state = np.unique(state, return_inverse=True)
        n_states = len(numbers)
        width = np.array([axis.width for axis in grid.axes])
        occupancy = np.zeros((n_states, *grid.shape))
        drift, sd = np.zeros((2, n_states, len(width)))
        for number in range(n_states):
            chosen = state == number
            smoothed = grid.histogram(behavior[chosen], weight[chosen], _OCCUPANCY_SMOOTHING)
            share = weight[chosen].sum() / weight.sum()
            occupancy[number] = share * ((1 - _UNVISITED) * smoothed + _UNVISITED / grid.size)
            moved = displacement[chosen & follows] / width
            if len(moved) == 0:
                continue
            if directional:
                drift[number] = moved.mean(axis=0)
            sd[number] = np.sqrt(((moved - drift[number]) ** 2).mean(axis=0))
        switching = np.full((n_states, n_states), 0.5)  # half a count for each switch
        np.add.at(switching, (state[:-1][follows[1:]], state[1:][follows[1:]]), 1.0)
        return cls(grid, occupancy, drift, sd, switching / switching.sum(axis=1, keepdims=True))

    def coarsen(self, factor: int) -> MovementStatistics:
        """Return the statistics on a grid whose cells are `factor` times as wide along each axis; they are kept."""
        if factor not in self._coarse:
            occupancy = np.stack([coarsen_mass(state[None], self.grid, factor)[0] for state in self.occupancy])
            self._coarse[factor] = MovementStatistics(
                self.grid.coarsen(factor), occupancy, self.drift / factor, self.sd / factor, self.switching
            )
        return self._coarse[factor]

    def transition(self, width_factor: float) -> Transition:
        """Return one step of the prior without jumps, which is kept; the factor is as in `Movement`."""
        if width_factor not in self._transitions:
            self._transitions[width_factor] = self._make_transition(width_factor)
        return self._transitions[width_factor]

    @cached_property
    def _coarse(self) -> dict[int, MovementStatistics]:
        return {}

    @cached_property
    def _transitions(self) -> dict[float, Transition]:
        return {}

    def _make_transition(self, width_factor: float) -> Transition:
        kernels: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])  # along rows, along columns
        before, after = np.empty((2, *_two_dimensional(self.occupancy).shape))
        for state, own in enumerate(self.occupancy):
            occupancy = _two_dimensional(own[None] / max(own.sum(), 1e-300))[0]
            sd = width_factor * self.sd[state]
            after[state] = _scaling(*_kernels(self.grid, np.zeros_like(sd), sd), occupancy)
            rows, columns = _kernels(self.grid, self.drift[state], sd)
            before[state] = 1 / (rows @ after[state] @ columns.T)
            for part, kernel in zip(kernels, (rows, columns), strict=True):
                part.append(kernel)
        prior = _two_dimensional(self.occupancy / self.occupancy.sum())
        return Transition(prior, np.stack(kernels[0]), np.stack(kernels[1]), before, after, self.switching, 0.0)

    def log_ratio(self, mass: np.ndarray) -> np.ndarray:
        """Return the logarithm of the ratio of a distribution (time, *shape) to the occupancy, of the same shape."""
        occupancy = self.occupancy.sum(axis=0)
        log_occupancy = np.log(occupancy / occupancy.sum()).astype(mass.dtype).ravel()
        flat = mass.reshape(len(mass), occupancy.size)
        result = np.empty_like(flat)
        for first in range(0, len(flat), _ROWS):
            part = result[first : first + _ROWS]
            np.log(np.maximum(flat[first : first + _ROWS], 1e-12), out=part)
            part -= log_occupancy
        return result.reshape(mass.shape)


def coarsen_mass(mass: np.ndarray, grid: Grid, factor: int) -> np.ndarray:
    """Sum mass (time, *shape) over the cells of the coarser grid."""
    for number, axis in reversed(list(enumerate(grid.axes, start=1))):
        # Sums of slices take less time than sums over short axes.
        cells = mass.reshape(*mass.shape[:number], axis.n_cells // factor, factor, *mass.shape[number + 1 :])
        parts = np.moveaxis(cells, number + 1, 0)
        mass = parts[0].copy()
        for part in parts[1:]:
            mass += part
    return mass


@dataclass(frozen=True)
class Movement:
    """A movement prior with its settings.

    Attributes
    ----------
    statistics : MovementStatistics
    width_factor : float
        Factor by which the walk is wider than the tracked displacements. The likelihoods of neighboring bins share
        their errors, so the best walk is wider.
    power : float
        Power of the likelihood, which accounts for the same dependence ("generalized posterior", Bissiri, Holmes &
        Walker 2016, JRSS-B 78:1103).
    jump : float
        Probability of a jump to the occupancy in each bin. Without jumps a wrong posterior would persist.
    """

    statistics: MovementStatistics
    width_factor: float
    power: float
    jump: float

    def transition(self) -> Transition:
        """Return one step of the prior."""
        return replace(self.statistics.transition(self.width_factor), jump=self.jump)

    def likelihood(self, mass: np.ndarray) -> np.ndarray:
        """Return the likelihood of each cell (time, rows, columns) from the readout's distribution (time, *shape).

        By Bayes' rule it is the ratio of the distribution to the occupancy; its maximum is one in every bin.
        """
        return self.likelihood_of_ratio(self.statistics.log_ratio(mass), overwrite=True)

    def likelihood_of_ratio(self, log_ratio: np.ndarray, overwrite: bool = False) -> np.ndarray:
        """Return the same from the logarithm of the ratio (time, *shape), which is replaced if `overwrite` is true."""
        flat = log_ratio.reshape(len(log_ratio), -1)
        result = flat if overwrite else np.empty_like(flat)
        for first in range(0, len(flat), _ROWS):
            part = result[first : first + _ROWS]
            np.multiply(flat[first : first + _ROWS], self.power, out=part)
            part -= part.max(axis=1, keepdims=True)
            np.exp(part, out=part)
        return _two_dimensional(result.reshape(log_ratio.shape))

    def to_state(self) -> dict[str, Any]:
        """Return arrays and plain values from which `from_state` makes the prior again."""
        state = asdict(self)
        state["statistics"]["grid"] = self.statistics.grid.to_state()
        return state

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a prior from what `to_state` returned."""
        statistics = dict(state["statistics"])
        grid = Grid.from_state(statistics.pop("grid"))
        return cls(
            MovementStatistics(grid, **{name: np.asarray(value) for name, value in statistics.items()}),
            state["width_factor"],
            state["power"],
            state["jump"],
        )


def _two_dimensional(values: np.ndarray) -> np.ndarray:
    """Return values (n, cells) as (n, cells, 1), and values (n, rows, columns) unchanged."""
    return values if values.ndim == 3 else values[..., None]


def _kernels(grid: Grid, drift: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernels of Gaussian steps along rows and columns, with a drift and an sd (dims,) in cells."""
    pair = [_kernel(axis, drift[number], sd[number]) for number, axis in enumerate(grid.axes)]
    return pair[0], pair[1] if len(pair) > 1 else np.ones((1, 1))


def _kernel(axis: Axis, drift: float, sd: float) -> np.ndarray:
    """Return the (cells, cells) kernel of a Gaussian step, in cells; it wraps on circles and ends are reflecting."""
    n_cells = axis.n_cells
    sd = float(np.clip(sd, 0.3, 2 * n_cells))  # a narrower step would never leave a cell
    cell = np.arange(n_cells)
    # The entries depend on the difference of two cells, or on their sum after a reflection: one is computed for each.
    difference, total = cell - cell[:, None] + n_cells - 1, cell + cell[:, None]

    def step(distance: np.ndarray) -> np.ndarray:
        offset = distance - drift
        return ndtr((offset + 0.5) / sd) - ndtr((offset - 0.5) / sd)

    differences, totals = np.arange(1 - n_cells, n_cells), np.arange(2 * n_cells - 1)
    if axis.period is not None:
        kernel = np.asarray(sum(step(differences + turn * n_cells) for turn in range(-8, 9)))[difference]
    else:
        kernel = step(differences)[difference] + step(-1 - totals)[total] + step(2 * n_cells - 1 - totals)[total]
    kernel = kernel + 1e-12  # so that every cell is reached, which the scaling needs
    return kernel / kernel.sum(axis=1, keepdims=True)


def _scaling(rows: np.ndarray, columns: np.ndarray, occupancy: np.ndarray) -> np.ndarray:
    """Return v such that transitions ``u K v`` of a symmetric K can sum to one and leave `occupancy` unchanged."""
    # Then u is v over the occupancy. Geometric means of old and new values converge fast also if K is narrow.
    after = np.sqrt(occupancy)
    for _ in range(_ITERATIONS):
        after = np.sqrt(after * occupancy / (rows @ after @ columns.T))
    return after
