"""Filter and smoother of a model that stays the same: its covariances settle, and are then used again.

With constant parameters and nothing missing, covariances and gains depend neither on the data nor, after a while, on
time. They are computed until they no longer change; what is left for every step is one product of a matrix with a
vector. This is what makes a long recording cheap to go through, in time and in memory. For inference only: no
derivatives.

Anderson & Moore, Optimal Filtering (1979), Section 4.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kalmanssl.kalman.arguments import check_model, check_observations, full_noise
from kalmanssl.kalman.factorize import safe_cholesky, symmetrise
from kalmanssl.kalman.reference import LOG_2PI, predict, update

__all__ = ["StationaryFilter", "StationaryResult"]

_SETTLED = 1e-12  # largest change of an entry, in units of the largest entry


@dataclass(frozen=True)
class StationaryResult:
    """Moments of the state at every step, with the few covariances that differ from each other.

    Attributes
    ----------
    mean : (batch, time, state)
    covs : (distinct, state, state)
    cov_index : (time,)
        Which of `covs` belongs to each step; the same for all sequences.
    log_likelihood : (batch, time)
        One-step predictive log-density of the observations, nats.
    """

    mean: Tensor
    covs: Tensor
    cov_index: Tensor
    log_likelihood: Tensor


class StationaryFilter:
    """The filter of one constant model, for any number of sequences without gaps.

    Parameters
    ----------
    A, Q, C, R, b, m0, P0
        As for `kalmanssl.kalman.kalman_filter`, without batch and time axes. Everything is computed in float64.

    Raises
    ------
    ValueError
        If a parameter has a wrong shape or value.
    """

    def __init__(
        self,
        *,
        A: Tensor,
        Q: Tensor,
        C: Tensor,
        R: Tensor,
        b: Tensor | None = None,
        m0: Tensor | None = None,
        P0: Tensor | None = None,
    ) -> None:
        given: dict[str, Any] = {"A": A, "Q": Q, "C": C, "R": R, "b": b, "m0": m0, "P0": P0}
        given = {name: None if p is None else p.detach().double() for name, p in given.items()}
        like = torch.zeros((), dtype=torch.float64, device=A.device)
        model = check_model(like, 1, 1, **given, obs=C.shape[-2])
        self.A, self.b, self.C, self.m0 = model.A[0, 0], model.b[0, 0], model.C[0, 0], model.m0
        self._Q, self._R = full_noise(model.Q)[0, 0], full_noise(model.R)[0, 0]
        self._predicted = [model.P0[0]]
        self._filtered: list[Tensor] = []
        self._gain: list[Tensor] = []
        self._whitener: list[Tensor] = []
        self._backward: list[Tensor] = []
        self._settled = False

    def filter(self, y: Tensor) -> StationaryResult:
        """Filter y (batch, time, obs).

        Raises
        ------
        ValueError
            If y has a wrong shape or is not finite.
        """
        return self._filter(y)[0]

    def smooth(self, y: Tensor) -> StationaryResult:
        """Smooth y (batch, time, obs): moments given the whole sequence.

        Raises
        ------
        ValueError
            If y has a wrong shape or is not finite.
        """
        filtered, predicted_mean = self._filter(y)
        steps = y.shape[1]
        known = len(self._filtered)
        gains = self._smoother_gains(min(known, max(steps - 1, 1)))
        mean = filtered.mean[:, -1]
        means = [mean]
        settled_gain = gains[-1].mT
        # What does not depend on the later states is done for all steps at once.
        offset = filtered.mean[:, :-1] - self._by_step(predicted_mean[:, 1:], [g.mT for g in gains])
        for t in reversed(range(steps - 1)):
            mean = torch.addmm(offset[:, t], mean, gains[t].mT if t < len(gains) else settled_gain)
            means.append(mean)
        covs, index = self._smoothed_covs(steps, gains)
        return StationaryResult(torch.stack(means[::-1], 1), covs, index, filtered.log_likelihood)

    def _filter(self, y: Tensor) -> tuple[StationaryResult, Tensor]:
        y = check_observations(y, None).y.double()
        batch, steps, _ = y.shape
        self._extend(steps)
        keep = [torch.eye(len(self.A), dtype=y.dtype, device=y.device) - K @ self.C for K in self._gain]
        closed = [(k @ self.A).mT for k in keep[:steps]]
        # mf_t = (I - K C) (A mf_{t-1} + b) + K y_t: all but the first term at once, then one product a step.
        driven = self._by_step(y, [K.mT for K in self._gain])
        driven = driven + self._by_step(self.b.expand(1, steps, -1), [k.mT for k in keep])
        mean = torch.addmm(y[:, 0] @ self._gain[0].mT, self.m0.expand(batch, -1), keep[0].mT)
        means = [mean]
        last = closed[-1]
        for t in range(1, steps):
            mean = torch.addmm(driven[:, t], mean, closed[t] if t < len(closed) else last)
            means.append(mean)
        filtered_mean = torch.stack(means, 1)
        predicted_mean = torch.cat([self.m0.expand(batch, 1, -1), filtered_mean[:, :-1] @ self.A.mT + self.b], dim=1)
        innovation = y - predicted_mean @ self.C.mT
        whitened = self._by_step(innovation, [W.mT for W in self._whitener])
        half_log_det = torch.stack([-W.diagonal().log().sum() for W in self._whitener])
        index = torch.arange(steps, device=y.device).clamp_max(len(self._filtered) - 1)
        log_likelihood = -0.5 * whitened.square().sum(-1) - half_log_det[index] - 0.5 * LOG_2PI * y.shape[-1]
        used = int(index[-1]) + 1
        return StationaryResult(
            filtered_mean, torch.stack(self._filtered[:used]), index, log_likelihood
        ), predicted_mean

    def _extend(self, steps: int) -> None:
        """Run the covariance recursion until it settles or `steps` are known."""
        nothing = self.m0.new_zeros(1, len(self.A))
        unseen = self.m0.new_zeros(1, len(self.C))
        while not self._settled and len(self._filtered) < steps:
            _, cov, _, gain, _, innovation_cov = update(
                nothing, self._predicted[-1][None], unseen, self.C[None], self._R[None]
            )
            factor = safe_cholesky(innovation_cov[0], "innovation covariance C P C' + R")
            eye = torch.eye(len(self.C), dtype=factor.dtype, device=factor.device)
            self._whitener.append(torch.linalg.solve_triangular(factor, eye, upper=False))
            self._gain.append(gain[0])
            self._filtered.append(cov[0])
            self._predicted.append(predict(nothing, cov, self.A[None], self.b[None], self._Q[None])[1][0])
            before, now = self._predicted[-2:]
            self._settled = bool((now - before).abs().max() <= _SETTLED * now.abs().max())

    def _smoother_gains(self, count: int) -> list[Tensor]:
        while len(self._backward) < count:
            i = len(self._backward)
            factor = safe_cholesky(self._predicted[i + 1], "predicted covariance A P A' + Q")
            self._backward.append(torch.cholesky_solve(self.A @ self._filtered[i], factor).mT)
        return self._backward[:count]

    def _smoothed_covs(self, steps: int, gains: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Backwards from the end; what lies between the two ends is the same and computed once."""
        known = len(self._filtered)
        cov = self._filtered[min(steps, known) - 1]
        covs, index = [cov], torch.zeros(steps, dtype=torch.long, device=cov.device)
        t = steps - 1
        while t > 0:
            t -= 1
            i = min(t, len(gains) - 1)
            keep = torch.eye(len(cov), dtype=cov.dtype, device=cov.device) - gains[i] @ self.A
            earlier = symmetrise(
                keep @ self._filtered[min(t, known - 1)] @ keep.mT + gains[i] @ (self._Q + cov) @ gains[i].mT
            )
            settled = (earlier - cov).abs().max() <= _SETTLED * cov.abs().max()
            cov = earlier
            covs.append(cov)
            index[t] = len(covs) - 1
            if settled and t > known:
                index[known:t] = len(covs) - 1
                t = known
        return torch.stack(covs), index

    @staticmethod
    def _by_step(rows: Tensor, matrices: list[Tensor]) -> Tensor:
        """Rows (batch, time, n) times the matrix of their step; the last matrix serves all steps beyond the list."""
        known = min(len(matrices), rows.shape[1])
        first = torch.einsum("btn,tnm->btm", rows[:, :known], torch.stack(matrices[:known])) if known else rows[:, :0]
        return torch.cat([first, rows[:, known:] @ matrices[-1]], dim=1) if rows.shape[1] > known else first
