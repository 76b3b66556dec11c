"""Extended and unscented Kalman filters: linear filters of a model that is linearized at every step.

Both filters replace f and h by affine maps. The extended filter takes their Taylor series at the mean, the unscented
filter their regression on sigma points, which also gives the covariance of what the affine map leaves out. Särkkä &
Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Chapters 7 to 9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.kalman._array_interface import accept_arrays
from kalmanssl.kalman._linalg import inverse_transpose, matvec_broadcast, safe_cholesky, symmetrize
from kalmanssl.kalman._model import Model, Observations, as_covariance, mask_observations
from kalmanssl.kalman._moments import FIELDS, Moments
from kalmanssl.kalman._results import FilterResult
from kalmanssl.kalman._tensor_checks import wrong_value
from kalmanssl.kalman._validation import check_model, check_observations
from kalmanssl.kalman.backends import LOG_2PI, number_observed, predict, update
from kalmanssl.utils.validation import check_number, check_positive

__all__ = ["extended_kalman_filter", "unscented_kalman_filter"]

StateMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Affine:
    """A map x -> slope x + offset, and the covariance of what it leaves out, None if that is neglected."""

    slope: Tensor
    offset: Tensor
    left_out: Tensor | None


_Linearize = Callable[[StateMap, Tensor, Tensor], _Affine]


@accept_arrays(y=3)
def extended_kalman_filter(
    y: Tensor,
    *,
    f: StateMap,
    Q: Tensor,
    h: StateMap,
    R: Tensor,
    m0: Tensor,
    P0: Tensor | None = None,
    mask: Tensor | None = None,
) -> FilterResult:
    """Filter sequences with a nonlinear model, linearized at the mean of the state.

    ::

        x_0 ~ N(m0, P0)
        x_t = f(x_{t-1}) + N(0, Q[t])     t = 1, 2, …
        y_t = h(x_t) + N(0, R[t])         t = 0, 1, …

    Parameters
    ----------
    y : (batch, time, obs)
        Observations, float32 or float64. Arrays of NumPy, and one sequence (time, obs), are accepted as by
        `kalman_filter`.
    f : callable
        Transition: maps one state (state,) to the next one (state,). It is written with functions of torch, also if the
        data are arrays; `torch.func` computes its Jacobian and applies it to the batch.
    Q : (state,) or (batch|1, time|1, state), (state, state) or (batch|1, time|1, state, state)
        Variances of the process noise, or its covariance.
    h : callable
        Emission: maps one state (state,) to the observation (obs,).
    R : (obs,) or (batch|1, time|1, obs), (obs, obs) or (batch|1, time|1, obs, obs)
        Variances of the observation noise, or its covariance.
    m0 : (state,) or (batch, state)
        Mean of the first state before it is observed.
    P0 : (state,), (state, state) or (batch, state, state), optional
        Variances or covariance of the first state before it is observed; the identity by default.
    mask : (batch, time, obs) or (batch, time), optional
        True where observed.

    Returns
    -------
    FilterResult
        As from `kalman_filter`. All results are differentiable.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value, or a map returns a wrong shape or values that are not finite.
    NotPositiveDefiniteError
        If an innovation covariance is not positive definite (a subclass of `InputError`).

    References
    ----------
    Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Chapter 7.

    Examples
    --------
    >>> import torch
    >>> out = extended_kalman_filter(
    ...     torch.full((1, 50, 1), 0.5), f=lambda x: x, h=torch.sin, Q=torch.full((1,), 1e-6), R=torch.ones(1),
    ...     m0=torch.zeros(1)
    ... )
    >>> round(out.filtered_mean[0, -1].item(), 1)  # sin(0.5) = 0.48
    0.5
    """
    return _filter(y, _taylor, f=f, Q=Q, h=h, R=R, m0=m0, P0=P0, mask=mask)


@accept_arrays(y=3)
def unscented_kalman_filter(
    y: Tensor,
    *,
    f: StateMap,
    Q: Tensor,
    h: StateMap,
    R: Tensor,
    m0: Tensor,
    P0: Tensor | None = None,
    mask: Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 2.0,
    kappa: float = 0.0,
) -> FilterResult:
    """Filter sequences with a nonlinear model, whose maps are evaluated at sigma points.

    It needs no derivatives of the maps and is exact to second order in their mean. Sigma points of the observation are
    computed again from the predicted moments, so that they contain the process noise.

    Parameters
    ----------
    y, f, Q, h, R, m0, P0, mask
        As for `extended_kalman_filter`.
    alpha, beta, kappa : float
        Parameters of the sigma points. With n states they are at sqrt(alpha² (n + kappa)) standard deviations, and
        alpha² (n + kappa) must be positive. `beta` changes the weight of the central point in covariances; 2 is best
        for Gaussian states.

    Returns
    -------
    FilterResult
        As from `kalman_filter`. All results are differentiable.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value, or a map returns a wrong shape or values that are not finite.
    NotPositiveDefiniteError
        If a covariance is not positive definite (a subclass of `InputError`).

    References
    ----------
    Wan & van der Merwe, The unscented Kalman filter for nonlinear estimation (2000); Särkkä & Svensson, Bayesian
    Filtering and Smoothing, 2nd ed. (2023), Chapter 8.
    """
    check_positive("alpha", alpha)
    check_number("beta", beta)
    check_number("kappa", kappa)

    def regress(function: StateMap, mean: Tensor, cov: Tensor) -> _Affine:
        return _regression(function, mean, cov, alpha, beta, kappa)

    return _filter(y, regress, f=f, Q=Q, h=h, R=R, m0=m0, P0=P0, mask=mask)


def _filter(
    y: Tensor,
    linearize: _Linearize,
    *,
    f: StateMap,
    Q: Tensor,
    h: StateMap,
    R: Tensor,
    m0: Tensor,
    P0: Tensor | None,
    mask: Tensor | None,
) -> FilterResult:
    """Filter step by step, with f linearized at the filtered moments and h at the predicted ones."""
    observations = check_observations(y, mask)
    given, f, h = _check_nonlinear(y, f=f, Q=Q, h=h, R=R, m0=m0, P0=P0)
    batch, steps, _ = y.shape
    Q, R = (as_covariance(noise).expand(-1, steps, -1, -1) for noise in (given.Q, given.R))
    seen = None if observations.mask is None else observations.mask.expand_as(y)
    mean, cov = given.m0.expand(batch, -1), given.P0.expand(batch, -1, -1)
    rows, transitions, emissions = [], [], []
    for t in range(steps):
        if t > 0:
            step = linearize(f, mean, cov)
            transitions.append((step.slope, step.offset, _add(Q[:, t], step.left_out)))
            mean, cov = predict(mean, cov, *transitions[-1])
        predicted = (mean, cov)
        view = linearize(h, mean, cov)
        emissions.append((view.slope, view.offset, _add(R[:, t], view.left_out).expand(batch, -1, -1)))
        moved = y[:, t] if seen is None else torch.where(seen[:, t], observations.y[:, t], view.offset)
        C, noise = _visible(*emissions[-1], None if seen is None else seen[:, t])
        found = update(mean, cov, moved - view.offset, C, noise)
        mean, cov = found.filtered_mean, found.filtered_cov
        rows.append((*predicted, *found))
    return _result(given, observations, rows, transitions, emissions)


def _visible(C: Tensor, offset: Tensor, R: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the emission and its noise such that channels that were not seen carry no information."""
    if seen is None:
        return C, R
    model = Model(A=C, b=C, Q=C, C=C[:, None], R=R[:, None], m0=C, P0=C)
    visible = mask_observations(model, seen[:, None])
    return visible.C[:, 0], visible.R[:, 0]


