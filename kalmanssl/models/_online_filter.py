"""The Kalman filter of a predictor for sequences whose steps arrive one at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from kalmanssl.kalman.kernels import has_compiler
from kalmanssl.models._kalman_predictor import KalmanPredictor
from kalmanssl.networks import BoundedNoise, ConstantNoise, NoiseContext, NoiseHead

__all__ = ["OnlineKalmanFilter", "StepMoments"]

_MAX_STORED = 256  # covariances from the start of a sequence to the steady state that are kept for later sequences
_CONVERGED = 1e-13  # relative change of the covariance in one step, after which it is constant


class StepMoments(NamedTuple):
    """Moments of the state after one step.

    Attributes
    ----------
    mean : (state,)
    cov : (state, state)
    innovation : (latent,) or None
        None for a missing step.
    is_steady : bool
        Whether the covariance is that of the steady state.
    """

    mean: np.ndarray
    cov: np.ndarray
    innovation: np.ndarray | None
    is_steady: bool


class OnlineKalmanFilter:
    """Filter several sequences of latents whose steps arrive one at a time.

    The moments are those of `KalmanPredictor.posterior` on whole sequences. They are computed in numpy and float64.
    With constant noise, the covariance and the gain are constant after the first steps.

    Parameters
    ----------
    predictor : KalmanPredictor
        In float64.
    n_sequences, n_features : int

    Attributes
    ----------
    mean, cov : (sequences, state), (sequences, state, state)
        Filtered moments of each sequence.
    started : (sequences,) bool
        Whether a sequence has had a step.
    n_observed : (sequences,) int
        Steps of a sequence; -1 if one of them was missing.
    is_steady : (sequences,) bool
        Whether the covariance of a sequence is that of the steady state.
    innovations : (sequences, history, latent)
        Last innovations of each sequence, the latest last.
    """

    def __init__(self, predictor: KalmanPredictor, n_sequences: int, n_features: int) -> None:
        dynamics = {name: value.detach().double().numpy() for name, value in predictor.dynamics().items()}
        self._A, self._b, self._m0, self._P0 = (np.array(dynamics[name]) for name in ("A", "b", "m0", "P0"))
        self._A_transposed = np.ascontiguousarray(self._A.T)
        self._kernel: Any = None
        if has_compiler():
            from kalmanssl.models._online_filter_kernels import steady_kernel

            self._kernel = steady_kernel  # compiles now
            result, innovation = np.empty(len(self._b)), np.empty(1)
            self._kernel(self._m0, self._m0[:1], self._A_transposed, self._b, self._A[:1], result, innovation)
        self._heads = predictor.noise_heads
        self._constant = [_constant_variances(head) for head in self._heads]
        self._is_constant = all(variances is not None for variances in self._constant)
        self._may_lack_observation = type(self._heads[0]).observed is not NoiseHead.observed
        self._no_activity = torch.zeros(n_features, dtype=torch.float64)
        self._latent_dim, state = predictor.latent_dim, predictor.state_dim
        self._history = max(head.history for head in self._heads)
        self.mean, self.cov = np.zeros((n_sequences, state)), np.zeros((n_sequences, state, state))
        self.innovations = np.zeros((n_sequences, self._history, self._latent_dim))
        self.started, self.is_steady = np.zeros((2, n_sequences), dtype=bool)
        self.n_observed = np.zeros(n_sequences, dtype=int)
        self._steady: tuple[np.ndarray, np.ndarray] | None = None
        self._first_covs: list[np.ndarray] = []  # of steps from the start of a sequence

    def reset(self) -> None:
        """Begin new sequences."""
        self.started[:], self.is_steady[:] = False, False
        self.innovations[:], self.n_observed[:] = 0.0, 0

    def is_observed(self, features: np.ndarray) -> bool:
        """Return whether the noise head regards a step with these features (features,) as observed."""
        if not self._may_lack_observation:
            return True
        with torch.inference_mode():
            found = self._heads[0].observed(NoiseContext(torch.from_numpy(features)[None, None]))
        return found is None or bool(found.all())

    def step(self, sequence: int, latent: np.ndarray | None, features: np.ndarray | None) -> StepMoments:
        """Compute the moments after the next step of a sequence; the state of the filter does not change.

        Parameters
        ----------
        sequence : int
        latent : (latent,) or None
            None if the step has no observation.
        features : (features,) or None
            Input of the encoder, for noise that depends on it. None if it is missing; the noise is then that without
            activity, or its constant part for `BoundedNoise`.
        """
        if not self.started[sequence]:
            mean = self._m0.copy()
        elif latent is not None and self.is_steady[sequence]:
            return self._steady_step(self.mean[sequence], latent)
        else:
            mean = self._A.dot(self.mean[sequence]) + self._b
        R, Q = self._variances(sequence, features)
        if latent is None:
            return StepMoments(mean, self._predicted_cov(sequence, Q), None, False)
        cov = self._filtered_cov(sequence, R, Q)
        innovation = latent - mean[: self._latent_dim]
        mean = mean + cov[:, : self._latent_dim] / R @ innovation
        steady = bool(self._is_constant and self.started[sequence] and _is_close(self.cov[sequence], cov))
        return StepMoments(mean, cov, innovation, steady)

    def _steady_step(self, before: np.ndarray, latent: np.ndarray) -> StepMoments:
        gain, cov = self.steady_state()
        if self._kernel is None:
            mean = self._A.dot(before) + self._b
            innovation = latent - mean[: self._latent_dim]
            return StepMoments(mean + gain.dot(innovation), cov, innovation, True)
        mean, innovation = np.empty(len(self._b)), np.empty(self._latent_dim)
        self._kernel(before, latent, self._A_transposed, self._b, gain.T, mean, innovation)
        return StepMoments(mean, cov, innovation, True)

    def _predicted_cov(self, sequence: int, Q: np.ndarray) -> np.ndarray:
        if not self.started[sequence]:
            return np.diag(self._P0)
        cov = self._A @ self.cov[sequence] @ self._A.T
        cov = (cov + cov.T) / 2
        cov[np.diag_indices_from(cov)] += Q
        return cov

    def _filtered_cov(self, sequence: int, R: np.ndarray, Q: np.ndarray) -> np.ndarray:
        """Return the covariance after an observation; with constant noise it only depends on the number of steps."""
        number = int(self.n_observed[sequence]) if self._is_constant else -1
        if 0 <= number < len(self._first_covs):
            return self._first_covs[number]
        cov = _update(self._predicted_cov(sequence, Q), R)
        if number == len(self._first_covs) < _MAX_STORED:
            self._first_covs.append(cov)
        return cov

    def keep(self, sequence: int, moments: StepMoments) -> None:
        """Make moments that `step` returned the state of a sequence."""
        self.mean[sequence] = moments.mean
        if not moments.is_steady:
            self.cov[sequence], self.is_steady[sequence] = moments.cov, False
        elif not self.is_steady[sequence]:
            self.is_steady[sequence] = True
            if self._steady is None:
                self.cov[sequence] = moments.cov
            self.cov[sequence] = self.steady_state()[1]
        self.started[sequence] = True
        if moments.innovation is None:
            self.n_observed[sequence] = -1
        elif self.n_observed[sequence] >= 0:
            self.n_observed[sequence] += 1
        if self._history:
            recent = self.innovations[sequence]
            recent[:-1] = recent[1:]
            recent[-1] = 0.0 if moments.innovation is None else moments.innovation

    def steady_state(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the gain (state, latent) and the filtered covariance in the steady state, once a sequence has it."""
        if self._steady is None:
            cov = self.cov[int(np.flatnonzero(self.is_steady)[0])].copy()
            cov.flags.writeable = False
            # Its transpose is contiguous.
            self._steady = np.ascontiguousarray((cov[:, : self._latent_dim] / self._constant[0]).T).T, cov
        return self._steady

    def _variances(self, sequence: int, features: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the variances of the observation noise and of the process noise of the next step of a sequence."""
        R, Q = (
            self._head_variances(head, sequence, features) if known is None else known
            for head, known in zip(self._heads, self._constant, strict=True)
        )
        return R, Q

    def _head_variances(self, head: NoiseHead, sequence: int, features: np.ndarray | None) -> np.ndarray:
        if features is None and isinstance(head, BoundedNoise) and not head.is_sequential:
            return _to_numpy(ConstantNoise.forward(head))
        values = self._no_activity if features is None else torch.from_numpy(features)
        with torch.inference_mode():
            if not head.is_sequential:
                return _to_numpy(head(NoiseContext(values[None, None])))
            state = self.mean[sequence] if self.started[sequence] else self._m0
            recent = self.innovations[sequence][self._history - head.history :]
            context = NoiseContext(
                values[None],
                torch.from_numpy(state)[None] if head.uses_state else None,
                torch.from_numpy(recent)[None] if head.history else None,
            )
            return _to_numpy(head(context))


def _constant_variances(head: NoiseHead) -> np.ndarray | None:
    """Return the variances of a head that does not vary, and None for any other."""
    if type(head) is ConstantNoise or (isinstance(head, BoundedNoise) and not head.varies):
        return _to_numpy(head())
    return None


def _to_numpy(variances: torch.Tensor) -> np.ndarray:
    return np.array(variances.detach().double().reshape(-1).numpy())


def _update(cov: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Return the covariance after an observation of the first coordinates with noise variances R, in Joseph's form."""
    n = len(R)
    innovation_cov = cov[:n, :n].copy()
    innovation_cov[np.diag_indices(n)] += R
    gain = np.linalg.solve(innovation_cov, cov[:n]).T
    reduced = cov - gain @ cov[:n]
    updated = reduced - reduced[:, :n] @ gain.T + gain * R @ gain.T
    return (updated + updated.T) / 2


def _is_close(before: np.ndarray, now: np.ndarray) -> bool:
    """Return whether two successive covariances are equal up to rounding."""
    sd = np.sqrt(now.diagonal())
    return bool((np.abs(now - before) <= _CONVERGED * sd[:, None] * sd).all())
