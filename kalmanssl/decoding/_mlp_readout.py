"""The default readout: an ensemble of small networks that give a histogram over the behavior.

Decoding errors of neural codes are heavy-tailed and at times two-moded (the wrong end, the wrong direction), so the
residual noise is a free histogram, which depends on the latents, rather than a Gaussian.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kalmanssl.decoding._predictive import GridPredictive, Predictive
from kalmanssl.decoding._readouts import Covariances

__all__ = ["MLPReadout"]

_CELLS = 96
_MARGIN = 0.08  # of the range of the behavior, added at both ends for errors that reach beyond it
_MEMBERS = 2
_HIDDEN = 96
_STEPS = 400
_BATCH = 256
_DROPOUT = 0.3
_RATE = 3e-3
_DECAY = 1e-2
_LOG_SCORE = 0.1  # weight beside the ranked probability score: keeps the tails from being given up
_SMOOTHING = 1e-3  # share of the predictive that is spread over all cells
_ROWS = 8192  # bins decoded at a time
# Gauss-Hermite nodes for a standard normal, exact to the fifth power, and their weights.
_NODES = ((0.0, 2 / 3), (math.sqrt(3), 1 / 6), (-math.sqrt(3), 1 / 6))


class MLPReadout:
    """Histogram regression with an ensemble of MLPs, averaged over the latent posterior.

    Trained on draws from the posterior, new ones at every step, by the ranked probability score (the CRPS of a
    histogram) with a little log-score. Predictions are averages of the network's histograms over the posterior (LDM
    paper, Sec. 3.3), so that a bin with uncertain latents gets a wide one.

    Parameters
    ----------
    periods : tuple of float or None
        One per dimension of the behavior.
    n_samples : int or None
        Draws from the posterior in `predict`; None for three nodes along the direction that moves the output most.
    """

    def __init__(self, periods: tuple[float | None, ...], n_samples: int | None = None) -> None:
        self.periods = periods
        self.n_samples = n_samples

    def fit(
        self, mean: np.ndarray, cov: Covariances | None, behavior: np.ndarray, rng: np.random.Generator
    ) -> MLPReadout:
        """Train the ensemble."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self.seed = int(rng.integers(2**62))
        self.center, self.scale = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        low, high = behavior.min(axis=0), behavior.max(axis=0)
        circular = np.array([period is not None for period in self.periods])
        span = np.where(circular, [period or 0.0 for period in self.periods], (1 + 2 * _MARGIN) * (high - low))
        self.start = np.where(circular, 0.0, low - _MARGIN * (high - low))
        self.width = span / _CELLS
        place = (behavior - self.start) / self.width
        place[:, circular] %= _CELLS
        used = None if cov is None else cov.used()
        root = None if used is None else self._root(used.table)
        index = None if used is None else torch.as_tensor(used.index)
        with _one_thread():  # such small products gain nothing from a second one, and lose much on a busy machine
            self._train(self._standard(mean), root, index, torch.as_tensor(place, dtype=torch.float32), generator)
        return self

    def _train(
        self, x: Tensor, root: Tensor | None, index: Tensor | None, place: Tensor, generator: torch.Generator
    ) -> None:
        sizes = [x.shape[1], _HIDDEN, _HIDDEN, len(self.periods) * _CELLS]
        self.weights, self.biases = [], []
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            gain = math.sqrt((0.1 if layer == len(sizes) - 2 else 2.0) / inputs)
            weight = gain * torch.randn(_MEMBERS, inputs, outputs, generator=generator)
            self.weights.append(weight.requires_grad_())
            self.biases.append(torch.zeros(_MEMBERS, 1, outputs, requires_grad=True))
        optimizer = torch.optim.AdamW(self.weights + self.biases, lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS, pct_start=0.15)
        for _ in range(_STEPS):
            picked = torch.randint(0, len(x), (_MEMBERS, _BATCH), generator=generator)
            batch = x[picked]
            if root is not None and index is not None:
                noise = torch.randn(*batch.shape, 1, generator=generator)
                batch = batch + (root[index[picked]] @ noise)[..., 0]
            logits = self._logits(batch, generator).view(_MEMBERS, _BATCH, len(self.periods), _CELLS)
            loss = _histogram_loss(torch.softmax(logits, dim=-1), place[picked], self.periods)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self.weights = [weight.detach() for weight in self.weights]
        self.biases = [bias.detach() for bias in self.biases]

    def predict(self, mean: np.ndarray, cov: Covariances | None) -> list[Predictive]:
        """Histograms, averaged over the latent posterior."""
        x = self._standard(mean)
        parts = []
        for first in range(0, len(x), _ROWS):
            rows = slice(first, first + _ROWS)
            if cov is None:
                with torch.inference_mode():
                    parts.append(self._mass(x[rows]))
            elif self.n_samples is None:
                parts.append(self._quadrature(x[rows], cov[rows]))
            else:
                parts.append(self._sampled(x[rows], cov[rows], self.n_samples, first))
        mass = (1 - _SMOOTHING) * torch.cat(parts).numpy() + _SMOOTHING / _CELLS
        predictives: list[Predictive] = []
        for dim, period in enumerate(self.periods):
            if period:
                predictives.append(GridPredictive.circular(mass[:, dim], period))
            else:
                start = np.full(len(mass), self.start[dim])
                predictives.append(GridPredictive(mass[:, dim], start, float(self.width[dim])))
        return predictives

    def _standard(self, mean: np.ndarray) -> Tensor:
        return torch.as_tensor((mean - self.center) / self.scale, dtype=torch.float32)

    def _root(self, table: np.ndarray) -> Tensor:
        """Square roots of covariances, of the standardized latents."""
        values, vectors = np.linalg.eigh(table.astype(float) / self.scale[:, None] / self.scale)
        return torch.as_tensor(vectors * np.sqrt(np.maximum(values, 0))[:, None, :], dtype=torch.float32)

    def _logits(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits (members, rows, outputs) of standardized latents (members or 1, rows, state); dropout if drawn."""
        x = x.expand(_MEMBERS, -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                x = torch.relu(x)
                if generator is not None:
                    x = x * (torch.rand(x.shape, generator=generator) >= _DROPOUT) / (1 - _DROPOUT)
            x = torch.baddbmm(bias, x, weight)
        return x

    def _mass(self, x: Tensor) -> Tensor:
        """Histograms (rows, dims, cells) of standardized latents (rows, state), averaged over the ensemble."""
        logits = self._logits(x[None]).view(_MEMBERS, len(x), len(self.periods), _CELLS)
        return torch.softmax(logits, dim=-1).mean(dim=0)

    def _sampled(self, x: Tensor, cov: Covariances, n_samples: int, first: int) -> Tensor:
        """Average over draws from the posterior; seeded by the place of the rows, so that calls repeat."""
        generator = torch.Generator().manual_seed((self.seed + first) % 2**62)
        used = cov.used()
        root = self._root(used.table)[torch.as_tensor(used.index)]
        total = torch.zeros(len(x), len(self.periods), _CELLS)
        with torch.inference_mode():
            for _ in range(n_samples):
                noise = torch.randn(*x.shape, 1, generator=generator)
                total += self._mass(x + (root @ noise)[..., 0])
        return total / n_samples

    def _quadrature(self, x: Tensor, cov: Covariances) -> Tensor:
        """Average along the one direction of the posterior that moves the decoded behavior most.

        Draws matter by how far they move the output. To first order that is the direction `P g`, `g` the gradient of
        the mean of the output; along it Gauss-Hermite nodes do the work of the draws.
        """
        scale = torch.as_tensor(self.scale, dtype=torch.float32)
        mass = []
        for dim in range(len(self.periods)):
            here = x.clone().requires_grad_()
            center = self._mass(here)[:, dim]
            (gradient,) = torch.autograd.grad(self._location(center, dim).sum(), here)
            with torch.inference_mode():
                gradient = gradient / scale
                pulled = _times(cov, gradient)
                length = (pulled * gradient).sum(dim=1, keepdim=True).clamp_min(1e-30).sqrt()
                direction = pulled / (length * scale)
                total = _NODES[0][1] * center.detach()
                for node, weight in _NODES[1:]:
                    total += weight * self._mass(x + node * direction)[:, dim]
                mass.append(total)
        return torch.stack(mass, dim=1)

    def _location(self, mass: Tensor, dim: int) -> Tensor:
        """Mean cell of histograms (rows, cells); on a circle, the cell of the circular mean."""
        cell = torch.arange(_CELLS) + 0.5
        if self.periods[dim] is None:
            return mass @ cell
        angle = 2 * math.pi * cell / _CELLS
        return torch.atan2(mass @ torch.sin(angle), mass @ torch.cos(angle)) * _CELLS / (2 * math.pi)

    def state(self) -> dict[str, Any]:
        """Weights, standardization and grid."""
        return {
            "weights": [weight.numpy() for weight in self.weights],
            "biases": [bias.numpy() for bias in self.biases],
            "center": self.center,
            "scale": self.scale,
            "start": self.start,
            "width": self.width,
            "seed": self.seed,
        }

    def load(self, state: dict[str, Any]) -> MLPReadout:
        """Take over what `state` gave."""
        self.weights = [torch.as_tensor(weight) for weight in state["weights"]]
        self.biases = [torch.as_tensor(bias) for bias in state["biases"]]
        self.center, self.scale, self.start, self.width = (
            np.asarray(state[name], dtype=float) for name in ("center", "scale", "start", "width")
        )
        self.seed = int(state["seed"])
        return self


def _times(cov: Covariances, vectors: Tensor) -> Tensor:
    """Product of every bin's covariance with its vector (rows, state)."""
    table = torch.as_tensor(cov.table, dtype=torch.float32)
    distinct = np.unique(cov.index)
    if len(distinct) > len(vectors) / 8:
        return (table[torch.as_tensor(cov.index)] @ vectors[..., None])[..., 0]
    # Covariances of a filter with constant noise settle: most bins share one, and gathering copies would be slow.
    product = torch.empty_like(vectors)
    for which in distinct:
        rows = torch.as_tensor(np.flatnonzero(cov.index == which))
        product[rows] = vectors[rows] @ table[which]
    return product


def _histogram_loss(mass: Tensor, place: Tensor, periods: tuple[float | None, ...]) -> Tensor:
    """Ranked probability score, with a little log-score, of histograms (..., dims, cells) at `place` (..., dims)."""
    cell = place.floor().long().clamp(0, _CELLS - 1)
    likelihood = mass.gather(-1, cell[..., None]).squeeze(-1)
    loss = -_LOG_SCORE * torch.log(likelihood + 1e-6).mean()
    right = torch.arange(_CELLS) + 1.0
    for dim, period in enumerate(periods):
        part, at = mass[..., dim, :], place[..., dim]
        if period is not None:
            # A circle has no first cell: it is cut opposite the truth, bin by bin.
            cut = cell[..., dim, None] - _CELLS // 2
            part = part.gather(-1, (torch.arange(_CELLS) + cut) % _CELLS)
            at = at - cut[..., 0]
        below = torch.cumsum(part, dim=-1) - part / 2
        loss = loss + 20 / _CELLS * ((below - (right - at[..., None]).clamp(0, 1)) ** 2).sum(dim=-1).mean()
    return loss


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