def _result(
    given: Model, observations: Observations, rows: list[Any], transitions: list[Any], emissions: list[Any]
) -> FilterResult:
    """Collect the steps in the result of the linear filter that has the same moments."""
    fields: dict[str, Any] = {
        name: torch.stack(torch.broadcast_tensors(*column), 1)
        for name, column in zip(FIELDS, zip(*rows, strict=True), strict=True)
    }
    fields["log_likelihood"] = fields["log_likelihood"] - 0.5 * LOG_2PI * number_observed(observations)
    C, offset, R = (torch.stack(column, 1) for column in zip(*emissions, strict=True))
    state = C.shape[-1]
    if transitions:
        A, b, Q = (torch.stack(column, 1) for column in zip(*transitions, strict=True))
        A, b, Q = (torch.cat([value[:, :1], value], 1) for value in (A, b, Q))  # index 0 is not used
    else:
        A, b, Q = C.new_zeros(1, 1, state, state), C.new_zeros(1, 1, state), torch.eye(state).to(C)[None, None]
    moved = observations.y - offset
    y = moved if observations.mask is None else torch.where(observations.mask, moved, moved.new_zeros(()))
    model = Model(A=A, b=b, Q=Q, C=C, R=R, m0=given.m0, P0=given.P0)
    return FilterResult(Moments(**fields), model, Observations(y, observations.mask))


