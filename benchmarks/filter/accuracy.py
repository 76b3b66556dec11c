"""Accuracy of a filter against the joint Gaussian of all observations, for ordinary and extreme noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve

from filter.methods import GRADIENTS, Method
from filter.problems import EXTREMES, NOISES, Problem, Size, make_problem, with_extremes
from filter.torch_methods import TorchWork, careful

__all__ = ["accuracy_of", "first_case", "joint_log_likelihood"]

SIZE, QUICK_SIZE = Size(2, 100, 16, 8), Size(2, 30, 4, 2)
LONG = Size(1, 5000, 16, 8)


def joint_log_likelihood(problem: Problem) -> np.ndarray:
    """Return log p(y) of every sequence, (batch,), from one Gaussian for all steps and channels, without a filter."""
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


def first_case(*, quick: bool) -> dict[str, Any]:
    """Return the entries that identify the first row of `accuracy_of`."""
    return {"case": EXTREMES[0], "noise": NOISES[0], "size": list(QUICK_SIZE if quick else SIZE)}


def accuracy_of(method: Method, *, quick: bool) -> list[dict[str, Any]]:
    """Return the accuracies of a method, one row for each case and kind of noise."""
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
    """Return the errors of a method on one problem, or why there are none."""
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
    except Exception as error:  # filters reject extreme input with errors of any type, which is their result here
        row["failed"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    return row


def _gradient_errors(method: Method, problem: Problem) -> dict[str, Any]:
    """Return the relative errors of the gradients against autograd through a loop in float64, and the largest one.

    The error of a gradient is the norm of the difference divided by the norm of the true gradient.
    """
    loop = TorchWork(careful, problem, "gradients", torch.float64)
    exact = loop.answer(loop()).gradients
    work = method.prepare(problem, "gradients")
    found = work.answer(work()).gradients
    if not found:
        return {}
    errors = {
        name: float(np.linalg.norm(found[name] - exact[name]) / np.linalg.norm(exact[name])) for name in GRADIENTS
    }
    return {"gradient_error": float(np.max(list(errors.values()))), "gradient_errors": errors}


def _positive_definite(covs: np.ndarray | None) -> bool:
    """Return whether every covariance, after symmetrizing, has positive eigenvalues only."""
    if covs is None or not np.isfinite(covs).all():
        return False
    return bool(np.linalg.eigvalsh(0.5 * (covs + covs.swapaxes(-1, -2))).min() > 0)
