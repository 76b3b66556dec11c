"""Recursions of the online decoder: temporal context and movement prior, one bin after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.decoding.movement import ForwardStep, Movement, MovementMixture, select_combination, temper
from kalmanssl.decoding.readouts import TemporalContext
from kalmanssl.kalman.kernels import has_compiler

if TYPE_CHECKING:
    from kalmanssl.decoding.labels import LabelChain

__all__ = ["OnlineBelief", "OnlineContext", "OnlineMixture"]


class OnlineContext:
    """Append averages of the latents over the past, as `TemporalContext.append`, one bin after another.

    Parameters
    ----------
    context : TemporalContext
        Causal.
    n_features : int

    Attributes
    ----------
    sums : (time scales, features)
        Decayed sums of the latents of the segment before the next bin.
    weights : (time scales,)
        The same sums of ones for bins with latents.
    has_missing : () bool
        Whether a bin of the segment had no latents.
    """

    def __init__(self, context: TemporalContext, n_features: int) -> None:
        time_scales = np.array(context.time_scales)
        self._decay = np.exp(-1 / (time_scales / context.bin_size)) if context.is_used else np.zeros(0)
        self._column, self._share = self._decay[:, None], 1 - self._decay[:, None]
        self._n_features = n_features
        self.sums, self.weights = np.zeros((len(time_scales), n_features)), np.zeros(len(time_scales))
        self.has_missing = np.array(False)
        self._kernel: Any = None
        if len(time_scales) and has_compiler():
            from kalmanssl.decoding.online._kernels import context_kernel

            self._kernel = context_kernel
            self.step(np.zeros(n_features), True)  # compiles now

    def step(self, mean: np.ndarray | None, is_start: bool) -> np.ndarray:
        """Return the latents of a bin with their averages, (features * (1 + time scales),).

        Parameters
        ----------
        mean : (features,) or None
            None if the bin is missing.
        is_start : bool
            Whether the bin is the first one of a segment.
        """
        features = np.empty((1 + len(self._decay), self._n_features))
        features[0] = 0.0 if mean is None else mean
        if self._kernel is not None:
            self._kernel(features, self._decay, self.sums, self.weights, self.has_missing, mean is None, is_start)
        elif len(self._decay):
            self._average(features, mean is None, is_start)
        return features.reshape(-1)

    def _average(self, features: np.ndarray, is_missing: bool, is_start: bool) -> None:
        """Write the averages to the rows of `features` after the first, which has the latents."""
        present = 0.0 if is_missing else 1.0
        if is_start:
            # The first bin counts as if all bins before it were equal to it.
            self.sums[:], self.weights[:] = self._column * features[0], self._decay * present
            self.has_missing[()] = False
        averages = self._share * features[0] + self.sums
        weights = self._share[:, 0] * present + self.weights
        self.sums[:], self.weights[:] = self._column * averages, self._decay * weights
        if is_missing:
            self.has_missing[()] = True
        features[1:] = averages / np.maximum(weights, 1e-300)[:, None] if self.has_missing else averages


class OnlineBelief:
    """Filtered distribution of the behavior over one grid, as `filtered_mass`, one bin after another.

    Parameters
    ----------
    movement : Movement or LabelChain or None
        Without a movement prior every bin is decoded by itself.

    Attributes
    ----------
    belief : (states, rows, columns) float32
        Filtered distribution of the last bin; empty without a movement prior.
    """

    def __init__(self, movement: Movement | LabelChain | None) -> None:
        self._movement = movement
        self.belief = np.zeros((0, 0, 0), dtype=np.float32)
        if movement is not None:
            transition = movement.transition()
            self._forward = ForwardStep(transition)
            occupancy = transition.prior.sum(axis=0)
            self._log_occupancy = np.log(occupancy / occupancy.sum()).astype(np.float32)
            self._kernel: Any = None
            if has_compiler():
                from kalmanssl.decoding.online._kernels import likelihood_kernel

                self._kernel = likelihood_kernel
            self._uninformative = np.ones(transition.prior.shape[1:], dtype=np.float32)
            self.belief = np.zeros(transition.prior.shape, dtype=np.float32)
            self._forward(self.belief, self._likelihood(self._uninformative), True)  # compiles now

    def step(self, mass: np.ndarray, is_missing: bool, is_start: bool) -> np.ndarray:
        """Return the posterior (*shape) of a bin.

        Parameters
        ----------
        mass : (*shape)
            Distribution of the readout.
        is_missing, is_start : bool
            Whether the bin has no latents, and whether it is the first one of a segment.
        """
        if self._movement is None:
            return mass
        likelihood = self._uninformative if is_missing else self._likelihood(mass)
        self.belief = self._forward(self.belief, likelihood, is_start)
        return np.add.reduce(self.belief, axis=0).reshape(mass.shape)

    def _likelihood(self, mass: np.ndarray) -> np.ndarray:
        """Return the likelihood (rows, columns) of each cell, up to a factor, as the movement prior."""
        assert self._movement is not None
        if self._kernel is None:
            log_ratio = np.log(np.maximum(mass, 1e-12)).reshape(self._log_occupancy.shape) - self._log_occupancy
            log_ratio *= self._movement.power
            return np.exp(log_ratio - log_ratio.max())
        likelihood = np.empty(self._log_occupancy.shape, dtype=np.float32)
        given = mass.astype(np.float32, copy=False).reshape(-1)
        self._kernel(given, self._log_occupancy.reshape(-1), self._movement.power, likelihood.reshape(-1))
        return likelihood


class OnlineMixture:
    """Filtered distribution of a mixture of movement priors, as `MovementMixture.filtered`, one bin after another.

    Parameters
    ----------
    mixture : MovementMixture
    occupancy : (*shape)
        Occupancy of the behavior in the fitted bins.

    Attributes
    ----------
    beliefs : list of OnlineBelief
        One for each component.
    """

    def __init__(self, mixture: MovementMixture, occupancy: np.ndarray) -> None:
        self._mixture, self._occupancy = mixture, occupancy
        self.beliefs = [OnlineBelief(part.movement) for part in mixture.components]

    def step(
        self, product: np.ndarray, average: np.ndarray | None, distance: float | None, is_missing: bool, is_start: bool
    ) -> np.ndarray:
        """Return the posterior (*shape) of a bin.

        Parameters
        ----------
        product, average : (*shape)
            Product and average of the distributions of the parts of the readout, as in `OneBinMasses`.
        distance : float or None
            Distance of the latents to those of the fit; None if it is unknown.
        is_missing, is_start : bool
            As for `OnlineBelief.step`.
        """
        posteriors = []
        for part, belief in zip(self._mixture.components, self.beliefs, strict=True):
            given = select_combination(part.combination, product, average)
            weight = 1.0 if distance is None else float(part.familiarity.weight(distance))
            if weight < 1:
                given = temper(given[None], np.array([weight]), self._occupancy)[0]
            posteriors.append(belief.step(given, is_missing, is_start))
        return self._mixture.mean(posteriors)
