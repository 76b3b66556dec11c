"""How right every filter is, beside the joint Gaussian of all observations, where noise is ordinary and where not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve

from .methods import Method
from .problems import EXTREMES, NOISES, Problem, Size, make_problem, with_extremes
from .torch_methods import TorchWork, careful
from .work import GRADIENTS

__all__ = ["accuracy_of", "joint_log_likelihood"]

SIZE, QUICK_SIZE = Size(2, 100, 16, 8), Size(2, 30, 4, 2)
LONG = Size(1, 5000, 16, 8)


def joint_log_likelihood(problem: Problem) -> np.ndarray:
    """Log p(y) of every sequence, (batch,), as one Gaussian in all steps and channels; nothing is filtered."""
    batch, steps, states, channels = problem.size
    cov = np.empty((steps, channels, steps, channels))
    marginal = np.eye(states)
    for s in range(steps):
        if s > 0:
            marginal = problem.A @ marginal @ problem.A.T + np.diag(problem.Q)
        later = marginal
        for t in range(s, steps):
            cov[t, :, s] = problem.C @ later @ problem.C.T
            cov[s, :, t] = cov[t, :, s].T
            later = problem.A @ later
    joint = cov.reshape(steps * channels, steps * channels)
    noise = np.broadcast_to(problem.R, problem.y.shape).reshape(batch, -1)
    out = np.empty(batch)
    for b, y in enumerate(problem.y.reshape(batch, -1)):
        factor = cho_factor(joint + np.diag(noise[b]), lower=True)
        log_det = 2 * np.log(np.diag(factor[0])).sum()
        out[b] = -0.5 * (y @ cho_solve(factor, y) + log_det + len(y) * np.log(2 * np.pi))
    return out


def accuracy_of(method: Method, *, quick: bool) -> list[dict[str, Any]]:
    """Rows of the accuracy table, one for each case and kind of noise."""
    rows = []
    for noise in NOISES[:1] if quick else NOISES:
        for case in EXTREMES:
            problem = with_extremes(make_problem(QUICK_SIZE if quick else SIZE, noise, slow=True), case)
            truth = joint_log_likelihood(problem)
            rows.append({"case": case, "noise": noise} | _errors(method, problem, noise, truth, gradients=True))
        if not quick:
            problem = make_problem(LONG, noise, slow=True).rounded()
            work = TorchWork(careful, problem, "forward", torch.float64)
            truth = work.answer(work()).log_likelihood
            row = {"case": f"ordinary, {LONG.steps} steps", "noise": noise}
            rows.append(row | _errors(method, problem, noise, truth, gradients=False))
    return rows


def _errors(method: Method, problem: Problem, noise: str, truth: np.ndarray, *, gradients: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"size": list(problem.size)}
    reason = method.unfit(problem.size, noise, "forward")
    if reason:
        return row | {"skipped": reason}
    try:
        work = method.prepare(problem, "forward")
        answer = work.answer(work())
        row["log_likelihood"] = float(truth.sum())
        row["log_likelihood_error"] = float(np.max(np.abs(answer.log_likelihood - truth) / np.abs(truth)))
        row["positive_definite"] = _positive_definite(answer.cov)
        if gradients and not method.unfit(problem.size, noise, "gradients"):
            row |= _gradient_errors(method, problem)
    except Exception as error:  # a filter may refuse, each in its own way: that is its result here
        row["failed"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    return row


def _gradient_errors(method: Method, problem: Problem) -> dict[str, Any]:
    """Relative errors of the gradients beside autograd through a plain loop in float64, and the largest of them.

    The error of a gradient is the norm of the difference over the norm of the true one.
    """
    plain = TorchWork(careful, problem, "gradients", torch.float64)
    exact = plain.answer(plain()).gradients
    work = method.prepare(problem, "gradients")
    found = work.answer(work()).gradients
    if not found:
        return {}
    errors = {
        name: float(np.linalg.norm(found[name] - exact[name]) / np.linalg.norm(exact[name])) for name in GRADIENTS
    }
    return {"gradient_error": float(np.max(list(errors.values()))), "gradient_errors": errors}


def _positive_definite(covs: np.ndarray | None) -> bool:
    """Whether the smallest eigenvalue of every covariance, after symmetrizing, is above zero."""
    if covs is None or not np.isfinite(covs).all():
        return False
    return bool(np.linalg.eigvalsh(0.5 * (covs + covs.swapaxes(-1, -2))).min() > 0)
