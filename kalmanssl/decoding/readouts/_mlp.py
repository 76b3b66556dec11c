"""The default readout: an ensemble of small networks whose output is a histogram over the behavior.

Decoding errors of neural codes have heavy tails and sometimes two modes (the other end of the track, the other
direction). The predictive distribution is therefore a histogram that depends on the latents, not a Gaussian. Two
dimensions of the behavior share one histogram over a two-dimensional grid, so that it can be correlated.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from kalmanssl.data import Covariances
from kalmanssl.decoding.grids import Grid, Periods, Predictive, group_dimensions, marginal_predictives
from kalmanssl.decoding.readouts._histogram_loss import histogram_loss, histogram_mean
from kalmanssl.decoding.readouts._mlp_settings import MLPReadoutSettings
from kalmanssl.utils.moments import standardized
from kalmanssl.utils.torch_ops import one_thread

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

    def fit(
        self,
        mean: np.ndarray,
        cov: Covariances | None,
        behavior: np.ndarray,
        rng: np.random.Generator,
        weight: np.ndarray | None = None,
        grids: list[Grid] | None = None,
        n_present: int | None = None,
    ) -> Self:
        """Train the ensemble.

        Parameters
        ----------
        mean, cov, behavior, rng
            As for every `Readout`.
        weight : (time,), optional
            Bins are drawn in proportion to it; uniformly by default.
        grids : list of Grid, optional
            The grids of the groups of dimensions; by default they cover the behavior.
        n_present : int, optional
            Number of features that describe the bin itself; the others are its context. Every second network, from the
            first, receives only the former. Context helps with slow behavior and hurts with few bins, and the ensemble
            is nearly as good as the better of the two.
        """
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self.seed = int(rng.integers(2**62))
        self.center, self.scale = mean.mean(axis=0), common_scale(mean[:, :n_present])
        self.grids = self.settings.make_grids(behavior, self.periods) if grids is None else grids
        self.inputs = torch.ones(self.settings.n_networks, 1, mean.shape[1])
        if n_present is not None:
            self.inputs[::2, :, n_present:] = 0.0
        place = [
            grid.place(behavior[:, dims])
            for grid, dims in zip(self.grids, group_dimensions(len(self.periods)), strict=True)
        ]
        cov = None if self.posterior == "mean" else cov
        used = None if cov is None else cov.used()
        root = None if used is None else self._roots(used)
        index = None if used is None else torch.as_tensor(used.index)
        draws = None if weight is None else torch.as_tensor(np.cumsum(weight / weight.sum()))
        with one_thread():  # products of this size gain nothing from a second thread, and lose much on a busy machine
            batches = _Batches(
                self._standardize(mean), root, index, [torch.as_tensor(p, dtype=torch.float32) for p in place], draws
            )
            self._train(batches, generator)
        return self

    def _init_weights(self, n_features: int, generator: torch.Generator) -> None:
        """Draw the weights (networks, inputs, outputs) and biases (networks, 1, outputs) of every layer."""
        # Not `kalmanssl.networks.mlp`: all networks are evaluated in one batched product, and every random number comes
        # from `generator`, so that fits leave torch's global generator alone.
        s = self.settings
        sizes = [n_features, s.hidden, s.hidden, sum(grid.size for grid in self.grids)]
        self.weights, self.biases = [], []
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            gain = math.sqrt((0.1 if layer == len(sizes) - 2 else 2.0) / inputs)
            weight = gain * torch.randn(s.n_networks, inputs, outputs, generator=generator)
            self.weights.append(weight.requires_grad_())
            self.biases.append(torch.zeros(s.n_networks, 1, outputs, requires_grad=True))

    def _train(self, batches: _Batches, generator: torch.Generator) -> None:
        s = self.settings
        self._init_weights(batches.x.shape[1], generator)
        enough = math.ceil(s.n_epochs * len(batches.x) / s.batch_size)
        n_steps = min(s.n_steps, max(s.min_steps, enough))
        parameters = self.weights + self.biases
        optimizer = torch.optim.AdamW(parameters, lr=s.learning_rate, weight_decay=s.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, s.learning_rate, total_steps=n_steps, pct_start=s.warmup_fraction
        )
        for _ in range(n_steps):
            x, place = batches.draw((s.n_networks, s.batch_size), generator)
            logits = self._logits(x, generator).split([grid.size for grid in self.grids], dim=-1)
            loss = sum(
                (
                    histogram_loss(part, at, grid, s.log_score_weight)
                    for part, at, grid in zip(logits, place, self.grids, strict=True)
                ),
                torch.zeros(()),
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self.weights = [weight.detach() for weight in self.weights]
        self.biases = [bias.detach() for bias in self.biases]

    def predict_mass(self, mean: np.ndarray, cov: Covariances | None) -> list[np.ndarray]:
        """Return the histogram over the grid of each group of dimensions, (time, *shape), float32."""
        uniform = self.settings.uniform_fraction
        masses = [np.empty((len(mean), *grid.shape), dtype=np.float32) for grid in self.grids]
        for first in range(0, len(mean), _ROWS):
            rows = slice(first, first + _ROWS)
            x = self._standardize(mean[rows])
            if cov is None or self.posterior == "mean":
                with torch.inference_mode():
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

    def _logits(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the logits (networks, rows, outputs) at standardized latents (networks or 1, rows, state).

        With a generator, hidden units are dropped at random.
        """
        dropout = self.settings.dropout
        x = x * self.inputs
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                x = torch.relu(x)
                if generator is not None:
                    x = x * _dropout_mask(x.shape, dropout, generator) / (1 - dropout)
            x = torch.baddbmm(bias, x, weight)
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


@dataclass(frozen=True)
class _Batches:
    """What the networks are trained on.

    `x` are the standardized latents (time, state), `root` square roots of the distinct posterior covariances and
    `index` the one of each bin, `place` the behavior on each grid in cells, and `draws` the cumulative probability of
    drawing each bin, or None if all are equally likely.
    """

    x: Tensor
    root: Tensor | None
    index: Tensor | None
    place: list[Tensor]
    draws: Tensor | None

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        """Draw bins at random; return their latents, drawn from the posterior if it is known, and their behavior."""
        if self.draws is None:
            picked = torch.randint(0, len(self.x), shape, generator=generator)
        else:
            level = torch.rand(shape, generator=generator, dtype=torch.float64)
            picked = torch.searchsorted(self.draws, level).clamp_max(len(self.x) - 1)
        batch = self.x.index_select(0, picked.flatten()).unflatten(0, shape)  # much faster than with brackets
        if self.root is not None and self.index is not None:
            noise = torch.randn(*batch.shape, 1, generator=generator)
            batch = batch + (self.root[self.index[picked]] @ noise)[..., 0]
        return batch, [place[picked] for place in self.place]


def _dropout_mask(shape: torch.Size, dropout: float, generator: torch.Generator) -> Tensor:
    """Return which units are kept; each is dropped with the probability `dropout`, rounded to 1/256.

    Each random number gives eight entries, since drawing one for each takes longer than the rest of the layer.
    """
    words = torch.empty(math.ceil(shape.numel() / 8), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    threshold = min(round(256 * dropout), 255)
    return (words.view(torch.uint8)[: shape.numel()] >= threshold).view(shape)


def common_scale(mean: np.ndarray) -> float:
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
