"""Steady state of the filter of a constant model: the covariances and the gain that it converges to.

The discrete algebraic Riccati equation is solved by doubling: the filter over 2^k steps is combined from two filters
over 2^(k-1) steps, so that about ten products cover a thousand steps. Derivatives come from Newton's method, in which
each step solves a discrete Lyapunov equation for the gain of the previous step.

Chu, Fan, Lin & Wang, Int. J. Control 77 (2004) 767-788 (doubling); Särkkä & García-Fernández, IEEE Trans. Automat.
Contr. 66 (2021) 299-306, Lemma 8 (combination of two segments of the filter); Hewer, IEEE Trans. Automat. Contr. 16
(1971) 382-384 (Newton's method); Anderson & Moore, Optimal Filtering (1979), Section 4.4 (existence of a steady
state).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.kalman._linalg import safe_cholesky, symmetrize
from kalmanssl.kalman._model import as_covariance
from kalmanssl.kalman._results import round_covariance
from kalmanssl.kalman._tensor_checks import wrong_value
from kalmanssl.kalman._validation import check_model
from kalmanssl.utils.precision import finest_dtype

__all__ = ["SteadyState", "steady_state"]

_DOUBLINGS = 60
_NEWTON_STEPS = 60
_CONVERGED = 1e-13  # change of the covariance relative to its largest entry
_STABLE = 1 - 1e-8  # largest modulus of an eigenvalue that still counts as stable


@dataclass(frozen=True)
class SteadyState:
    """Steady state of the filter of a constant model.

    Attributes
    ----------
    predicted_cov, filtered_cov : (state, state)
        Covariance of the state before and after a step is observed.
    gain : (state, obs)
        Kalman gain.
    innovation_cov : (obs, obs)
        Covariance of the prediction of an observation, noise included.
    closed_loop : (state, state)
        (I - gain C) A, the matrix of the recursion of the filtered mean: `filtered_mean[t] = closed_loop
        filtered_mean[t-1] + (I - gain C) b + gain y[t]`.
    spectral_radius : float
        Largest modulus of the eigenvalues of `closed_loop`, below 1. An estimate from n steps ago has a weight of about
        `spectral_radius**n`.
    """

    predicted_cov: Tensor
    filtered_cov: Tensor
    gain: Tensor
    innovation_cov: Tensor
    closed_loop: Tensor
    spectral_radius: float


def steady_state(*, A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> SteadyState:
    """Compute the steady state of the filter of a constant model.

    Parameters
    ----------
    A : (state, state)
        Transition.
    Q : (state,) or (state, state)
        Variances or covariance of the process noise.
    C : (obs, state)
        Emission.
    R : (obs,) or (obs, obs)
        Variances or covariance of the observation noise; may be singular if C Q C' + R is not.

    Returns
    -------
    SteadyState
        Computed in float64 where the device supports it, in the data type of A; twice differentiable.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value, or if there is no steady state because a mode that does not
        decay is not observed or not driven by noise.

    Warns
    -----
    JitterWarning
        If C Q C' + R is singular.

    Examples
    --------
    For a random walk with observation noise of the same variance, the predicted variance converges to the golden ratio.

    >>> import torch
    >>> one = torch.ones(1, 1)
    >>> limit = steady_state(A=one, Q=torch.ones(1), C=one, R=torch.ones(1))
    >>> round(limit.predicted_cov.item(), 4), round(limit.gain.item(), 4)
    (1.618, 0.618)
    """
    model = check_model(A, 1, 1, A=A, Q=Q, C=C, R=R, b=None)
    for name, value in {"A": A, "Q": Q, "C": C, "R": R}.items():
        if value.ndim > 2:
            raise wrong_value(name, f"expected no batch or time axis, got {tuple(value.shape)}; pass {name}[0, 0]")
    finest = finest_dtype(A)
    transition, process, emission, noise = (
        p[0, 0].to(finest) for p in (model.A, as_covariance(model.Q), model.C, as_covariance(model.R))
    )
    _check_modes(transition.detach(), emission.detach())
    with torch.no_grad():
        predicted = _solve(transition, process, emission, noise)
    # A Newton step from the solution has the right first derivatives, because the covariance is minimal at the optimal
    # gain. A second one has the right second derivatives.
    for _ in range(2):
        predicted = _newton(predicted, transition, process, emission, noise)
    gain, innovation_cov = _gain(predicted, emission, noise)
    keep = _eye(transition) - gain @ emission
    filtered = symmetrize(keep @ predicted @ keep.mT + gain @ noise @ gain.mT)
    closed_loop = keep @ transition
    return SteadyState(
        predicted_cov=round_covariance(predicted, A.dtype),
        filtered_cov=round_covariance(filtered, A.dtype),
        gain=gain.to(A.dtype),
        innovation_cov=round_covariance(innovation_cov, A.dtype),
        closed_loop=closed_loop.to(A.dtype),
        spectral_radius=_radius(closed_loop),
    )


def _check_modes(A: Tensor, C: Tensor) -> None:
    """Raise for a mode that does not decay and is not observed (Popov-Belevitch-Hautus test)."""
    scale = max(float(torch.linalg.matrix_norm(A)), float(torch.linalg.matrix_norm(C)))
    for value in torch.linalg.eigvals(A):
        if value.abs() < _STABLE:
            continue
        stacked = torch.cat([A - value * _eye(A), C.to(value.dtype)])
        if float(torch.linalg.svdvals(stacked).min()) < 1e-9 * scale:
            raise InputError(
                f"A, C: no steady state, since C does not observe the mode of A with eigenvalue {_show(value)}, which "
                "does not decay; observe it, remove it, or make it decay"
            )


def _solve(A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> Tensor:
    """Predicted covariance, accurate enough to start Newton's method."""
    predicted = _double(A, Q, C, R)
    if _radius(_closed_loop(predicted, A, C, R)) < _STABLE:
        return predicted
    # Doubling starts from a known state, so that a growing mode without process noise stays known. A small amount of
    # noise leads to the other solution, and Newton's method removes the effect of this noise.
    smallest = (R.diagonal().mean() / C.square().sum()).clamp_min(torch.finfo(A.dtype).eps)
    extra = 1e-4 * torch.maximum(Q.diagonal().mean(), smallest) * _eye(A)
    predicted = _double(A, Q + extra, C, R)
    for _ in range(_NEWTON_STEPS):
        before, predicted = predicted, _newton(predicted, A, Q, C, R)
        if float((predicted - before).abs().max()) <= _CONVERGED * float(before.abs().max()):
            break
    radius = _radius(_closed_loop(predicted, A, C, R))
    if radius >= _STABLE:
        raise InputError(
            f"A, Q: the filter reaches no steady state, since a mode that does not decay (eigenvalue of modulus "
            f"{radius:.6g}) is not driven by noise and its variance keeps falling; remove it or give it some noise"
        )
    return predicted


