"""Exact discretization of linear stochastic differential equations at irregular times.

The integrals over a step (Van Loan, IEEE Trans. Automat. Contr. 23 (1978) 395-404) are computed by scaling and
doubling: the step is halved until a short Taylor series is accurate, and the result is doubled as often. All steps
share the coefficients of the series, so that many different steps cost one matrix product. The exponential of minus
the drift, which overflows for modes that decay fast, is never computed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import symmetrize
from kalmanssl.kalman._model import as_covariance
from kalmanssl.kalman._results import round_covariance
from kalmanssl.kalman._tensor_checks import all_finite, check_tensor, name_shapes, wrong_shape, wrong_value
from kalmanssl.kalman._validation import check_noise
from kalmanssl.utils.precision import finest_dtype

__all__ = ["discretize"]

_MAX_SERIES_TIME = 0.5  # longest time of the series, in units of one over the norm of the drift
_TERMS = 20  # the first omitted term is below the rounding of float64
_MAX_TIME = 2.0**60


def discretize(F: Tensor, S: Tensor, dt: Tensor, *, c: Tensor | None = None) -> dict[str, Tensor]:
    """Compute transition, process noise and offset of a linear stochastic differential equation between observations.

    ::

        dx = (F x + c) dt + dw        with w a Wiener process of spectral density S

    takes the state from one observation to the next, dt later, by x ← A x + b + N(0, Q) with ::

        A = exp(F dt)     Q = ∫ exp(F s) S exp(F s)' ds     b = ∫ exp(F s) c ds,     s from 0 to dt

    exactly.

    Parameters
    ----------
    F : (state, state)
        Drift, per unit of time.
    S : (state,) or (state, state)
        Spectral density of the noise, variance per unit of time; for noise of spectral density q that enters through
        L (state, noise) pass `L @ q @ L.mT`.
    dt : (time,) or (batch, time)
        Time from the previous step to each step, 0 or more. `dt[..., 0]` leads into the first step and, if there are
        later steps, is not used; it may then be NaN. For time stamps `stamps`, `dt = stamps.diff(prepend=stamps[:1])`.
    c : (state,), optional
        Constant part of the drift; zero by default.

    Returns
    -------
    dict
        A, Q and, if c is given, b, of shapes (batch|1, time, …), for `kalman_filter(y, **discretize(…), C=C, R=R)`.
        If there are several steps, their values at index 0 are not used. They are computed in float64 where the device
        supports it, have the data type of F, and are differentiable with respect to all arguments.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value, or if a time difference is negative, NaN or infinite.

    Notes
    -----
    Equal time differences are computed once, unless dt requires gradients: round time stamps to the resolution of their
    clock.

    References
    ----------
    Van Loan, IEEE Trans. Automat. Contr. 23 (1978) 395-404; Särkkä & Solin, Applied Stochastic Differential Equations
    (2019), Chapter 6.

    Examples
    --------
    The variance of Brownian motion grows in proportion to time.

    >>> import torch
    >>> steps = discretize(torch.zeros(1, 1), torch.ones(1), torch.tensor([0.0, 0.1, 2.0]))
    >>> steps["Q"][0, 1:, 0, 0]
    tensor([0.1000, 2.0000])
    """
    F = check_tensor("F", F, None)
    F, S, dt = check_tensor("F", F, F), check_tensor("S", S, F), check_tensor("dt", dt, None)
    with name_shapes(F=F, S=S, dt=dt, c=c):
        if F.ndim != 2 or F.shape[0] != F.shape[1] or len(F) == 0:
            raise wrong_shape("F", f"expected (state, state), got {tuple(F.shape)}")
        state = len(F)
        if S.ndim > 2:
            raise wrong_shape("S", f"expected ({state},) or ({state}, {state}), got {tuple(S.shape)}")
        density = as_covariance(check_noise("S", S, "state", state, 1, 1))[0, 0]
        if c is not None:
            c = check_tensor("c", c, F)
            if c.shape != (state,):
                raise wrong_shape("c", f"expected ({state},), got {tuple(c.shape)}")
        if dt.ndim not in (1, 2) or 0 in dt.shape:
            raise wrong_shape(
                "dt", f"expected (time,) or (batch, time) with at least one of each, got {tuple(dt.shape)}"
            )
    if dt.device != F.device:
        raise wrong_value(
            "dt", f"expected it on {F.device} as F, got {dt.device}; convert it with .to({str(F.device)!r})"
        )
    steps = torch.atleast_2d(dt)
    first_used = min(steps.shape[1] - 1, 1)
    _check_steps(steps.detach(), first_used)
    # Where the first value is not used, a copy of the second one adds no new distinct value.
    steps = torch.cat([steps[:, first_used : first_used + 1], steps[:, 1:]], 1)

    # In ascending order, so that the steps with most halvings come last.
    distinct, which = steps.flatten().sort() if dt.requires_grad else steps.unique(return_inverse=True)
    which = which.argsort().view_as(steps) if dt.requires_grad else which
    finest = finest_dtype(F)
    offset = None if c is None else c.to(finest)
    values = _integrate(F.to(finest), density.to(finest), offset, distinct.to(finest))
    values["Q"] = round_covariance(values["Q"], F.dtype)
    values = {name: value.to(F.dtype) for name, value in values.items()}
    if not all(all_finite(value) for value in values.values()):
        raise wrong_value(
            "dt", f"the transition or the noise over the longest one, {float(distinct[-1]):.3g}, overflows; shorten it"
        )
    return {name: value[which] for name, value in values.items()}


def _check_steps(steps: Tensor, first_used: int) -> None:
    """Check that the time differences (batch, time) from `first_used` on are finite and 0 or more."""
    used = steps[:, first_used:]
    wrong = ~(torch.isfinite(used) & (used >= 0))
    if bool(wrong.any()):
        batch, time = (int(i) for i in wrong.nonzero()[0])
        raise wrong_value(
            "dt",
            f"{float(used[batch, time]):.6g} at batch {batch}, time {time + first_used}; "
            "expected finite time differences of 0 or more: sort the observations by time, and pass a mask for "
            "missing ones",
        )


def _integrate(F: Tensor, S: Tensor, c: Tensor | None, dt: Tensor) -> dict[str, Tensor]:
    """A, Q and, with c, b over each of the time differences dt (n,), which are in ascending order."""
    size = F.detach().abs()
    rate = float(torch.maximum(size.sum(0).amax(), size.sum(1).amax())) or 1.0
    reach = rate * dt.detach()
    if not float(reach[-1]) < _MAX_TIME:
        raise wrong_value(
            "dt", f"the longest one times the norm of F is {float(reach[-1]):.3g}; check the units of both"
        )
    halvings = (reach / _MAX_SERIES_TIME).clamp_min(1).log2().ceil().long()
    short = dt * 0.5**halvings
    powers = torch.arange(_TERMS, dtype=F.dtype, device=F.device)
    # Powers of rate times time, so that neither the terms nor their coefficients overflow or underflow.
    weight = (rate * short)[:, None] ** powers / torch.lgamma(powers + 1).exp()
    integrated = weight * short[:, None] / (powers + 1)
    values = {
        "A": _series(weight, torch.eye(len(F), dtype=F.dtype, device=F.device), lambda term: F @ term / rate),
        # Repeated derivatives of exp(F s) S exp(F s)' by s, at 0.
        "Q": symmetrize(_series(integrated, S, lambda term: (F @ term + term @ F.mT) / rate)),
    }
    if c is not None:
        values["b"] = _series(integrated, c, lambda term: F @ term / rate)
    for done in range(int(halvings[-1])):
        start = int((halvings <= done).sum())
        A, Q = values["A"][start:], values["Q"][start:]
        doubled = {"A": A @ A, "Q": symmetrize(Q + A @ Q @ A.mT)}
        if c is not None:
            b = values["b"][start:]
            doubled["b"] = b + (A @ b[..., None])[..., 0]
        values = {name: torch.cat([value[:start], doubled[name]]) for name, value in values.items()}
    return values


def _series(weight: Tensor, term: Tensor, following: Callable[[Tensor], Tensor]) -> Tensor:
    """Weighted sums of terms, with weights (n, terms); `following` computes a term from the previous one."""
    terms = [term]
    while len(terms) < weight.shape[1]:
        terms.append(following(terms[-1]))
    return (weight @ torch.stack(terms).flatten(1)).unflatten(1, term.shape)
