"""The default readout: an ensemble of small networks whose output is a histogram over the behavior.

Decoding errors of neural codes have heavy tails and sometimes two modes (the other end of the track, the other
direction). The predictive distribution is therefore a histogram that depends on the latents, not a Gaussian.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from kalmanssl.data import Covariances
from kalmanssl.decoding._circular import Periods
from kalmanssl.decoding._predictive import GridPredictive, Predictive
from kalmanssl.utils.validation import check_condition, check_integer, check_positive

__all__ = ["MLPReadout", "MLPReadoutSettings"]

_ROWS = 8192  # bins that are decoded at a time, so that memory does not grow with the recording
# Gauss-Hermite nodes for a standard normal, exact to the fifth power, and their weights.
_NODES = ((0.0, 2 / 3), (math.sqrt(3), 1 / 6), (-math.sqrt(3), 1 / 6))


@dataclass(frozen=True)
class MLPReadoutSettings:
    """Settings of `MLPReadout`.

    Attributes
    ----------
    n_cells : int
        Cells of the histogram in each dimension.
    margin : float
        Added at both ends of the histogram, as a fraction of the range of the behavior, for errors beyond it.
    n_networks : int
        Networks in the ensemble.
    hidden : int
        Units in each of the two hidden layers.
    n_steps, batch_size : int
        Training steps (AdamW), and bins per step and network.
    learning_rate, weight_decay : float
        Peak learning rate of the one-cycle schedule, and decoupled weight decay.
    warmup_fraction : float
        Fraction of the steps in which the learning rate rises.
    dropout : float
        Probability that a hidden unit is set to zero in training, 0 to below 1.
    log_score_weight : float
        Weight of the log-score beside the ranked probability score; it keeps some mass in the tails.
    uniform_fraction : float
        Fraction of the predictive mass that is distributed over all cells, 0 to below 1.
    """

    n_cells: int = 96
    margin: float = 0.08
    n_networks: int = 2
    hidden: int = 96
    n_steps: int = 400
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    warmup_fraction: float = 0.15
    dropout: float = 0.3
    log_score_weight: float = 0.1
    uniform_fraction: float = 1e-3

    def __post_init__(self) -> None:
        check_integer("n_cells", self.n_cells, 2)
        for name in ("n_networks", "hidden", "n_steps", "batch_size"):
            check_integer(name, getattr(self, name), 1)
        check_positive("learning_rate", self.learning_rate)
        for name in ("margin", "weight_decay", "log_score_weight"):
            value = getattr(self, name)
            check_condition(name, value, 0 <= value < math.inf, "at least 0 and finite")
        for name in ("warmup_fraction", "dropout", "uniform_fraction"):
            value = getattr(self, name)
            check_condition(name, value, 0 <= value < 1, "at least 0 and below 1")


class MLPReadout:
    """Histogram regression with an ensemble of multilayer perceptrons, averaged over the latent posterior.

    The networks are trained on draws from the posterior, new ones at every step, with the ranked probability score
    (the CRPS of a histogram) and a small weight of the log-score. Predictions average the histograms of the networks
    over the posterior (LDM paper, Sec. 3.3), so a bin with uncertain latents gets a wide distribution.

    Parameters
    ----------
    periods : tuple of float or None
        One per dimension of the behavior; None for a dimension that is not circular.
    n_samples : int or None
        Draws from the posterior in `predict`; None for Gauss-Hermite quadrature with three nodes along the direction
        in latent space that moves the output most.
    settings : MLPReadoutSettings, optional
    """

    def __init__(
        self, periods: Periods, n_samples: int | None = None, settings: MLPReadoutSettings | None = None
    ) -> None:
        self.periods = periods
        self.n_samples = n_samples
        self.settings = settings or MLPReadoutSettings()

    def fit(self, mean: np.ndarray, cov: Covariances | None, behavior: np.ndarray, rng: np.random.Generator) -> Self:
        """Train the ensemble."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self.seed = int(rng.integers(2**62))
        self.center, self.scale = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        place = torch.as_tensor(self._make_grid(behavior), dtype=torch.float32)
        used = None if cov is None else cov.used()
        root = None if used is None else self._roots(used)
        index = None if used is None else torch.as_tensor(used.index)
        with _one_thread():  # products of this size gain nothing from a second thread, and lose much on a busy machine
            self._train(self._standardize(mean), root, index, place, generator)
        return self

    def _make_grid(self, behavior: np.ndarray) -> np.ndarray:
        """Choose the cells from behavior (time, dims), and return the behavior in cells from the first edge."""
        s = self.settings
        low, high = behavior.min(axis=0), behavior.max(axis=0)
        circular = np.array([period is not None for period in self.periods])
        span = np.where(circular, [period or 0.0 for period in self.periods], (1 + 2 * s.margin) * (high - low))
        self.start = np.where(circular, 0.0, low - s.margin * (high - low))
        self.width = span / s.n_cells
        place = (behavior - self.start) / self.width
        place[:, circular] %= s.n_cells
        return place

    def _init_weights(self, n_features: int, generator: torch.Generator) -> None:
        """Draw the weights (networks, inputs, outputs) and biases (networks, 1, outputs) of every layer."""
        # Not `kalmanssl.networks.mlp`: all networks are evaluated in one batched product, and every random number comes
        # from `generator`, so that fits leave torch's global generator alone.
        s = self.settings
        sizes = [n_features, s.hidden, s.hidden, len(self.periods) * s.n_cells]
        self.weights, self.biases = [], []
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            gain = math.sqrt((0.1 if layer == len(sizes) - 2 else 2.0) / inputs)
            weight = gain * torch.randn(s.n_networks, inputs, outputs, generator=generator)
            self.weights.append(weight.requires_grad_())
            self.biases.append(torch.zeros(s.n_networks, 1, outputs, requires_grad=True))

    def _train(
        self, x: Tensor, root: Tensor | None, index: Tensor | None, place: Tensor, generator: torch.Generator
    ) -> None:
        s = self.settings
        self._init_weights(x.shape[1], generator)
        optimizer = torch.optim.AdamW(self.weights + self.biases, lr=s.learning_rate, weight_decay=s.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, s.learning_rate, total_steps=s.n_steps, pct_start=s.warmup_fraction
        )
        for _ in range(s.n_steps):
            picked = torch.randint(0, len(x), (s.n_networks, s.batch_size), generator=generator)
            batch = x[picked]
            if root is not None and index is not None:
                noise = torch.randn(*batch.shape, 1, generator=generator)
                batch = batch + (root[index[picked]] @ noise)[..., 0]
            logits = self._logits(batch, generator).view(s.n_networks, s.batch_size, len(self.periods), s.n_cells)
            loss = _histogram_loss(torch.softmax(logits, dim=-1), place[picked], self.periods, s.log_score_weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self.weights = [weight.detach() for weight in self.weights]
        self.biases = [bias.detach() for bias in self.biases]

    def predict(self, mean: np.ndarray, cov: Covariances | None) -> list[Predictive]:
        """Return histograms, averaged over the latent posterior."""
        x = self._standardize(mean)
        parts = []
        for first in range(0, len(x), _ROWS):
            rows = slice(first, first + _ROWS)
            if cov is None:
                with torch.inference_mode():
                    parts.append(self._mass(x[rows]))
            elif self.n_samples is None:
                parts.append(self._average_by_quadrature(x[rows], cov[rows]))
            else:
                parts.append(self._average_by_sampling(x[rows], cov[rows], self.n_samples, first))
        s = self.settings
        mass = (1 - s.uniform_fraction) * torch.cat(parts).numpy() + s.uniform_fraction / s.n_cells
        predictives: list[Predictive] = []
        for dim, period in enumerate(self.periods):
            if period:
                predictives.append(GridPredictive.circular(mass[:, dim], period))
            else:
                start = np.full(len(mass), self.start[dim])
                predictives.append(GridPredictive(mass[:, dim], start, float(self.width[dim])))
        return predictives

    def _standardize(self, mean: np.ndarray) -> Tensor:
        return torch.as_tensor((mean - self.center) / self.scale, dtype=torch.float32)

    def _roots(self, cov: Covariances) -> Tensor:
        """Return the square roots of the table of covariances, in standardized latents."""
        return torch.as_tensor(cov.scaled(self.scale).square_roots(), dtype=torch.float32)

    def _logits(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the logits (networks, rows, outputs) at standardized latents (networks or 1, rows, state).

        With a generator, hidden units are dropped at random.
        """
        dropout = self.settings.dropout
        x = x.expand(self.settings.n_networks, -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                x = torch.relu(x)
                if generator is not None:
                    x = x * (torch.rand(x.shape, generator=generator) >= dropout) / (1 - dropout)
            x = torch.baddbmm(bias, x, weight)
        return x

    def _mass(self, x: Tensor) -> Tensor:
        """Return histograms (rows, dims, cells) at standardized latents (rows, state), averaged over the networks."""
        logits = self._logits(x[None]).view(self.settings.n_networks, len(x), len(self.periods), self.settings.n_cells)
        return torch.softmax(logits, dim=-1).mean(dim=0)

    def _average_by_sampling(self, x: Tensor, cov: Covariances, n_samples: int, first: int) -> Tensor:
        """Average the histograms over draws from the posterior; the seed depends on `first`, the first bin's number."""
        generator = torch.Generator().manual_seed((self.seed + first) % 2**62)
        used = cov.used()
        root = self._roots(used)[torch.as_tensor(used.index)]
        total = torch.zeros(len(x), len(self.periods), self.settings.n_cells)
        with torch.inference_mode():
            for _ in range(n_samples):
                noise = torch.randn(*x.shape, 1, generator=generator)
                total += self._mass(x + (root @ noise)[..., 0])
        return total / n_samples

    def _average_by_quadrature(self, x: Tensor, cov: Covariances) -> Tensor:
        """Average the histograms along the direction of the posterior that moves the decoded behavior most.

        To first order, the output depends on a draw from the posterior only through `g' h`, where `g` is the gradient
        of the mean of the output. The conditional mean of `h` given `g' h` moves along `P g`, and Gauss-Hermite nodes
        on this line replace the draws.
        """
        scale = torch.as_tensor(self.scale, dtype=torch.float32)
        mass = []
        for dim in range(len(self.periods)):
            here = x.clone().requires_grad_()
            center = self._mass(here)[:, dim]
            (gradient,) = torch.autograd.grad(self._location(center, dim).sum(), here)
            with torch.inference_mode():
                gradient = gradient / scale
                pulled = _multiply(cov, gradient)
                length = (pulled * gradient).sum(dim=1, keepdim=True).clamp_min(1e-30).sqrt()
                direction = pulled / (length * scale)
                total = _NODES[0][1] * center.detach()
                for node, weight in _NODES[1:]:
                    total += weight * self._mass(x + node * direction)[:, dim]
                mass.append(total)
        return torch.stack(mass, dim=1)

    def _location(self, mass: Tensor, dim: int) -> Tensor:
        """Return the mean of histograms (rows, cells), in cells; the circular mean on a circular dimension."""
        n_cells = self.settings.n_cells
        cell = torch.arange(n_cells) + 0.5
        if self.periods[dim] is None:
            return mass @ cell
        angle = 2 * math.pi * cell / n_cells
        return torch.atan2(mass @ torch.sin(angle), mass @ torch.cos(angle)) * n_cells / (2 * math.pi)

    def to_state(self) -> dict[str, Any]:
        """Return the settings, weights, standardization and grid."""
        return {
            "periods": list(self.periods),
            "n_samples": self.n_samples,
            "settings": asdict(self.settings),
            "weights": [weight.numpy() for weight in self.weights],
            "biases": [bias.numpy() for bias in self.biases],
            "center": self.center,
            "scale": self.scale,
            "start": self.start,
            "width": self.width,
            "seed": self.seed,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a fitted readout from what `to_state` returned."""
        readout = cls(tuple(state["periods"]), state["n_samples"], MLPReadoutSettings(**state["settings"]))
        readout.weights = [torch.as_tensor(weight) for weight in state["weights"]]
        readout.biases = [torch.as_tensor(bias) for bias in state["biases"]]
        readout.center, readout.scale, readout.start, readout.width = (
            np.asarray(state[name], dtype=float) for name in ("center", "scale", "start", "width")
        )
        readout.seed = int(state["seed"])
        return readout


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


def _histogram_loss(mass: Tensor, place: Tensor, periods: Periods, log_score_weight: float) -> Tensor:
    """Return the ranked probability score plus the weighted log-score of histograms.

    `mass` is (..., dims, cells); `place` (..., dims) is the behavior, in cells from the first edge.
    """
    n_cells = mass.shape[-1]
    cell = place.floor().long().clamp(0, n_cells - 1)
    likelihood = mass.gather(-1, cell[..., None]).squeeze(-1)
    loss = -log_score_weight * torch.log(likelihood + 1e-6).mean()
    right = torch.arange(n_cells) + 1.0
    for dim, period in enumerate(periods):
        part, at = mass[..., dim, :], place[..., dim]
        if period is not None:
            # A circle has no first cell: start it opposite the truth, in every bin.
            cut = cell[..., dim, None] - n_cells // 2
            part = part.gather(-1, (torch.arange(n_cells) + cut) % n_cells)
            at = at - cut[..., 0]
        below = torch.cumsum(part, dim=-1) - part / 2
        squared = ((below - (right - at[..., None]).clamp(0, 1)) ** 2).sum(dim=-1).mean()
        loss = loss + 20 / n_cells * squared  # the score is then of the size of the log-score
    return loss


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
