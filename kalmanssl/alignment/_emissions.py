"""Maximum likelihood of the emissions of a hidden Markov model whose transitions are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kalmanssl.alignment._reference import StateChain
from kalmanssl.alignment._sequences import Sequences

__all__ = ["EmissionFits", "fit_emissions"]

_LEAST_VARIANCE = 1e-3  # as a fraction of the variance of the data
_LEAST_LOG_DENSITY = -80.0  # relative to the most likely state; `exp` of lower values is subnormal and slow
_MEMORY = 2**25  # largest number of values in one array of posterior probabilities


@dataclass(frozen=True)
class EmissionFits:
    """Gaussian emissions of the states, from several starts.

    Attributes
    ----------
    means : (starts, states, dims)
    variance : (starts, dims)
        Shared by all states.
    posterior : (starts, steps, states)
        Probability of each state given the whole sequence, for the bins of `Sequences.bins`.
    log_likelihood : (starts,)
        Nats per step.
    """

    means: np.ndarray
    variance: np.ndarray
    posterior: np.ndarray
    log_likelihood: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> EmissionFits:
        arrays = (self.means, self.variance, self.posterior, self.log_likelihood)
        return EmissionFits(*(array[chosen] for array in arrays))


@torch.no_grad()
def fit_emissions(
    x: np.ndarray,
    sequences: Sequences,
    chain: StateChain,
    means: np.ndarray,
    n_iter: int,
    variance: np.ndarray | None = None,
) -> EmissionFits:
    """Fit the emission means of every state and a common variance by expectation maximization.

    The transitions stay as given (Rabiner 1989, Proceedings of the IEEE 77:257, with fixed transitions).

    Parameters
    ----------
    x : (time, dims)
    sequences : Sequences
    chain : StateChain
    means : (starts, states, dims)
        Where the iterations begin.
    n_iter : int
    variance : (starts, dims), optional
        By default the variance of `x`.
    """
    at_once = max(1, _MEMORY // (sequences.index.size * len(chain.occupancy)))
    if len(means) > at_once:
        parts = [slice(first, first + at_once) for first in range(0, len(means), at_once)]
        fits = [
            fit_emissions(x, sequences, chain, means[p], n_iter, None if variance is None else variance[p])
            for p in parts
        ]
        names = ("means", "variance", "posterior", "log_likelihood")
        return EmissionFits(*(np.concatenate([getattr(fit, name) for fit in fits]) for name in names))
    known = torch.from_numpy(sequences.index >= 0)
    data = torch.from_numpy(x[np.maximum(sequences.index, 0)]).float()
    flat, weight = data.flatten(0, 1), known.flatten().float()
    second_moment = (weight[:, None] * flat.square()).sum(0) / weight.sum()
    P = torch.from_numpy(chain.transition).float()
    start = torch.from_numpy(np.where(sequences.is_start[:, None], chain.initial, chain.occupancy)).float()
    mu = torch.from_numpy(means).float()
    var = torch.from_numpy(x.var(0)).float().repeat(len(mu), 1) if variance is None else torch.from_numpy(variance)
    for _ in range(n_iter):
        log_density = _log_density(flat, mu, var).reshape(len(mu), *known.shape, -1)
        posterior, total = _forward_backward(log_density, P, start, known)
        posterior = posterior.flatten(1, 2)
        count = posterior.sum(1)
        mu = torch.einsum("rns,nd->rsd", posterior, flat) / (count[..., None] + 1)
        explained = (count[..., None] * mu.square()).sum(1) / weight.sum()
        var = torch.maximum(second_moment - explained, _LEAST_VARIANCE * second_moment)
    kept = posterior[:, known.flatten()].numpy()
    return EmissionFits(mu.numpy(), var.numpy(), kept, (total / weight.sum()).numpy())


def _log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return the Gaussian log-density (starts, samples, states) of x (samples, dims)."""
    precision = 1 / variance
    square = torch.einsum("nd,rd->rn", x.square(), precision)[..., None]
    cross = torch.einsum("nd,rsd->rns", x, mean * precision[:, None])
    offset = (mean.square() * precision[:, None]).sum(-1)[:, None]
    log_norm = (2 * np.pi * variance).log().sum(-1)[:, None, None]
    return -0.5 * (square - 2 * cross + offset + log_norm)


def _forward_backward(log_density: Tensor, P: Tensor, start: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the posterior (starts, sequences, steps, states), zero after the end, and the log-likelihood (starts,)."""
    largest = log_density.amax(-1, keepdim=True)
    density = (log_density - largest).clamp_(min=_LEAST_LOG_DENSITY).exp_()
    density[:, ~known] = 1.0
    density = density.permute(2, 0, 1, 3).contiguous()  # the recursions read one step at a time
    forward, scale = torch.empty_like(density), torch.empty(density.shape[:3])
    state, n_steps = start.expand(len(log_density), -1, -1), len(density)
    for step in range(n_steps):
        state = torch.mul(state if step == 0 else state @ P, density[step], out=forward[step])
        torch.sum(state, -1, out=scale[step])
        state /= scale[step, ..., None]
    total = ((scale.permute(1, 2, 0).log() + largest[..., 0]) * known).sum((1, 2))
    backward, reverse = torch.ones_like(state), P.T.contiguous()
    for step in range(n_steps - 2, -1, -1):
        backward = (density[step + 1] * backward) @ reverse
        backward /= backward.sum(-1, keepdim=True)
        posterior = forward[step]
        posterior *= backward
        posterior /= posterior.sum(-1, keepdim=True)
    return forward.permute(1, 2, 0, 3) * known[..., None], total
