"""States of the fitted sessions: centers in the space of the latents, and a Markov chain between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2

from kalmanssl.alignment._sequences import Sequences, SessionLatents

__all__ = ["ReferenceStates", "StateChain", "principal_axes"]

_PRIOR = 3.0  # transitions to all states in proportion to their occupancy that are added to those of each state
_LONGEST = 10**9  # steps: transitions are counted in whole segments


@dataclass(frozen=True)
class StateChain:
    """A Markov chain.

    Attributes
    ----------
    transition : (states, states)
        Probability of the state of the next step (column), given that of this step (row).
    initial : (states,)
        Probabilities of the state at the start of a segment.
    occupancy : (states,)
        Share of the time in each state.
    """

    transition: np.ndarray
    initial: np.ndarray
    occupancy: np.ndarray

    def log_lift(self, discount: float) -> np.ndarray:
        """Return log(M / occupancy + 0.05), where M is the normalized successor representation of the chain.

        M[i, j] = (1 - g) Σ_k g^(k-1) P(state j in k steps | state i), for the discount g (Dayan 1993, Neural
        Computation 5:613). The ratio to the occupancy does not depend on how often a state is visited.
        """
        P = self.transition
        M = (1 - discount) * P @ np.linalg.inv(np.eye(len(P)) - discount * P)
        return np.log(M / self.occupancy + 0.05)


@dataclass(frozen=True)
class ReferenceStates:
    """States found in the latents of one or several sessions, and how the latents move between them.

    Attributes
    ----------
    centers : (states, latent)
        Mean of the smoothed latents in each state.
    axes : (latent, dims)
        Principal axes in which the states were found.
    chain : StateChain
    mean, cov : (latent,), (latent, latent)
        Moments of the smoothed latents.
    """

    centers: np.ndarray
    axes: np.ndarray
    chain: StateChain
    mean: np.ndarray
    cov: np.ndarray

    @classmethod
    def find(cls, sessions: Sequence[SessionLatents], n_states: int, n_dims: int, seed: int) -> ReferenceStates:
        """Find states by k-means on the smoothed latents of all sessions, and count the transitions between them.

        Parameters
        ----------
        sessions : sequence of SessionLatents
            In the same coordinates.
        n_states, n_dims : int
            Largest number of states, and principal axes to find them in.
        seed : int
        """
        pooled = np.concatenate([one.smoothed for one in sessions])
        axes = principal_axes(pooled, n_dims)
        n_states = max(2, min(n_states, len(pooled) // 10))
        _, labels = kmeans2(pooled @ axes, n_states, minit="++", seed=seed)
        used, labels = np.unique(labels, return_inverse=True)  # a cluster can be empty
        count = np.bincount(labels)
        centers = np.stack([np.bincount(labels, column) / count for column in pooled.T], axis=1)
        occupancy = count / count.sum()
        transition = _PRIOR * np.tile(occupancy, (len(used), 1))
        initial = occupancy.copy()
        first = 0
        for one in sessions:
            own = labels[first : first + len(one.smoothed)]
            first += len(own)
            sequences = Sequences.of(one, one.bins_per_step, _LONGEST)
            np.add.at(transition, sequences.transitions(own), 1.0)
            np.add.at(initial, own[sequences.index[:, 0]], 1.0)
        chain = StateChain(transition / transition.sum(1, keepdims=True), initial / initial.sum(), occupancy)
        return cls(centers, axes, chain, pooled.mean(0), np.cov(pooled.T))


def principal_axes(latents: np.ndarray, n_dims: int) -> np.ndarray:
    """Return the directions (latent, dims) of largest variance of latents (time, latent)."""
    _, vectors = np.linalg.eigh(np.cov(latents.T))
    return vectors[:, ::-1][:, :n_dims]
