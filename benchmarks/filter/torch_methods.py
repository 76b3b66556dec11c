"""Filters in torch: ours, the loop of published code, a numerically careful loop, and torch-kf."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from filter.methods import GRADIENTS, Answer
from filter.problems import Problem

__all__ = ["TorchWork", "careful", "ours", "published", "torch_kf"]

LOG_2PI = math.log(2 * math.pi)

# (y, A, Q, C, R, with_moments) -> log-likelihood (batch, steps) and, with moments, means and covariances.
TorchFilter = Callable[..., tuple[Tensor, ...]]


class TorchWork:
    """A filter in torch on a problem; moments are computed in the forward task only."""

    compile_s = 0.0

    def __init__(
        self,
        function: TorchFilter,
        problem: Problem,
        task: str,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        self.function, self.gradients = function, task == "gradients"
        names = ("y", "A", "Q", "C", "R")
        self.tensors = {name: torch.tensor(getattr(problem, name), dtype=dtype, device=device) for name in names}
        if self.gradients:
            for name in GRADIENTS:
                self.tensors[name].requires_grad_()

    def __call__(self) -> tuple[Tensor, ...]:
        """Return the log-likelihoods, and moments or gradients."""
        if not self.gradients:
            with torch.no_grad():
                return self.function(*self.tensors.values(), with_moments=True)
        (log_likelihood,) = self.function(*self.tensors.values(), with_moments=False)
        leaves = [self.tensors[name] for name in GRADIENTS]
        return log_likelihood.detach(), *torch.autograd.grad(log_likelihood.sum(), leaves)

    def answer(self, result: tuple[Tensor, ...]) -> Answer:
        """Convert the result of a call."""
        first, *others = (v.detach().double().numpy() for v in result)
        if self.gradients:
            return Answer(first.sum(-1), gradients=dict(zip(GRADIENTS, others, strict=True)))
        mean, cov = others
        return Answer(first.sum(-1), mean, cov)


def ours(**options: Any) -> TorchFilter:
    """Return `kalmanssl.kalman.kalman_filter` with options."""
    from kalmanssl.kalman import kalman_filter

    def run(y: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, with_moments: bool) -> tuple[Tensor, ...]:
        out = kalman_filter(y, A=A, Q=Q, C=C, R=R, m0=y.new_zeros(len(A)), P0=y.new_ones(len(A)), **options)
        return (out.log_likelihood, out.filtered_mean, out.filtered_cov) if with_moments else (out.log_likelihood,)

    return run


def _start(y: Tensor, A: Tensor, R: Tensor) -> tuple[int, int, Tensor, Tensor, Tensor]:
    """Return batch, steps, moments of the first state, and R as (batch or 1, steps or 1, channels, channels)."""
    batch, steps, _ = y.shape
    states = len(A)
    full = R.diag_embed() if R.ndim == 3 else R.diag()[None, None]
    mean = y.new_zeros(batch, states)
    return batch, steps, mean, torch.eye(states, dtype=y.dtype).expand(batch, states, states), full


def careful(y: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, with_moments: bool) -> tuple[Tensor, ...]:
    """Filter in a careful loop: one Cholesky factor, Joseph's form, symmetric covariances, no writes into slices."""
    _, _, mean, cov, full_R = _start(y, A, R)
    Q, eye = Q.diag(), torch.eye(len(A), dtype=y.dtype)
    noise = full_R.expand(-1, y.shape[1], -1, -1).unbind(1)
    means, covs, terms = [], [], []
    for t, seen in enumerate(y.unbind(1)):
        if t > 0:
            mean = mean @ A.mT
            cov = A @ cov @ A.mT + Q
        cross = cov @ C.mT
        factor = torch.linalg.cholesky_ex(C @ cross + noise[t])[0]
        gain = torch.cholesky_solve(cross.mT, factor).mT
        error = (seen - mean @ C.mT)[..., None]
        white = torch.linalg.solve_triangular(factor, error, upper=False)[..., 0]
        terms.append(-0.5 * white.square().sum(-1) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1))
        mean = mean + (gain @ error)[..., 0]
        keep = eye - gain @ C
        cov = keep @ cov @ keep.mT + gain @ noise[t] @ gain.mT
        cov = 0.5 * (cov + cov.mT)
        means.append(mean)
        covs.append(cov)
    log_likelihood = torch.stack(terms, 1) - 0.5 * y.shape[-1] * LOG_2PI
    return (log_likelihood, torch.stack(means, 1), torch.stack(covs, 1)) if with_moments else (log_likelihood,)


def published(y: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, with_moments: bool) -> tuple[Tensor, ...]:
    """Filter as in published research code: slices of preallocated tensors, a dense inverse, (I - K C) P.

    Slices must be cloned when they are read, since the next write would change them for the backward pass. For each
    write, the backward pass copies the gradient of the whole tensor: its time is quadratic in the number of steps.
    """
    batch, steps, first_mean, first_cov, full_R = _start(y, A, R)
    states, channels, Q, eye = len(A), y.shape[-1], Q.diag(), torch.eye(len(A), dtype=y.dtype)
    means, covs = y.new_zeros(batch, steps, states), y.new_zeros(batch, steps, states, states)
    errors, innovation_covs = y.new_zeros(batch, steps, channels), y.new_zeros(batch, steps, channels, channels)
    inverses = y.new_zeros(batch, steps, channels, channels)
    full_R = full_R.expand(-1, steps, -1, -1)
    for t in range(steps):
        if t == 0:
            mean, cov = first_mean, first_cov
        else:
            mean = means[:, t - 1].clone() @ A.mT
            cov = A @ covs[:, t - 1].clone() @ A.mT + Q
        errors[:, t] = y[:, t] - mean @ C.mT
        innovation_covs[:, t] = C @ cov @ C.mT + full_R[:, t]
        inverses[:, t] = torch.inverse(innovation_covs[:, t].clone())
        gain = cov @ C.mT @ inverses[:, t].clone()
        means[:, t] = mean + (gain @ errors[:, t].clone()[..., None])[..., 0]
        covs[:, t] = (eye - gain @ C) @ cov
    squares = (errors[..., None, :] @ inverses @ errors[..., None])[..., 0, 0]
    log_likelihood = -0.5 * (squares + torch.logdet(innovation_covs) + channels * LOG_2PI)
    return (log_likelihood, means, covs) if with_moments else (log_likelihood,)


def torch_kf(y: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, with_moments: bool) -> tuple[Tensor, ...]:
    """Filter with predict, project and update of torch-kf; its own loop has no likelihood and constant noise only."""
    from torch_kf import GaussianState, KalmanFilter

    _, steps, mean, cov, full_R = _start(y, A, R)
    model = KalmanFilter(A, C, Q.diag(), full_R[0, 0])
    state = GaussianState(mean[..., None], cov)
    noise = full_R.expand(-1, steps, -1, -1).unbind(1)
    states, terms = [], []
    for t, seen in enumerate(y[..., None].unbind(1)):
        if t > 0:
            state = model.predict(state)
        projection = model.project(state, measurement_noise=noise[t])
        terms.append(projection.log_likelihood(seen))
        state = model.update(state, seen, projection=projection, measurement_noise=noise[t])
        states.append(state)
    log_likelihood = torch.stack(terms, 1)
    if not with_moments:
        return (log_likelihood,)
    means = torch.stack([s.mean[..., 0] for s in states], 1)
    return log_likelihood, means, torch.stack([s.covariance for s in states], 1)
