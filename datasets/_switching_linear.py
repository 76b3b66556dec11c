"""A linear dynamical system that switches between rotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kalmanssl.datasets._motions import Motion, Trajectories
from kalmanssl.utils.validation import check_condition

__all__ = ["SwitchingLinear"]

_MODES, _SWITCH_RATE = 4, 0.02  # number of systems, and probability of another one in the next frame
_DECAY = 0.97  # length of a vector after one frame without noise
_SLOWEST, _FASTEST = 0.1, 0.6  # rad per frame of the rotations
_BURN_IN = 100  # frames discarded at the start; the memory of a start at zero is 0.97^100 = 0.05 then


@dataclass(frozen=True)
class SwitchingLinear(Motion):
    """A linear system that switches between four rotations, with Gaussian noise of constant covariance.

    s_t = 0.97 R_k s_{t-1} + noise; with probability 0.02 the system k of a frame is another one than that of the frame
    before. R_k rotates pairs of directions by 0.1 to 0.6 rad per frame, in a basis of its own; both are drawn once per
    number of dimensions. The next position is a mixture of four Gaussians, since k is known only from the past
    positions; `predicted` is its mean, from the exact filter over k. Such systems are a test of system identification
    by contrastive learning (Laiz, Schmidt & Schneider 2025, ICLR, arXiv 2410.14673).

    Attributes
    ----------
    dims : int
        Number of dimensions, 3 to 10.
    process_variance : float
        Variance of the noise in each coordinate.
    """

    dims: int = 6
    process_variance: float = 0.05
    mixing: ClassVar[str] = "network"
    starts_at_full_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_condition("dims", self.dims, self.dims in range(3, 11), "a whole number from 3 to 10")
        v = self.process_variance
        check_condition("process_variance", v, 0 < v < np.inf, "positive")

    def transitions(self) -> np.ndarray:
        """The matrices 0.97 R_k, (systems, dims, dims)."""
        rng = np.random.default_rng(self.dims)
        found = np.empty((_MODES, self.dims, self.dims))
        for matrix in found:
            basis, _ = np.linalg.qr(rng.standard_normal((self.dims, self.dims)))
            turn = np.eye(self.dims)
            for pair, angle in enumerate(rng.uniform(_SLOWEST, _FASTEST, self.dims // 2)):
                cos, sin = np.cos(angle), np.sin(angle)
                turn[2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2] = [[cos, -sin], [sin, cos]]
            matrix[:] = _DECAY * basis @ turn @ basis.T
        return found

    def draw(self, seed: np.random.SeedSequence, n_videos: int, n_frames: int, published: bool) -> Trajectories:
        """Draw trajectories, see `Motion.draw`; there is no published generator of these."""
        switch, choice, noise = (np.random.default_rng(s) for s in seed.spawn(3))
        frames = _BURN_IN + n_frames
        switches = switch.random((n_videos, frames)) < _SWITCH_RATE
        other = choice.integers(1, _MODES, (n_videos, frames))
        mode = np.cumsum(np.where(switches, other, 0), axis=1) % _MODES
        shift = np.sqrt(self.process_variance) * noise.standard_normal((n_videos, frames, self.dims))
        A = self.transitions()
        path, mean = np.empty((frames, n_videos, self.dims)), np.empty((frames, n_videos, self.dims))
        here = np.zeros((n_videos, self.dims))
        probability = np.full((n_videos, _MODES), 1.0 / _MODES)  # of each system in this frame, given the past
        for t in range(frames):
            candidates = np.einsum("kij,nj->nki", A, here)
            mean[t] = np.einsum("nk,nki->ni", probability, candidates)
            here = path[t] = candidates[np.arange(n_videos), mode[:, t]] + shift[:, t]
            error = ((here[:, None] - candidates) ** 2).sum(-1) / (2 * self.process_variance)
            probability = probability * np.exp(error.min(axis=1, keepdims=True) - error)
            probability /= probability.sum(axis=1, keepdims=True)
            probability = (1 - _SWITCH_RATE) * probability + _SWITCH_RATE / (_MODES - 1) * (1 - probability)
        mean[_BURN_IN] = np.nan
        position, predicted = (np.ascontiguousarray(x[_BURN_IN:].swapaxes(0, 1)) for x in (path, mean))
        return Trajectories(position, predicted)