def _double(A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> Tensor:
    """Predicted covariance after convergence by doubling, from a state that is known exactly."""
    eye = _eye(A)
    factor = safe_cholesky(C @ Q @ C.mT + R, "C Q C' + R")
    gain = torch.cholesky_solve(C @ Q, factor).mT
    # Over a segment of steps: transition from the state before it to its end, covariance of the end state, and
    # information of the observations in the segment about the state before it.
    emission = C @ A
    transition, cov, information = (
        (eye - gain @ C) @ A,
        (eye - gain @ C) @ Q,
        emission.mT @ torch.cholesky_solve(emission, factor),
    )
    for _ in range(_DOUBLINGS):
        inner = torch.linalg.solve(eye + cov @ information, torch.cat([transition, cov], 1))
        inner_transition, inner_cov = inner[:, : len(A)], inner[:, len(A) :]
        change = symmetrize(transition @ inner_cov @ transition.mT)
        information = symmetrize(information + transition.mT @ information @ inner_transition)
        transition, cov = transition @ inner_transition, symmetrize(cov + change)
        if not float(change.abs().max()) > _CONVERGED * float(cov.abs().max()):
            break
    return symmetrize(A @ cov @ A.mT + Q)


def _newton(predicted: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> Tensor:
    """Steady-state covariance of the constant gain that is optimal for `predicted`."""
    gain, _ = _gain(predicted, C, R)
    loop, injected = A @ (_eye(A) - gain @ C), A @ gain
    return _lyapunov(loop, Q + injected @ R @ injected.mT)


def _lyapunov(F: Tensor, W: Tensor) -> Tensor:
    """Solution of P = F P F' + W for a stable F: the sum of F^k W F'^k, with twice as many terms at each step."""
    for _ in range(_DOUBLINGS):
        W = symmetrize(W + F @ W @ F.mT)
        # The derivatives converge with the powers of F, later than the sum.
        F = F @ F
        if float(F.detach().abs().max()) < 1e-20:
            break
    return W


def _gain(predicted: Tensor, C: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    innovation_cov = symmetrize(C @ predicted @ C.mT) + R
    factor = safe_cholesky(innovation_cov, "innovation covariance C P C' + R")
    return torch.cholesky_solve(C @ predicted, factor).mT, innovation_cov


def _closed_loop(predicted: Tensor, A: Tensor, C: Tensor, R: Tensor) -> Tensor:
    return (_eye(A) - _gain(predicted, C, R)[0] @ C) @ A


def _radius(matrix: Tensor) -> float:
    return float(torch.linalg.eigvals(matrix.detach()).abs().max())


def _eye(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _show(value: Tensor) -> str:
    real, imaginary = float(value.real), float(value.imag)
    return f"{real:.4g}" if imaginary == 0 else f"{real:.4g}{imaginary:+.4g}i"
