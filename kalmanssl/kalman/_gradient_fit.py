"""Maximum likelihood by L-BFGS, with derivatives of the filter."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kalmanssl.kalman._filtering import run_filter
from kalmanssl.kalman._fit_result import FitStatus
from kalmanssl.kalman._linalg import NotPositiveDefiniteError
from kalmanssl.kalman._model import Observations
from kalmanssl.kalman._tensor_checks import wrong_value
from kalmanssl.kalman._validation import check_model

__all__ = ["run_gradient_fit"]

_AXES_IF_FULL = {"Q": (2, 4), "R": (2, 4), "P0": (2, 3)}


def run_gradient_fit(
    parameters: dict[str, Tensor],
    observations: Observations,
    fixed: Collection[str],
    max_iterations: int,
    tolerance: float,
    on_iteration_end: Callable[[int, float], None] | None,
) -> tuple[dict[str, Tensor], list[float], FitStatus]:
    """Fit the parameters that are not fixed; return all, the log-likelihood of every iteration, and the status.

    Covariances are optimized as Cholesky factors with the logarithm of their diagonals, variances as logarithms.
    """
    from scipy.optimize import OptimizeResult, minimize  # imported here: the filter alone does not need scipy

    y = observations.y
    count = max(int(y.numel() if observations.mask is None else observations.mask.expand_as(y).sum()), 1)
    start = {name: _to_free(name, value.detach()) for name, value in parameters.items() if name not in fixed}

    def to_parameters(free: np.ndarray) -> tuple[dict[str, Any], list[Tensor]]:
        parts = torch.as_tensor(free, dtype=y.dtype, device=y.device).split([v.numel() for v in start.values()])
        leaves = [part.view_as(value).requires_grad_() for part, value in zip(parts, start.values(), strict=True)]
        found = {name: _from_free(name, leaf) for name, leaf in zip(start, leaves, strict=True)}
        return {name: found.get(name, value) for name, value in parameters.items()}, leaves

    largest = -math.inf

    def objective(free: np.ndarray) -> tuple[float, np.ndarray]:
        """Negative log-likelihood per observed value, and its gradient."""
        nonlocal largest
        values, leaves = to_parameters(free)
        try:
            model = check_model(y, *y.shape[:2], **values)
            loss = -run_filter(model, observations, y.dtype).log_likelihood.sum() / count
        except ValueError:
            loss = torch.tensor(math.nan)
        if not bool(torch.isfinite(loss)):
            # The line search then tries a shorter step; infinity would spoil its interpolation.
            return (largest if math.isfinite(largest) else 0.0) + 1e3, np.zeros_like(free)
        largest = max(largest, float(loss.detach()))
        gradients = torch.autograd.grad(loss, leaves)
        return float(loss.detach()), torch.cat([g.flatten() for g in gradients]).double().cpu().numpy()

    free = torch.cat([value.flatten() for value in start.values()]).double().cpu().numpy()
    history = [-count * objective(free)[0]]
    if not math.isfinite(largest):
        raise NotPositiveDefiniteError("the log-likelihood of the starting parameters is not finite; start from others")
    if on_iteration_end is not None:
        on_iteration_end(0, history[0])

    def record(intermediate_result: OptimizeResult) -> None:
        history.append(-count * float(intermediate_result.fun))
        if on_iteration_end is not None:
            on_iteration_end(len(history) - 1, history[-1])

    options: dict[str, Any] = {"maxiter": max_iterations, "maxfun": 20 * max_iterations, "maxcor": 20}
    options |= {"ftol": tolerance, "gtol": tolerance}
    found = minimize(objective, free, jac=True, method="L-BFGS-B", callback=record, options=options)
    status: FitStatus = "converged" if found.status == 0 else "max_iterations" if found.status == 1 else "failed"
    fitted, _ = to_parameters(found.x)
    return {name: value.detach() for name, value in fitted.items()}, history, status


def _to_free(name: str, value: Tensor) -> Tensor:
    """Unconstrained coordinates of a parameter."""
    if name not in _AXES_IF_FULL:
        return value
    if value.ndim not in _AXES_IF_FULL[name]:
        if not bool((value > 0).all()):
            raise wrong_value(name, "a variance is 0, which has no logarithm; start from a positive one or fix it")
        return value.log()
    factor, status = torch.linalg.cholesky_ex(value)
    if bool(status.any()):
        raise wrong_value(name, "a covariance is singular; start from a positive definite one or fix it")
    return factor.tril(-1) + torch.diag_embed(factor.diagonal(dim1=-2, dim2=-1).log())


def _from_free(name: str, free: Tensor) -> Tensor:
    """A parameter from its unconstrained coordinates."""
    if name not in _AXES_IF_FULL:
        return free
    if free.ndim not in _AXES_IF_FULL[name]:
        return free.exp()
    factor = free.tril(-1) + torch.diag_embed(free.diagonal(dim1=-2, dim2=-1).exp())
    return factor @ factor.mT
