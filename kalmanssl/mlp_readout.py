"""The default readout: an ensemble of small networks that give a histogram over the behaviour.

Decoding errors of neural codes are heavy-tailed and at times two-moded (the wrong end, the wrong direction), so the
residual noise is a free histogram rather than a Gaussian.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from kalmanssl.predictive import GridPredictive

__all__ = ["MLPReadout"]

_SMOOTHING = 1e-3  # share of the predictive that is spread over all cells


class MLPReadout:
    """Histogram regression with an ensemble of MLPs, averaged over the latent posterior.

    Parameters
    ----------
    periods : tuple of float or None
        One per dimension of the behaviour.
    """

    def __init__(
        self,
        periods: tuple[float | None, ...],
        *,
        n_samples: int | None = None,
        cells: int = 96,
        members: int = 4,
        hidden: int = 64,
        steps: int = 600,
        batch: int = 256,
        dropout: float = 0.2,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        train_samples: int = 2,
    ) -> None:
        self.periods = periods
        self.n_samples = n_samples
        self.cells = cells
        self.members = members
        self.hidden = hidden
        self.steps = steps
        self.batch = batch
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.train_samples = train_samples

    def fit(
        self, mean: np.ndarray, cov: np.ndarray | None, behavior: np.ndarray, rng: np.random.Generator
    ) -> MLPReadout:
        """Train the ensemble."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self.center, self.scale = mean.mean(axis=0), np.maximum(mean.std(axis=0), 1e-12)
        self.start, self.width = np.empty(len(self.periods)), np.empty(len(self.periods))
        for dim, period in enumerate(self.periods):
            low, high = (0.0, period) if period else (behavior[:, dim].min(), behavior[:, dim].max())
            margin = 0.0 if period else 0.08 * (high - low)
            self.start[dim] = low - margin
            self.width[dim] = (high - low + 2 * margin) / self.cells
        place = (behavior - self.start) / self.width
        for dim, period in enumerate(self.periods):
            if period:
                place[:, dim] %= self.cells
        self.seed = int(rng.integers(2**62))
        self._train(self._standard(mean), self._root(cov), torch.as_tensor(place, dtype=torch.float32), generator)
        return self

    def _standard(self, mean: np.ndarray) -> Tensor:
        return torch.as_tensor((mean - self.center) / self.scale, dtype=torch.float32)

    def _root(self, cov: np.ndarray | None) -> Tensor | None:
        if cov is None:
            return None
        scaled = torch.as_tensor(cov / self.scale[:, None] / self.scale, dtype=torch.float64)
        jitter = 1e-9 * scaled.diagonal(dim1=1, dim2=2).mean() + 1e-15
        root = torch.linalg.cholesky(scaled + jitter * torch.eye(scaled.shape[1], dtype=scaled.dtype))
        return root.float()

    def _train(self, x: Tensor, root: Tensor | None, place: Tensor, generator: torch.Generator) -> None:
        dims = len(self.periods)
        sizes = [x.shape[1], self.hidden, self.hidden, dims * self.cells]
        self.weights = []
        self.biases = []
        for index, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            gain = math.sqrt((0.1 if index == len(sizes) - 2 else 2.0) / inputs)
            weight = gain * torch.randn(self.members, inputs, outputs, generator=generator)
            self.weights.append(weight.requires_grad_())
            self.biases.append(torch.zeros(self.members, 1, outputs, requires_grad=True))
        parameters = self.weights + self.biases
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.steps, pct_start=0.15
        )
        samples = 1 if root is None else self.train_samples
        centers = torch.arange(self.cells) + 0.5
        for _ in range(self.steps):
            picked = torch.randint(0, len(x), (self.members, self.batch), generator=generator)
            batch = x[picked]
            if root is not None:
                noise = torch.randn(self.members, self.batch, x.shape[1], samples, generator=generator)
                batch = batch[:, :, None] + (root[picked] @ noise).transpose(2, 3)
                batch = batch.reshape(self.members, self.batch * samples, -1)
            logits = self._logits(batch, generator).view(self.members, self.batch, samples, dims, self.cells)
            mass = torch.softmax(logits, dim=-1).mean(dim=2)
            loss = _histogram_loss(mass, place[picked], self.periods, centers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self.weights = [weight.detach() for weight in self.weights]
        self.biases = [bias.detach() for bias in self.biases]

    def _logits(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits (members, rows, outputs) of standardised latents (members or 1, rows, state)."""
        x = x.expand(self.members, -1, -1)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if index:
                x = torch.relu(x)
                if generator is not None and self.dropout:
                    keep = torch.rand(x.shape, generator=generator) >= self.dropout
                    x = x * keep / (1 - self.dropout)
            x = torch.baddbmm(bias, x, weight)
        return x

    def _mass(self, x: Tensor) -> Tensor:
        """Histograms (rows, dims, cells) of standardised latents (rows, state), averaged over the ensemble."""
        logits = self._logits(x[None]).view(self.members, len(x), len(self.periods), self.cells)
        return torch.softmax(logits, dim=-1).mean(dim=0)

    def predict(self, mean: np.ndarray, cov: np.ndarray | None) -> list[GridPredictive]:
        """Histograms, averaged over the latent posterior."""
        x, root = self._standard(mean), self._root(cov)
        parts = []
        for first in range(0, len(x), 8192):
            rows = slice(first, first + 8192)
            part = x[rows], None if root is None else root[rows]
            parts.append(self._quadrature(*part) if self.n_samples is None else self._sampled(*part))
        mass = torch.cat(parts).numpy()
        mass = (1 - _SMOOTHING) * mass + _SMOOTHING / self.cells
        predictives = []
        for dim, period in enumerate(self.periods):
            if period:
                predictives.append(GridPredictive.circular(mass[:, dim], period))
            else:
                start = np.full(len(mass), self.start[dim])
                predictives.append(GridPredictive(mass[:, dim], start, float(self.width[dim])))
        return predictives

    def _sampled(self, x: Tensor, root: Tensor | None) -> Tensor:
        """Average over `n_samples` draws from the posterior."""
        if root is None:
            with torch.inference_mode():
                return self._mass(x)
        generator = torch.Generator().manual_seed(self.seed)
        total = torch.zeros(len(x), len(self.periods), self.cells)
        with torch.inference_mode():
            for _ in range(int(self.n_samples or 1)):
                noise = torch.randn(x.shape, generator=generator)
                total += self._mass(x + (root @ noise[..., None])[..., 0])
        return total / int(self.n_samples or 1)

    def _quadrature(self, x: Tensor, root: Tensor | None) -> Tensor:
        """Average along the one direction of the posterior that moves the decoded behaviour most.

        Samples matter only by how far they move the output. To first order that is the direction `P g`, `g` the
        gradient of the output's mean; along it Gauss-Hermite nodes do the work of the samples.
        """
        if root is None:
            with torch.inference_mode():
                return self._mass(x)
        mass = []
        for dim in range(len(self.periods)):
            here = x.clone().requires_grad_()
            centre = self._mass(here)[:, dim]
            (gradient,) = torch.autograd.grad(self._location(centre, dim).sum(), here)
            with torch.inference_mode():
                pulled = (root.transpose(1, 2) @ gradient[..., None])[..., 0]
                length = pulled.norm(dim=1, keepdim=True).clamp_min(1e-12)
                direction = (root @ (pulled / length)[..., None])[..., 0]
                total = _NODES[0][1] * centre.detach()
                for node, weight in _NODES[1:]:
                    total += weight * self._mass(x + node * direction)[:, dim]
                mass.append(total)
        return torch.stack(mass, dim=1)

    def _location(self, mass: Tensor, dim: int) -> Tensor:
        """Mean cell of histograms (rows, cells); on a circle, the cell of the circular mean."""
        cell = torch.arange(self.cells) + 0.5
        if not self.periods[dim]:
            return mass @ cell
        angle = 2 * math.pi * cell / self.cells
        return torch.atan2(mass @ torch.sin(angle), mass @ torch.cos(angle)) * self.cells / (2 * math.pi)


# Gauss-Hermite nodes for a standard normal, exact to the fifth power, and their weights.
_NODES = ((0.0, 2 / 3), (math.sqrt(3), 1 / 6), (-math.sqrt(3), 1 / 6))


def _histogram_loss(mass: Tensor, place: Tensor, periods: tuple[float | None, ...], centers: Tensor) -> Tensor:
    """Ranked probability score, with a little log-score, of histograms (..., dims, cells) at `place` (..., dims)."""
    cells = mass.shape[-1]
    cell = place.floor().long().clamp(0, cells - 1)
    likelihood = mass.gather(-1, cell[..., None]).squeeze(-1)
    loss = -0.1 * torch.log(likelihood + 1e-6).mean()
    for dim, period in enumerate(periods):
        part, at = mass[..., dim, :], place[..., dim]
        if period:
            # A circle has no first cell: it is cut opposite the truth of each bin.
            shift = (torch.arange(cells) + (cell[..., dim] - cells // 2)[..., None]) % cells
            part = part.gather(-1, shift)
            at = (at - cell[..., dim]) + cells // 2
        below = torch.cumsum(part, dim=-1) - part / 2
        step = (centers + 0.5 - at[..., None]).clamp(0, 1)
        loss = loss + 20 / cells * ((below - step) ** 2).sum(dim=-1).mean()
    return loss
