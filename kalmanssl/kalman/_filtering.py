"""The Kalman filter for whole sequences, and one step of it.

Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Section 6.3.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor

from kalmanssl.kalman._array_interface import accept_arrays
from kalmanssl.kalman._dtypes import check_precision, warn_if_imprecise
from kalmanssl.kalman._inputs import add_inputs, check_offset, subtract_offset
from kalmanssl.kalman._model import Model, Observations, as_covariance, mask_observations, to_float64
from kalmanssl.kalman._moments import Moments
from kalmanssl.kalman._results import FilterResult, StepResult
from kalmanssl.kalman._tensor_checks import check_tensor, wrong_value
from kalmanssl.kalman._validation import (
    check_model,
    check_observation,
    check_observations,
    check_state,
    check_state_size,
)
from kalmanssl.kalman.backends import (
    BACKENDS,
    LOG_2PI,
    compiled_array_step,
    compiled_step,
    number_observed,
    predict,
    update,
)
from kalmanssl.utils.validation import check_choice

__all__ = ["kalman_filter", "kalman_step", "run_filter"]


@accept_arrays(y=3)
def kalman_filter(
    y: Tensor,
    *,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None = None,
    B: Tensor | None = None,
    u: Tensor | None = None,
    d: Tensor | None = None,
    m0: Tensor | None = None,
    P0: Tensor | None = None,
    mask: Tensor | None = None,
    precision: torch.dtype | None = None,
    implementation: Literal["auto", "adjoint", "scan", "reference"] = "auto",
) -> FilterResult:
    """Filter sequences with a linear-Gaussian state-space model.

    ::

        x_0 ~ N(m0, P0)
        x_t = A[t] x_{t-1} + b[t] + N(0, Q[t])     t = 1, 2, …
        y_t = C[t] x_t + N(0, R[t])                t = 0, 1, …

    Each parameter is constant, or has both a batch and a time axis; either can have length 1. Index 0 of a time-varying
    A, b or Q is not used. All results are differentiable.

    Parameters
    ----------
    y : (batch, time, obs)
        Observations, float32 or float64; all other tensors have the same data type and device. If all arguments are
        arrays of NumPy, the fields of the result are arrays. For one sequence, y may be (time, obs) and the mask
        (time, obs) or (time,); the fields then have no batch axis. In both cases the result is a `ResultView`.
    A : (state, state) or (batch|1, time|1, state, state)
        Transition.
    Q : (state,) or (batch|1, time|1, state), (state, state) or (batch|1, time|1, state, state)
        Variances of the process noise, or its covariance.
    C : (obs, state) or (batch|1, time|1, obs, state)
        Emission.
    R : (obs,) or (batch|1, time|1, obs), (obs, obs) or (batch|1, time|1, obs, obs)
        Variances of the observation noise, or its covariance.
    b : (state,) or (batch|1, time|1, state), optional
        Offset; zero by default.
    B, u : (state, inputs) or (batch|1, time|1, state, inputs); (inputs,) or (batch|1, time|1, inputs), optional
        Known inputs: B[t] u[t] is added to b[t], so that u[t] leads into step t, too. Without a batch axis of y, u is
        (inputs,) or (time, inputs).
    d : (obs,) or (batch|1, time|1, obs), optional
        Offset of the observations, y_t = C[t] x_t + d[t] + noise; zero by default.
    m0 : (state,) or (batch, state), optional
        Mean of the first state before it is observed; zero by default.
    P0 : (state,), (state, state) or (batch, state, state), optional
        Variances or covariance of the first state before it is observed; the identity by default. Pass diagonal
        covariances that differ between sequences as `P0.diag_embed()`.
    mask : (batch, time, obs) or (batch, time), optional
        True where observed; all True by default. Values of y elsewhere, NaN included, are ignored.
    precision : torch.float32 or torch.float64, optional
        Precision of the computation; results have the data type of y. By default the precision is that of y, except
        that covariances are computed in float64 if the observation noise is too small for float32, or if all
        sequences share one covariance recursion.
    implementation : {"auto", "adjoint", "scan", "reference"}
        Algorithm. "auto" chooses the fastest for the problem and the device. "adjoint" runs on any device and has
        hand-written derivatives. "scan" is parallel in time, for GPUs, with about 2 log2(time) operations on large
        stacks. "reference" is the textbook recursion in torch, for tests and second derivatives.

    Returns
    -------
    FilterResult
        Moments of the state, log-likelihood in nats, gain and innovations.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value, or y is not finite where observed.
    NotPositiveDefiniteError
        If an innovation covariance is not positive definite (a subclass of `InputError`).

    Warns
    -----
    PrecisionWarning
        If covariances are computed in float32 because of `precision` or the device, and R is too small for it.
    JitterWarning
        If an innovation covariance was positive definite only after jitter was added to its diagonal.

    Notes
    -----
    If A, Q, C, R, P0 and the mask are the same for all sequences, the covariances are computed once, in float64, and
    the cost is close to that of the means alone.

    References
    ----------
    Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Section 6.3.

    Examples
    --------
    A random walk with observation noise of the same variance: the first observation halves the variance.

    >>> import torch
    >>> one = torch.ones(1, 1)
    >>> out = kalman_filter(torch.zeros(1, 3, 1), A=one, Q=torch.ones(1), C=one, R=torch.ones(1))
    >>> out.filtered_cov[0, :, 0, 0]
    tensor([0.5000, 0.6000, 0.6154])
    """
    observations = subtract_offset(check_observations(y, mask), d)
    check_precision(precision, y)
    batch, time, obs = y.shape
    b = add_inputs(y, batch, time, A=A, b=b, B=B, u=u)
    model = check_model(y, batch, time, A=A, Q=Q, C=C, R=R, b=b, m0=m0, P0=P0, obs=obs)
    check_choice("implementation", implementation, tuple(BACKENDS))
    return run_filter(model, observations, y.dtype, precision, implementation)


def run_filter(
    model: Model,
    observations: Observations,
    dtype: torch.dtype,
    precision: torch.dtype | None = None,
    implementation: str = "auto",
) -> FilterResult:
    """Filter observations with a model, both checked before; the result has the data type `dtype`."""
    warn_if_imprecise(model, observations.y, precision, implementation)
    if precision == torch.float64:
        model, observations = to_float64(model, observations)
    moments = BACKENDS[implementation](model, observations, precision)
    return FilterResult(moments, model, observations, dtype)


def _array_step(*args: Any, **settings: Any) -> StepResult | None:
    """Compute a step of arrays in compiled code; None if it needs the general code or has wrong arguments."""
    try:
        fields = compiled_array_step(*args, **settings)
    except (TypeError, ValueError):  # of shapes that do not fit, which the general code explains
        return None
    return None if fields is None else StepResult(*cast("tuple[Tensor, ...]", fields))


@accept_arrays(_array_step, y=2, mean=2, cov=3)
def kalman_step(
    y: Tensor,
    mean: Tensor,
    cov: Tensor,
    *,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None = None,
    B: Tensor | None = None,
    u: Tensor | None = None,
    d: Tensor | None = None,
    mask: Tensor | None = None,
    first: bool = False,
) -> StepResult:
    """Filter one observation of each sequence, for online use.

    Parameters
    ----------
    y : (batch, obs)
        The new observation. Arrays of NumPy, and y, mean and cov without a batch axis, are accepted as by
        `kalman_filter`; the fields of the result have the same form.
    mean, cov : (batch, state), (batch, state, state)
        Filtered moments of the state one step before; with `first`, the moments m0 and P0 of the first state.
    A, Q, C, R, b, B, u, d
        As for `kalman_filter`, for this one step: a time axis is 1.
    mask : (batch, obs) or (batch,), optional
        True where observed.
    first : bool
        Whether this is the first observation; then there is no prediction step, and A, b, Q are not used.

    Returns
    -------
    StepResult
        The fields of `FilterResult` for this step.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value.
    NotPositiveDefiniteError
        If the innovation covariance is not positive definite (a subclass of `InputError`).

    Notes
    -----
    On a CPU with numba, a step without gradients is checked and computed in compiled code, in about 40 microseconds for
    a small state, and in about 15 with arrays of NumPy if y, mean and cov are positional and have no batch axis
    (`kalmanssl bench filter_step`). The code is compiled at the first call and cached on disk.
    """
    if not isinstance(first, bool):
        raise wrong_value("first", f"expected True or False, got {type(first).__name__}")
    if B is not None or u is not None or d is not None:
        y, b = _without_inputs(y, mean, A=A, b=b, B=B, u=u, d=d)
    compiled = compiled_step(y, mean, cov, A=A, Q=Q, C=C, R=R, b=b, mask=mask, first=first)
    if compiled is not None:
        return StepResult(*compiled)
    mean, cov = check_state(mean, cov)
    observations = check_observation(y, mask, batch=len(mean))
    model = check_model(
        y, y.shape[0], 1, A=A, Q=Q, C=C, R=R, b=b, m0=mean if first else None, P0=cov if first else None, obs=y.shape[1]
    )
    check_state_size(mean, model.A.shape[-1])
    visible = mask_observations(model, observations.mask)
    if not first:
        mean, cov = predict(mean, cov, model.A[:, 0], model.b[:, 0], as_covariance(model.Q)[:, 0])
    seen = update(mean, cov, observations.y[:, 0], visible.C[:, 0], as_covariance(visible.R)[:, 0])
    fields: dict[str, Any] = {name: field[:, None] for name, field in seen._asdict().items()}
    moments = Moments(predicted_mean=mean[:, None], predicted_cov=cov[:, None], **fields)
    result = FilterResult(moments, model, observations)
    values = {name: value[:, 0] for name, value in result.tensors().items()}
    constant = 0.5 * LOG_2PI * number_observed(observations)
    return StepResult(**{**values, "log_likelihood": (result.log_likelihood - constant)[:, 0]})


def _without_inputs(
    y: Tensor,
    mean: Tensor,
    *,
    A: Tensor,
    b: Tensor | None,
    B: Tensor | None,
    u: Tensor | None,
    d: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Return the observation (batch, obs) minus its offset, and the offset of the state plus its inputs."""
    y, mean = check_tensor("y", y, None), check_tensor("mean", mean, None)
    if d is not None and y.ndim == 2:
        y = y - check_offset(d, y, y.shape[0], 1, y.shape[1])[:, 0]
    return y, add_inputs(mean, len(mean) if mean.ndim else 1, 1, A=A, b=b, B=B, u=u)
