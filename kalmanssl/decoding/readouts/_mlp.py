"""The default readout: an ensemble of small networks whose output is a histogram over the behavior.

Decoding errors of neural codes have heavy tails and sometimes two modes (the other end of the track, the other
direction). The predictive distribution is therefore a histogram that depends on the latents, not a Gaussian. Two
dimensions of the behavior share one histogram over a two-dimensional grid, so that it can be correlated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from kalmanssl.data import Covariances
from kalmanssl.decoding.grids import Grid, Periods, Predictive, group_dimensions, marginal_predictives
from kalmanssl.decoding.readouts._base import FittedBins
from kalmanssl.decoding.readouts._histogram_loss import histogram_mean
from kalmanssl.decoding.readouts._mlp_settings import MLPReadoutSettings
from kalmanssl.decoding.readouts._mlp_training import TrainingBins, train_networks
from kalmanssl.utils.moments import standardized
from kalmanssl.utils.torch_ops import fast_products, one_thread

__all__ = ["MLPReadout"]

_ROWS = 8192  # bins that are decoded at a time, so that memory does not grow with the recording
# Gauss-Hermite nodes for a standard normal, exact to the fifth power, and their weights.
_NODES = ((0.0, 2 / 3), (math.sqrt(3), 1 / 6), (-math.sqrt(3), 1 / 6))


class MLPReadout:
    """Histogram regression with an ensemble of multilayer perceptrons.

    The networks are trained with the ranked probability score of every dimension (the CRPS of a histogram) and a small
    weight of the log-score. Their histograms are averaged.

    The latents of a bin are given by their posterior mean, which is all that the activity says about them if the
    posterior covariance is the same in all bins. With a covariance that depends on the input, the average over the
    posterior is available (LDM paper, Sec. 3.3): the networks are then trained on draws from the posterior, new ones
    at every step, and predictions average over it, so a bin with uncertain latents gets a wide distribution.

    Parameters
    ----------
    periods : tuple of float or None
        One per dimension of the behavior; None for a dimension that is not circular.
    posterior : "mean", "quadrature" or "samples"
        Whether to use the posterior mean alone, or to average over the posterior with three Gauss-Hermite nodes along
        the direction in latent space that moves the output most, or with random draws.
    n_samples : int
        Draws in `predict` for "samples".
    settings : MLPReadoutSettings, optional
    """

    def __init__(
        self,
        periods: Periods,
        posterior: str = "mean",
        n_samples: int = 1000,
        settings: MLPReadoutSettings | None = None,
    ) -> None:
        self.periods = periods
        self.posterior = posterior
        self.n_samples = n_samples
        self.settings = settings or MLPReadoutSettings()

    def fit(self, bins: FittedBins, rng: np.random.Generator) -> Self:
        """Train the ensemble; bins are drawn in proportion to their weight.

        Every second network, from the first, receives only the `n_present` features of the bin itself. Context helps
        with slow behavior and hurts with few bins, and the ensemble is nearly as good as the better of the two.
        """
        mean, behavior, weight, n_present = bins.mean, bins.behavior, bins.weight, bins.n_present
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self.seed = int(rng.integers(2**62))
        self.center, self.scale = mean.mean(axis=0), _common_scale(mean[:, :n_present])
        self.grids = self.settings.make_grids(behavior, self.periods) if bins.grids is None else bins.grids
        self.inputs = torch.ones(self.settings.n_networks, 1, mean.shape[1])
        if n_present is not None:
            self.inputs[::2, :, n_present:] = 0.0
        factors = [self.settings.training_factor(grid) for grid in self.grids]
        wider = [grid.coarsen(factor) for grid, factor in zip(self.grids, factors, strict=True)]
        place = [
            grid.place(behavior[:, dims]) for grid, dims in zip(wider, group_dimensions(len(self.periods)), strict=True)
        ]
        used = None if self.posterior == "mean" or bins.cov is None else bins.cov.used()
        root = None if used is None else self._roots(used)
        index = None if used is None else torch.as_tensor(used.index)
        draws = None if weight is None else torch.as_tensor(np.cumsum(weight / weight.sum()))
        # Products of this size gain nothing from a second thread, and lose much on a busy machine.
        with one_thread(), fast_products(), torch.no_grad():
            training = TrainingBins(
                self._standardize(mean), root, index, [torch.as_tensor(p, dtype=torch.float32) for p in place], draws
            )
            n_inputs = [int(row.count_nonzero()) for row in self.inputs]
            layers = train_networks(training, n_inputs, wider, self.settings, generator)
            self.weights = [*layers.weights[:-1], _interpolate(layers.weights[-1], self.grids, factors)]
            self.biases = [*layers.biases[:-1], _interpolate(layers.biases[-1], self.grids, factors)]
        return self

    def predict_mass(self, mean: np.ndarray, cov: Covariances | None) -> list[np.ndarray]:
        """Return the histogram over the grid of each group of dimensions, (time, *shape), float32."""
        uniform = self.settings.uniform_fraction
        masses = [np.empty((len(mean), *grid.shape), dtype=np.float32) for grid in self.grids]
        for first in range(0, len(mean), _ROWS):
            rows = slice(first, first + _ROWS)
            x = self._standardize(mean[rows])
            if cov is None or self.posterior == "mean":
                with fast_products(), torch.inference_mode():
                    parts = self._mass(x)
            elif self.posterior == "quadrature":
                parts = self._average_by_quadrature(x, cov[rows])
            else:
                parts = self._average_by_sampling(x, cov[rows], self.n_samples, first)
            for mass, part, grid in zip(masses, parts, self.grids, strict=True):
                mass[rows] = ((1 - uniform) * part.numpy() + uniform / grid.size).reshape(-1, *grid.shape)
        return masses

    def predict(self, mean: np.ndarray, cov: Covariances | None) -> list[Predictive]:
        """Return the histogram of each dimension."""
        return marginal_predictives(self.grids, self.predict_mass(mean, cov))

    def _standardize(self, mean: np.ndarray) -> Tensor:
        return torch.from_numpy(standardized(mean, self.center, self.scale))

    def _roots(self, cov: Covariances) -> Tensor:
        """Return the square roots of the table of covariances, in standardized latents."""
        return torch.as_tensor(cov.scaled(np.full(len(self.center), self.scale)).square_roots(), dtype=torch.float32)

    def _logits(self, x: Tensor) -> Tensor:
        """Return the logits (networks, rows, outputs) at standardized latents (1, rows, state)."""
        x = x * self.inputs
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, torch.relu(x) if layer else x, weight)
        return x

    def _mass(self, x: Tensor) -> list[Tensor]:
        """Return one histogram (rows, cells) per grid at standardized latents (rows, state), averaged over networks."""
        logits = self._logits(x[None]).split([grid.size for grid in self.grids], dim=-1)
        return [torch.softmax(part, dim=-1).mean(dim=0) for part in logits]

    def _average_by_sampling(self, x: Tensor, cov: Covariances, n_samples: int, first: int) -> list[Tensor]:
        """Average the histograms over draws from the posterior; the seed depends on `first`, the first bin's number."""
        generator = torch.Generator().manual_seed((self.seed + first) % 2**62)
        used = cov.used()
        root = self._roots(used)[torch.as_tensor(used.index)]
        total = [torch.zeros(len(x), grid.size) for grid in self.grids]
        with torch.inference_mode():
            for _ in range(n_samples):
                noise = torch.randn(*x.shape, 1, generator=generator)
                for sum_, mass in zip(total, self._mass(x + (root @ noise)[..., 0]), strict=True):
                    sum_ += mass
        return [sum_ / n_samples for sum_ in total]

    def _average_by_quadrature(self, x: Tensor, cov: Covariances) -> list[Tensor]:
        """Average the histograms along the directions of the posterior that move the decoded behavior most.

        To first order, a dimension of the output depends on a draw from the posterior only through `g' h`, where `g` is
        the gradient of the mean of the output. The conditional mean of `h` given `g' h` moves along `P g`, and
        Gauss-Hermite nodes on this line replace the draws. With two dimensions in a histogram the effects of the nodes
        on both lines are added.
        """
        averages = []
        for number, grid in enumerate(self.grids):
            here = x.clone().requires_grad_()
            center = self._mass(here)[number]
            locations = [histogram_mean(center, grid, axis).sum() for axis in range(len(grid.axes))]
            gradients = [torch.autograd.grad(value, here, retain_graph=True)[0] for value in locations]
            with torch.inference_mode():
                center = center.detach()
                total = center.clone()
                for gradient in gradients:
                    gradient = gradient / self.scale
                    pulled = _multiply(cov, gradient)
                    length = (pulled * gradient).sum(dim=1, keepdim=True).clamp_min(1e-30).sqrt()
                    direction = pulled / (length * self.scale)
                    for node, weight in _NODES[1:]:
                        total += weight * (self._mass(x + node * direction)[number] - center)
                averages.append(total)
        return averages

    def to_state(self) -> dict[str, Any]:
        """Return the settings, weights, standardization and grids."""
        return {
            "periods": list(self.periods),
            "posterior": self.posterior,
            "n_samples": self.n_samples,
            "settings": asdict(self.settings),
            "weights": [weight.numpy() for weight in self.weights],
            "biases": [bias.numpy() for bias in self.biases],
            "center": self.center,
            "scale": self.scale,
            "grids": [grid.to_state() for grid in self.grids],
            "inputs": self.inputs.numpy(),
            "seed": self.seed,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a fitted readout from what `to_state` returned."""
        settings = MLPReadoutSettings(**state["settings"])
        readout = cls(tuple(state["periods"]), state["posterior"], state["n_samples"], settings)
        readout.weights = [torch.as_tensor(weight) for weight in state["weights"]]
        readout.biases = [torch.as_tensor(bias) for bias in state["biases"]]
        readout.center, readout.scale = np.asarray(state["center"], dtype=float), float(state["scale"])
        readout.grids = [Grid.from_state(grid) for grid in state["grids"]]
        readout.inputs = torch.as_tensor(state["inputs"])
        readout.seed = int(state["seed"])
        return readout


def _interpolate(logits: Tensor, grids: Sequence[Grid], factors: Sequence[int]) -> Tensor:
    """Interpolate logits (…, wider cells), or the weights that make them, between the centers of wider cells.

    `factors` are how many cells along each axis of each grid are one wider cell.
    """
    sizes = [grid.size // factor ** len(grid.axes) for grid, factor in zip(grids, factors, strict=True)]
    parts = []
    for part, grid, factor in zip(logits.split(sizes, dim=-1), grids, factors, strict=True):
        if factor > 1:
            rows, columns = (torch.as_tensor(axis.interpolation(factor), dtype=torch.float32) for axis in grid.axes)
            part = (rows.T @ part.unflatten(-1, (len(rows), len(columns))) @ columns).flatten(-2)
        parts.append(part)
    return torch.cat(parts, dim=-1)


def _common_scale(mean: np.ndarray) -> float:
    """Return the root mean square deviation of latents (time, features), one number for all features.

    Standardizing every feature would enlarge those that carry little.
    """
    return max(float(np.sqrt(mean.var(axis=0).mean())), 1e-12)


def _multiply(cov: Covariances, vectors: Tensor) -> Tensor:
    """Multiply the covariance of every bin with its vector (rows, state)."""
    table = torch.as_tensor(cov.table, dtype=torch.float32)
    distinct = np.unique(cov.index)
    if len(distinct) > len(vectors) / 8:
        return (table[torch.as_tensor(cov.index)] @ vectors[..., None])[..., 0]
    # Most bins share one covariance once the filter has converged: one product for all of them needs no copies.
    product = torch.empty_like(vectors)
    for which in distinct:
        rows = torch.as_tensor(np.flatnonzero(cov.index == which))
        product[rows] = vectors[rows] @ table[which]
    return product