def _add(noise: Tensor, left_out: Tensor | None) -> Tensor:
    return noise if left_out is None else noise + left_out


def _taylor(function: StateMap, mean: Tensor, cov: Tensor) -> _Affine:
    """First-order Taylor series at the mean (batch, state)."""
    # Forward derivatives of products of a number and a scalar tensor of float32 are float64 in torch 2.13.
    slope = torch.func.vmap(torch.func.jacfwd(function))(mean).to(mean.dtype)
    return _Affine(slope, torch.func.vmap(function)(mean) - matvec_broadcast(slope, mean), None)


def _regression(function: StateMap, mean: Tensor, cov: Tensor, alpha: float, beta: float, kappa: float) -> _Affine:
    """Regression of the values at sigma points on the points."""
    n = mean.shape[-1]
    scale = alpha**2 * (n + kappa)
    if scale <= 0:
        raise wrong_value("kappa", f"is {kappa}, and n + kappa must be positive with n = {n} states")
    factor = safe_cholesky(cov, "covariance of the state")
    spread = scale**0.5 * factor.mT
    points = torch.cat([mean[:, None], mean[:, None] + spread, mean[:, None] - spread], 1)
    values = torch.func.vmap(torch.func.vmap(function))(points)
    weights = mean.new_full((2 * n + 1,), 0.5 / scale)
    weights[0] = 1 - n / scale
    center = (weights[:, None] * values).sum(1)
    # The points lie symmetrically along the columns of the factor, so their regression is a central difference.
    along = (values[:, 1 : n + 1] - values[:, n + 1 :]) / (2 * scale**0.5)  # cov' slope' = factor along
    inverse = inverse_transpose(factor, torch.eye(n, dtype=cov.dtype, device=cov.device))
    slope = along.mT @ inverse.mT
    weights = weights.clone()
    weights[0] = weights[0] + 1 - alpha**2 + beta
    residual = values - center[:, None]
    total = (weights[:, None] * residual).mT @ residual
    left_out = symmetrize(total - along.mT @ along)
    return _Affine(slope, center - matvec_broadcast(slope, mean), left_out)


def _check_nonlinear(
    y: Tensor, *, f: StateMap, Q: Tensor, h: StateMap, R: Tensor, m0: Tensor, P0: Tensor | None
) -> tuple[Model, StateMap, StateMap]:
    """Check the arguments; return the parameters with all axes, and the maps with their results checked."""
    if not isinstance(m0, Tensor) or m0.ndim not in (1, 2) or 0 in m0.shape:
        got = tuple(m0.shape) if isinstance(m0, Tensor) else type(m0).__name__
        raise wrong_value("m0", f"expected a tensor (state,) or (batch, state), got {got}")
    batch, time, obs = y.shape
    state = m0.shape[-1]
    A, C = torch.eye(state).to(y), y.new_zeros(obs, state)
    model = check_model(y, batch, time, A=A, Q=Q, C=C, R=R, b=None, m0=m0, P0=P0, obs=obs)
    first = model.m0[0].detach()
    return model, _checked("f", f, first, state), _checked("h", h, first, obs)


def _checked(name: str, function: StateMap, state: Tensor, size: int) -> StateMap:
    """Check what a map returns for one state; return the map."""
    if not callable(function):
        raise wrong_value(name, f"expected a function of one state, got {type(function).__name__}")
    try:
        value = function(state.clone())
    except InputError:
        raise
    except Exception as error:
        raise wrong_value(name, f"cannot be evaluated for a state of shape {tuple(state.shape)}: {error}") from error
    if not isinstance(value, Tensor) or value.shape != (size,) or value.dtype != state.dtype:
        got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise wrong_value(name, f"must return a tensor ({size},) of {state.dtype} for one state, got {got}")
    return function
